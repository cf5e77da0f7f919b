"""The Triton epilogue in the interpreter of Triton, which is chosen before a kernel is defined: in another process."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import torch
from benchmarks import epilogue
torch.manual_seed(0)
for layout in (torch.contiguous_format, torch.channels_last):
    both = torch.randn(3, 10, 7, 9).contiguous(memory_format=layout)
    gradient = torch.randn(3, 5, 7, 9)
    found = {}
    for kind in ("eager", "triton"):
        one = both.clone(memory_format=torch.preserve_format).requires_grad_()
        push, pull = (h.contiguous(memory_format=layout).requires_grad_() for h in both.chunk(2, 1))
        outputs = epilogue.by_one(one, 0.7, kind), epilogue.by_two(push, pull, 0.7, kind)
        for output in outputs:
            output.backward(gradient)
        found[kind] = [*outputs, one.grad, push.grad, pull.grad]
    expected = both[:, :5].relu() - 0.7 * both[:, 5:].relu()
    torch.testing.assert_close(found["eager"][0], expected)
    for ours, theirs in zip(found["triton"], found["eager"]):
        torch.testing.assert_close(ours, theirs)
print("equal")
"""


def test_the_kernels_compute_the_formula_and_its_gradients():
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.stdout == "equal\n", done.stderr[-3000:]


COMPILING = """
import torch, triton
from triton.backends.compiler import GPUTarget
from benchmarks import epilogue_triton as module
class Driver:
    get_current_device = get_current_stream = lambda *_: 0
    get_current_target = lambda self: GPUTarget("cuda", 90, 32)
class Compiled:
    def __init__(self, kernel):
        self.kernel = kernel
    def __getitem__(self, grid):
        def launch(*arguments, **options):
            assert self.kernel.warmup(*arguments, grid=grid, **options).asm["cubin"]
        return launch
triton.runtime.driver.set_active(Driver())
module._forward, module._backward = Compiled(module._forward), Compiled(module._backward)
for dtype in (torch.float32, torch.bfloat16):
    for layout in (torch.contiguous_format, torch.channels_last):
        both = torch.ones(2, 32, 8, 8, dtype=dtype).contiguous(memory_format=layout)
        halves = both.chunk(2, 1)
        output = module.forward(*halves, 0.7)
        module.backward(output, *halves, 0.7, *torch.empty_like(both).chunk(2, 1))
print("compiled")
"""


def test_the_kernels_compile_for_a_gpu_that_need_not_be_there():
    pytest.importorskip("triton", reason="triton is not installed")
    done = subprocess.run(
        [sys.executable, "-c", COMPILING], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert done.stdout == "compiled\n", done.stderr[-3000:]
