"""The Triton kernels of `triton_path`, which says what they are for and launches them.

Tensors are given as pointers with their shapes and strides (N, C, H, W); names in capitals are known when a kernel is
compiled. `WIDE` asks for offsets of 64 bits.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# A Triton kernel's arguments have their types when it is launched.

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

# Bits of the byte kept for an output value: the rectifier of that response lets it through.
PUSH = tl.constexpr(1)
PULL = tl.constexpr(2)


@triton.jit
def forward_kernel(
    input,
    weight,
    kernel,
    bias,
    alphas,
    output,
    bits,
    pull_output,
    pixels,
    shape,
    strides,
    output_shape,
    output_strides,
    alpha_stride,
    PUSH_SIZE: tl.constexpr,
    PUSH_PADDING: tl.constexpr,
    PULL_SIZE: tl.constexpr,
    PULL_PADDING: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    CHANNELS: tl.constexpr,
    PIXELS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A block of output pixels for a block of output channels; neighbouring programs have the same pixels."""
    program = _program(WIDE)
    blocks = tl.cdiv(output_shape[1], CHANNELS)
    o = program % blocks * CHANNELS + tl.arange(0, CHANNELS)
    pixel = program // blocks * PIXELS + tl.arange(0, PIXELS)
    n, i, j = _place(pixel, output_shape)
    there = pixel < pixels
    image = input + n * strides[0]
    # One after the other, not tap by tap: only one response's sums are in the inner loop's registers, and the pixels
    # of the push window, few beside those of the pull window, are still in the cache.
    pull = _correlate(
        image, kernel, i, j, there, o, shape, strides, output_shape[1],
        PULL_SIZE, PULL_PADDING, STRIDE, DILATION, CHANNELS, PIXELS,
    )  # fmt: skip
    push = _correlate(
        image, weight, i, j, there, o, shape, strides, output_shape[1],
        PUSH_SIZE, PUSH_PADDING, STRIDE, DILATION, CHANNELS, PIXELS,
    )  # fmt: skip
    real = o < output_shape[1]
    if bias is not None:
        shift = tl.load(bias + o, mask=real, other=0.0).to(tl.float32)[:, None]
        push += shift
        pull -= shift
    alpha = tl.load(alphas + o * alpha_stride, mask=real, other=0.0).to(tl.float32)[:, None]
    # Written so that a NaN stays one.
    push_cut, pull_cut = push <= 0, pull <= 0
    push, pull = tl.where(push_cut, 0.0, push), tl.where(pull_cut, 0.0, pull)
    place = n * output_strides[0] + i * output_strides[2] + j * output_strides[3]
    offset = o[:, None] * output_strides[1] + place[None, :]
    written = real[:, None] & there[None, :]
    tl.store(output + offset, (push - alpha * pull).to(output.dtype.element_ty), mask=written)
    if bits is not None:
        passed = tl.where(push_cut, 0, PUSH) + tl.where(pull_cut, 0, PULL)
        tl.store(bits + offset, passed.to(tl.uint8), mask=written)
    if pull_output is not None:
        tl.store(pull_output + offset, pull.to(pull_output.dtype.element_ty), mask=written)


