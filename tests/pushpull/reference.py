"""The push-pull response written out in float64 numpy, one kernel and one of its taps at a time."""

import itertools
import math

import numpy as np


def hats(old: int, scale: float) -> np.ndarray:
    """(new, old) values of the hat functions of linear upsampling with aligned corners; new is odd."""
    new = old if scale == 1 else math.floor(old * scale)
    new += 1 - new % 2
    at = np.zeros(1) if new == 1 else np.arange(new) * (old - 1) / (new - 1)
    return np.clip(1 - np.abs(at[:, None] - np.arange(old)), 0, None)


def upsample(kernel: np.ndarray, scale: float) -> np.ndarray:
    """Bilinear upsampling with aligned corners of a (kH, kW) kernel to odd sides floor(scale * side) (+ 1)."""
    rows, columns = (hats(size, scale) for size in kernel.shape)
    return rows @ kernel @ columns.T


def taps(x, sides, stride, dilation, centre_shape, padding):
    """The images that each tap (u, v) of a kernel sees, (C, H', W'): slices of x (C, H, W) in a frame of zeros.

    The kernel is centred where the push kernels are. Last come the frame and the size of its border.
    """
    border = [p + d * (side // 2) for p, d, side in zip(padding, dilation, sides, strict=True)]
    frame = np.pad(x, [(0, 0), *[(b, b) for b in border]])
    reach = [(d * (s - 1)) // 2 for d, s in zip(dilation, centre_shape, strict=True)]
    shape = [
        (size + 2 * p - 2 * r - 1) // s + 1
        for size, p, r, s in zip(x.shape[1:], padding, reach, stride, strict=True)
    ]

    def seen(u, v):
        first = [
            b + r - p + (tap - side // 2) * d
            for b, r, p, tap, side, d in zip(border, reach, padding, (u, v), sides, dilation, strict=True)
        ]
        rows, columns = (slice(f, f + n * s, s) for f, n, s in zip(first, shape, stride, strict=True))
        return frame[:, rows, columns]

    return {place: seen(*place) for place in np.ndindex(*sides)}, frame, border


def own_channels(o, kernels, groups):
    """The input channels that kernel `o` reads."""
    first = o // (len(kernels) // groups) * kernels.shape[1]
    return slice(first, first + kernels.shape[1])


def correlate(x, kernels, bias, stride, dilation, groups, centre_shape, padding):
    """Correlation of x (C, H, W) with kernels (O, C / groups, kH, kW) centred where the push kernels are centred."""
    seen, *_ = taps(x, kernels.shape[2:], stride, dilation, centre_shape, padding)
    return np.stack(
        [
            bias[o] + sum(np.tensordot(kernel[:, u, v], seen[u, v][own_channels(o, kernels, groups)], 1)
                          for u, v in seen)
            for o, kernel in enumerate(kernels)
        ]
    )  # fmt: skip


def push_pull(x, weight, bias, stride, padding, dilation, groups, alpha, scale, dual_output=False):
    """Response (N, O, H', W') of x (N, C, H, W) to push kernels (O, C / groups, kH, kW), alpha (O,)."""
    pull = np.array([[-upsample(k, scale) for k in kernel] for kernel in weight])
    args = (stride, dilation, groups, weight.shape[2:], padding)
    outputs = []
    for image in x:
        excitation = np.maximum(correlate(image, weight, bias, *args), 0)
        inhibition = np.maximum(correlate(image, pull, -bias, *args), 0)
        if dual_output:
            outputs.append(np.concatenate([excitation, inhibition]))
        else:
            outputs.append(excitation - alpha[:, None, None] * inhibition)
    return np.stack(outputs)


def complement(kernel: np.ndarray) -> np.ndarray:
    """The pull kernel of 2024 of one kernel (C / groups, kH, kW): each value v becomes max + min - v."""
    values = kernel.ravel().tolist()
    return np.array([max(values) + min(values) - v for v in values]).reshape(kernel.shape)


def average(response: np.ndarray, size: int) -> np.ndarray:
    """Mean over the neighbours, in a square of odd side `size`, that are inside a (H, W) response."""
    reach = size // 2
    out = np.empty_like(response)
    for i, j in np.ndindex(response.shape):
        rows = slice(max(i - reach, 0), i + reach + 1)
        out[i, j] = np.mean(response[rows, max(j - reach, 0) : j + reach + 1])
    return out


def push_pull_2024(x, weight, bias, stride, padding, dilation, groups, alpha, size):
    """Response (N, O, H', W') of the layer of 2024; arguments as for `push_pull`, `size` of the average or 0."""
    pull, none = np.array([complement(kernel) for kernel in weight]), np.zeros(len(weight))
    args = (stride, dilation, groups, weight.shape[2:], padding)
    outputs = []
    for image in x:
        excitation = np.maximum(correlate(image, weight, none, *args), 0)
        inhibition = correlate(image, pull, none, *args)
        if size:
            inhibition = np.array([average(response, size) for response in inhibition])
        difference = excitation - alpha[:, None, None] * np.maximum(inhibition, 0)
        outputs.append(difference + bias[:, None, None])
    return np.stack(outputs)


def correlate_backward(x, kernels, gradient, stride, dilation, groups, centre_shape, padding):
    """Gradients to x, kernels and bias of `correlate`, from that of its output."""
    geometry = (kernels.shape[2:], stride, dilation, centre_shape, padding)
    seen, *_ = taps(x, *geometry)
    behind, frame, border = taps(np.zeros_like(x), *geometry)  # what is added to these lands in the frame
    to_kernels = np.zeros_like(kernels)
    for o, (u, v) in itertools.product(range(len(kernels)), seen):
        own = own_channels(o, kernels, groups)
        behind[u, v][own] += kernels[o, :, u, v][:, None, None] * gradient[o]
        to_kernels[o, :, u, v] = (seen[u, v][own] * gradient[o]).sum((1, 2))
    rows, columns = (slice(b, b + size) for b, size in zip(border, x.shape[1:], strict=True))
    return frame[:, rows, columns], to_kernels, gradient.sum((1, 2))


def push_pull_backward(
    x, weight, bias, stride, padding, dilation, groups, alpha, scale, gradient, margin=0.0
):
    """Gradients of sum(gradient * push_pull(...)) to x, weight, bias and alpha.

    Where a response is within `margin` of the kink of its rectifier the gradient given is taken as 0. The gradient
    that was left is the fifth value.
    """
    pull = np.array([[-upsample(k, scale) for k in kernel] for kernel in weight])
    args = (stride, dilation, groups, weight.shape[2:], padding)
    rows, columns = (hats(size, scale) for size in weight.shape[2:])
    to_x, to_weight, to_bias, to_alpha, left = np.zeros_like(x), 0.0, 0.0, 0.0, np.zeros_like(gradient)
    for n, image in enumerate(x):
        excitation, inhibition = correlate(image, weight, bias, *args), correlate(image, pull, -bias, *args)
        left[n] = gradient[n] * (np.abs(excitation) > margin) * (np.abs(inhibition) > margin)
        to_push = left[n] * (excitation > 0)
        to_pull = -alpha[:, None, None] * left[n] * (inhibition > 0)
        x1, w1, b1 = correlate_backward(image, weight, to_push, *args)
        x2, w2, b2 = correlate_backward(image, pull, to_pull, *args)
        to_x[n] = x1 + x2
        to_weight = to_weight + w1 - np.einsum("ui,ocuv,vj->ocij", rows, w2, columns)
        to_bias = to_bias + b1 - b2
        to_alpha = to_alpha - (left[n] * np.maximum(inhibition, 0)).sum((1, 2))
    return to_x, to_weight, to_bias, to_alpha, left
