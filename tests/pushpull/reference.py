"""The push-pull response written out in float64 numpy, one output value at a time."""

import math

import numpy as np


def upsample(kernel: np.ndarray, scale: float) -> np.ndarray:
    """Bilinear upsampling with aligned corners of a (kH, kW) kernel to odd sides floor(scale * side) (+ 1)."""

    def side(size: int) -> int:
        new = size if scale == 1 else math.floor(size * scale)
        return new + 1 - new % 2

    def weights(old: int, new: int) -> np.ndarray:  # (new, old) hat functions on the old grid
        at = np.zeros(1) if new == 1 else np.arange(new) * (old - 1) / (new - 1)
        return np.clip(1 - np.abs(at[:, None] - np.arange(old)), 0, None)

    rows, columns = (weights(size, side(size)) for size in kernel.shape)
    return rows @ kernel @ columns.T


def correlate(x, kernels, bias, stride, dilation, groups, centre_shape, padding):
    """Correlation of x (C, H, W) with kernels (O, C / groups, kH, kW) centred where the push kernels are centred."""
    _, height, width = x.shape
    reach = [(d * (s - 1)) // 2 for d, s in zip(dilation, centre_shape, strict=True)]
    shape = [
        (size + 2 * p - 2 * r - 1) // s + 1
        for size, p, r, s in zip((height, width), padding, reach, stride, strict=True)
    ]
    out = np.zeros((len(kernels), *shape))
    channels = x.shape[0] // groups
    for o, kernel in enumerate(kernels):
        first = o // (len(kernels) // groups) * channels
        for i in range(shape[0]):
            for j in range(shape[1]):
                centre = (i * stride[0] - padding[0] + reach[0], j * stride[1] - padding[1] + reach[1])
                total = bias[o]
                for c in range(channels):
                    for u in range(kernel.shape[1]):
                        for v in range(kernel.shape[2]):
                            y = centre[0] + (u - kernel.shape[1] // 2) * dilation[0]
                            z = centre[1] + (v - kernel.shape[2] // 2) * dilation[1]
                            if 0 <= y < height and 0 <= z < width:
                                total += kernel[c, u, v] * x[first + c, y, z]
                out[o, i, j] = total
    return out


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