@triton.jit
def _correlate(
    image,
    kernel,
    i,
    j,
    there,
    o,
    shape,
    strides,
    out_channels,
    SIZE: tl.constexpr,
    PADDING: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    CHANNELS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """(CHANNELS, PIXELS) sums over the window of each pixel; `image` (PIXELS,) points at the first value of each image.

    Channels first: so a thread has one pixel with all its sums. The pointer to the weights moves as a scalar, so that
    every thread loads them itself, four at once: pointers kept as a block are loaded once and shared through memory.
    """
    WIDTH: tl.constexpr = SIZE[1]
    step = tl.cdiv(out_channels, CHANNELS) * CHANNELS
    total = tl.zeros((CHANNELS, PIXELS), tl.float32)
    for _ in range(shape[1]):
        for u in range(SIZE[0]):
            y = i * STRIDE[0] - PADDING[0] + u * DILATION[0]
            row = image + y * strides[2]
            in_row = there & (y >= 0) & (y < shape[2])
            for v in tl.static_range(WIDTH):
                x = j * STRIDE[1] - PADDING[1] + v * DILATION[1]
                value = tl.load(row + x * strides[3], mask=in_row & (x >= 0) & (x < shape[3]), other=0.0)
                total += tl.load(kernel + o).to(tl.float32)[:, None] * value.to(tl.float32)[None, :]
                kernel += step
        image += strides[1]
    return total


@triton.jit
def input_gradient_kernel(
    result,
    weight,
    kernel,
    gradient,
    bits,
    pixels,
    shape,
    strides,
    output_shape,
    output_strides,
    PUSH_SIZE: tl.constexpr,
    PUSH_PADDING: tl.constexpr,
    PULL_SIZE: tl.constexpr,
    PULL_PADDING: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    CHANNELS: tl.constexpr,
    PIXELS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A block of input pixels for a block of input channels, gathered from all output values they had a part in."""
    program = _program(WIDE)
    blocks = tl.cdiv(shape[1], CHANNELS)
    c = program % blocks * CHANNELS + tl.arange(0, CHANNELS)
    pixel = program // blocks * PIXELS + tl.arange(0, PIXELS)
    n, y, x = _place(pixel, shape)
    there = pixel < pixels
    first = n * output_strides[0]
    total = _gather(
        gradient + first, bits + first, kernel, y, x, there, c, shape[1], output_shape, output_strides,
        PULL, PULL_SIZE, PULL_PADDING, STRIDE, DILATION, CHANNELS, PIXELS,
    )  # fmt: skip
    total += _gather(
        gradient + first, bits + first, weight, y, x, there, c, shape[1], output_shape, output_strides,
        PUSH, PUSH_SIZE, PUSH_PADDING, STRIDE, DILATION, CHANNELS, PIXELS,
    )  # fmt: skip
    offset = c[:, None] * strides[1] + (n * strides[0] + y * strides[2] + x * strides[3])[None, :]
    written = (c < shape[1])[:, None] & there[None, :]
    tl.store(result + offset, total.to(result.dtype.element_ty), mask=written)


@triton.jit
def _gather(
    gradient,
    bits,
    kernel,
    y,
    x,
    there,
    c,
    in_channels,
    shape,
    strides,
    BIT: tl.constexpr,
    SIZE: tl.constexpr,
    PADDING: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    CHANNELS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """(CHANNELS, PIXELS) sums over the output values whose windows hold each pixel, and whose bit is set.

    `gradient` and `bits` (PIXELS,) point at the first output value of each pixel's image.
    """
    WIDTH: tl.constexpr = SIZE[1]
    step = tl.cdiv(in_channels, CHANNELS) * CHANNELS
    total = tl.zeros((CHANNELS, PIXELS), tl.float32)
    for _ in range(shape[1]):
        for u in range(SIZE[0]):
            down = y + PADDING[0] - u * DILATION[0]
            i = down // STRIDE[0]
            in_row = there & (down >= 0) & (i < shape[2]) & (i * STRIDE[0] == down)
            for v in tl.static_range(WIDTH):
                right = x + PADDING[1] - v * DILATION[1]
                j = right // STRIDE[1]
                mask = in_row & (right >= 0) & (j < shape[3]) & (j * STRIDE[1] == right)
                offset = i * strides[2] + j * strides[3]
                passed = tl.load(bits + offset, mask=mask, other=0) & BIT
                value = tl.load(gradient + offset, mask=mask & (passed != 0), other=0.0).to(tl.float32)
                total += tl.load(kernel + c).to(tl.float32)[:, None] * value[None, :]
                kernel += step
        gradient += strides[1]
        bits += strides[1]
    return total


@triton.jit
def kernel_gradient_kernel(
    input,
    gradient,
    bits,
    partial,
    pixels,
    pixel_blocks,
    shape,
    strides,
    output_shape,
    output_strides,
    BIT: tl.constexpr,
    SIZE: tl.constexpr,
    PADDING: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    TAPS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PIXELS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Sums over a chunk of output pixels, for a row of taps, one input channel and a block of output channels.

    Neighbouring programs have the same pixels, so that what one reads is in the cache for the others.
    """
    program = _program(WIDE)
    u = program % SIZE[0]
    c = program // SIZE[0] % shape[1]
    blocks = tl.cdiv(output_shape[1], CHANNELS)
    o = program // SIZE[0] // shape[1] % blocks * CHANNELS + tl.arange(0, CHANNELS)
    chunk = program // SIZE[0] // shape[1] // blocks
    v = tl.arange(0, TAPS)
    real = (o < output_shape[1])[:, None]
    plane = input + c * strides[1]
    total = tl.zeros((CHANNELS, TAPS, PIXELS), tl.float32)
    for block in range(pixel_blocks):
        pixel = (chunk * pixel_blocks + block) * PIXELS + tl.arange(0, PIXELS)
        n, i, j = _place(pixel, output_shape)
        there = pixel < pixels
        y = i * STRIDE[0] - PADDING[0] + u * DILATION[0]
        x = (j * STRIDE[1] - PADDING[1])[None, :] + (v * DILATION[1])[:, None]
        in_row = there & (y >= 0) & (y < shape[2])
        mask = in_row[None, :] & (x >= 0) & (x < shape[3]) & (v < SIZE[1])[:, None]
        row = plane + (n * strides[0] + y * strides[2])
        values = tl.load(row[None, :] + x * strides[3], mask=mask, other=0.0).to(tl.float32)
        place = n * output_strides[0] + i * output_strides[2] + j * output_strides[3]
        offset = o[:, None] * output_strides[1] + place[None, :]
        mask = real & there[None, :]
        passed = tl.load(bits + offset, mask=mask, other=0) & BIT
        factors = tl.load(gradient + offset, mask=mask, other=0.0).to(tl.float32)
        factors = tl.where(passed != 0, factors, 0.0)
        total += factors[:, None, :] * values[None, :, :]
    tap = (((chunk * output_shape[1] + o) * shape[1] + c) * SIZE[0] + u)[:, None] * SIZE[1] + v[None, :]
    tl.store(partial + tap, tl.sum(total, 2), mask=real & (v < SIZE[1])[None, :])


@triton.jit
def channel_sums_kernel(
    gradient,
    bits,
    pull,
    partial,
    pixels,
    pixel_blocks,
    shape,
    strides,
    KINDS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PIXELS: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = _program(WIDE)
    blocks = tl.cdiv(shape[1], CHANNELS)
    o = program % blocks * CHANNELS + tl.arange(0, CHANNELS)
    chunk = program // blocks
    real = o < shape[1]
    push_total = tl.zeros((CHANNELS, PIXELS), tl.float32)
    pull_total = tl.zeros((CHANNELS, PIXELS), tl.float32)
    alpha_total = tl.zeros((CHANNELS, PIXELS), tl.float32)
    for block in range(pixel_blocks):
        pixel = (chunk * pixel_blocks + block) * PIXELS + tl.arange(0, PIXELS)
        n, i, j = _place(pixel, shape)
        place = n * strides[0] + i * strides[2] + j * strides[3]
        offset = o[:, None] * strides[1] + place[None, :]
        mask = real[:, None] & (pixel < pixels)[None, :]
        value = tl.load(gradient + offset, mask=mask, other=0.0).to(tl.float32)
        passed = tl.load(bits + offset, mask=mask, other=0)
        push_total += tl.where((passed & PUSH) != 0, value, 0.0)
        pull_total += tl.where((passed & PULL) != 0, value, 0.0)
        if pull is not None:
            alpha_total += value * tl.load(pull + offset, mask=mask, other=0.0).to(tl.float32)
    sums = partial + chunk * KINDS * shape[1] + o
    tl.store(sums, tl.sum(push_total, 1), mask=real)
    tl.store(sums + shape[1], tl.sum(pull_total, 1), mask=real)
    if pull is not None:
        tl.store(sums + 2 * shape[1], tl.sum(alpha_total, 1), mask=real)


@triton.jit
def _program(WIDE: tl.constexpr):
    """The program's number. All offsets are computed from it and take its type: 64 bits only where they are needed."""
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    return program


@triton.jit
def _place(pixel, shape):
    """Image, row and column of the pixels of (N, C, H, W), counted in that order."""
    row = pixel // shape[3]
    return row // shape[2], row % shape[2], pixel % shape[3]
