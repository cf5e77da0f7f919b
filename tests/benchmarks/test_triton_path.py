"""The Triton path: its arithmetic in Triton's interpreter, and its kernels compiled for a GPU that need not be there.

Both are asked of a process of its own: the interpreter is chosen by a variable that is read when a kernel is defined,
and compiling without a GPU needs another driver than the one torch.compile uses.
"""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from benchmarks import layer_variants
from pushpull import PushPull2d
from pushpull.functional import _full_kernel
from pushpull.geometry import place
from tests.benchmarks.triton_forks import Compiled, compile_without_gpu, forget_triton, run
from tests.pushpull import reference

SCRIPT = "tests.benchmarks.test_triton_path"
LAYOUTS = (torch.contiguous_format, torch.channels_last)
TOLERANCE = {torch.float32: 2e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
SHAPES = (  # kernel, scale, output channels
    ((3, 3), 2.0, 2),
    ((3, 1), 0.5, 1),
    ((1, 3), 2.0, 20),
    ((1, 5), 1.0, 3),
    ((1, 1), 3.0, 6),
    ((5, 3), 0.5, 3),
)
KERNELS = ("forward_kernel", "input_gradient_kernel", "kernel_gradient_kernel", "channel_sums_kernel")

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


@pytest.mark.slow
def test_equals_the_reference_in_the_interpreter():
    assert run(SCRIPT, "interpret", TRITON_INTERPRET="1") == ["float32"] * len(SHAPES) + ["half"] * 2 + [
        "special"
    ]


def test_compiles_for_an_h100(tmp_path):
    environment = {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    compiled = run(SCRIPT, "compile", **environment)
    assert compiled == [*KERNELS[:3], *KERNELS[2:], "forward_kernel"]


def interpret() -> None:
    """Random calls, a word for each that was right; then the calls that random shapes would not give."""
    forget_triton()
    from benchmarks import triton_path

    let_arrays_of_one_value_be_numbers()
    rng = np.random.default_rng(0)
    for number in range(len(SHAPES)):
        # Blocks of few pixels: several programs, and the last one's block is not full.
        triton_path.PIXELS = (32, 16, 128, 32, 64, 128)[number]
        triton_path.CHANNELS = (16, 2)[number % 2]
        triton_path.PROGRAMS = (2048, 8)[number % 2]
        check_gradients(draw(rng, number), triton_path)
        print("float32", flush=True)
    for number, dtype in ((0, torch.float16), (3, torch.bfloat16)):
        check_response(draw(rng, number), triton_path, dtype)
        print("half", flush=True)
    triton_path.PIXELS, triton_path.CHANNELS = 128, 16
    check_special(triton_path)
    print("special", flush=True)


def let_arrays_of_one_value_be_numbers() -> None:
    """The interpreter of triton 3.6 has its scalars in arrays of shape (1,), of which numpy 2.5 makes no index."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patched


def draw(rng: np.random.Generator, number: int) -> dict:
    """Arguments of a push-pull response: those of SHAPES, the rest random or in turn."""
    kernel, scale, out_channels = SHAPES[number]
    stride, dilation = (tuple(rng.integers(1, 3, 2).tolist()) for _ in range(2))
    padding = tuple(rng.integers(0, 4, 2).tolist())
    size = [max(int(rng.integers(4, 7)), d * (k - 1) + 1) for d, k in zip(dilation, kernel, strict=True)]
    return {
        "x": rng.normal(size=(2, 1 + (number + 1) % 3, *size)),
        "weight": rng.normal(size=(out_channels, 1 + (number + 1) % 3, *kernel)),
        "bias": rng.normal(size=out_channels) if number // 2 % 2 else None,
        "alpha": rng.uniform(0, 2, out_channels) if number // 4 % 2 else float(rng.uniform(0, 2)),
        "placed": (stride, padding, dilation),
        "scale": scale,
        "layouts": (LAYOUTS[number // 2 % 2], LAYOUTS[number // 4 % 2]),
        "gradient_layout": LAYOUTS[number // 3 % 2],
        "rng": rng,
    }


def formula(call: dict, rounded: list[np.ndarray | None]) -> tuple:
    """Arguments of the reference; None stands for a bias of zeros and for the call's one alpha."""
    x, weight, bias, alpha = rounded
    channels = len(weight)
    bias = np.zeros(channels) if bias is None else bias
    alpha = np.full(channels, call["alpha"]) if alpha is None else alpha
    return x, weight, bias, *call["placed"], 1, alpha, call["scale"]


def tensors(call: dict, dtype: torch.dtype) -> list[torch.Tensor | None]:
    alpha = call["alpha"] if isinstance(call["alpha"], np.ndarray) else None
    made = [
        None if array is None else torch.tensor(array, dtype=dtype)
        for array in (call["x"], call["weight"], call["bias"], alpha)
    ]
    for k, layout in enumerate(call["layouts"]):
        made[k] = made[k].contiguous(memory_format=layout)
    return made


def respond(call: dict, inputs: list[torch.Tensor | None], triton_path) -> torch.Tensor:
    x, weight, bias, alpha = inputs
    geometry = place(tuple(weight.shape[2:]), *call["placed"], call["scale"])
    alpha = call["alpha"] if alpha is None else alpha
    output = triton_path.push_pull(x, weight, _full_kernel(weight, geometry), bias, alpha, geometry)
    expected = torch.nn.functional.conv2d(x, weight, bias, *call["placed"])
    assert output.shape == expected.shape and output.dtype == expected.dtype
    return output


def check_gradients(call: dict, triton_path) -> None:
    """Value and all gradients in float32."""
    inputs = [t if t is None else t.requires_grad_() for t in tensors(call, torch.float32)]
    # The interpreter takes milliseconds for each tap of each output channel on the way back to the input.
    inputs[0].requires_grad_(call["weight"][:, 0].size * max(1, call["scale"]) ** 2 < 200)
    arguments = formula(call, [t if t is None else t.detach().double().numpy() for t in inputs])
    got = respond(call, inputs, triton_path)
    tolerance = {"rtol": TOLERANCE[torch.float32], "atol": TOLERANCE[torch.float32]}
    expected = reference.push_pull(*arguments)
    np.testing.assert_allclose(got.detach().numpy(), expected, **tolerance)

    # Rounding can carry a response over the kink of its rectifier: no gradient is asked for next to it.
    *gradients, left = reference.push_pull_backward(
        *arguments, call["rng"].normal(size=expected.shape), margin=1e-3
    )
    left = torch.tensor(left, dtype=torch.float32).contiguous(memory_format=call["gradient_layout"])
    needed = [(t, g) for t, g in zip(inputs, gradients, strict=True) if t is not None and t.requires_grad]
    found = torch.autograd.grad(got, [t for t, _ in needed], left)
    for gradient, (_, formula_gradient) in zip(found, needed, strict=True):
        np.testing.assert_allclose(gradient.numpy(), formula_gradient, **tolerance)


def check_response(call: dict, triton_path, dtype: torch.dtype) -> None:
    """Value in a type of 16 bits, from the pull kernel that this type gives."""
    inputs = tensors(call, dtype)
    got = respond(call, inputs, triton_path)
    expected = reference.push_pull(*formula(call, [t if t is None else t.double().numpy() for t in inputs]))
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(
        got.double().numpy(), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )


def check_special(triton_path) -> None:
    """An alpha without sides, the same bits twice and with 64-bit offsets, layouts, a NaN, the variant, no images."""
    torch.manual_seed(0)
    scale = 0.5  # a pull kernel of few taps: the interpreter takes milliseconds for each
    geometry = place((3, 3), (1, 1), (1, 1), (1, 1), scale)
    x, weight = torch.randn(2, 2, 4, 5), torch.randn(2, 2, 3, 3)
    kernel = _full_kernel(weight, geometry)
    push, pull = (torch.nn.functional.conv2d(x, k, None, 1, k.shape[2] // 2).relu() for k in (weight, kernel))

    alpha = torch.tensor(0.7, requires_grad=True)
    output = triton_path.push_pull(x, weight, kernel, None, alpha, geometry)
    torch.testing.assert_close(output, push - 0.7 * pull)
    output.sum().backward()
    torch.testing.assert_close(alpha.grad, -pull.sum())

    inputs = [t.clone().requires_grad_() for t in (x, weight, kernel)]
    results, measured = [], triton_path._wide
    for wide in (measured, lambda *tensors: True):
        triton_path._wide = wide
        output = triton_path.push_pull(*inputs, None, 0.7, geometry)
        results.append([output, *torch.autograd.grad(output.sum(), inputs)])
    triton_path._wide = measured
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    assert not measured(x) and measured(torch.empty(2**31, 1, 1, 1, device="meta"))

    for images, layout in ((x, LAYOUTS[0]), (x.contiguous(memory_format=LAYOUTS[1]), LAYOUTS[1])):
        output = triton_path.push_pull(images, weight, kernel, None, 0.7, geometry)
        assert output.is_contiguous(memory_format=layout)
    broken = x.clone()
    broken[0, 0, 0, 0] = torch.nan
    output = triton_path.push_pull(broken, weight, kernel, None, 0.7, geometry)
    assert output[0, :, 0, 0].isnan().all() and not output[1].isnan().any()

    layer = PushPull2d(2, 3, 3, padding=1, scale=scale, alpha=0.7)
    torch.testing.assert_close(layer_variants.triton_path(x, layer), layer(x))

    weight.requires_grad_()
    output = triton_path.push_pull(x[:0], weight, _full_kernel(weight, geometry), None, 0.7, geometry)
    output.sum().backward()
    assert output.shape == (0, 2, 4, 5) and not weight.grad.any()


def compile_kernels() -> None:
    """Compile for an H100 what a call with all gradients starts, and print each kernel's name."""
    from benchmarks import triton_path

    compile_without_gpu()
    for name in KERNELS:
        setattr(triton_path, name, Compiled(name, getattr(triton_path, name)))
    geometry = place((3, 3), (1, 1), (1, 1), (1, 1), 2.0)
    shapes = ((2, 3, 32, 32), (16, 3, 3, 3), (16,), (16,))
    x, weight, bias, alpha = (torch.ones(shape, requires_grad=True) for shape in shapes)
    kernel = _full_kernel(weight, geometry)
    triton_path.push_pull(x, weight, kernel, bias, alpha, geometry).sum().backward()
    with torch.no_grad():
        halves = [t.bfloat16() for t in (x, weight, kernel, bias)]
        triton_path.push_pull(*halves, 1.0, geometry)


if __name__ == "__main__":
    {"interpret": interpret, "compile": compile_kernels}[sys.argv[1]]()
