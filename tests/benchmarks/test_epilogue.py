"""The Triton epilogue: its results in the interpreter of Triton, and its kernels compiled for a GPU."""

import sys
from importlib.util import find_spec

import pytest
import torch

from tests.benchmarks.triton_forks import Compiled, compile_without_gpu, forget_triton, run

LAYOUTS = (torch.contiguous_format, torch.channels_last)

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def test_the_kernels_compute_the_formula_and_its_gradients():
    assert run("tests.benchmarks.test_epilogue", "interpret", TRITON_INTERPRET="1") == ["equal"] * 2


def test_the_kernels_compile_for_a_gpu_that_need_not_be_there(tmp_path):
    environment = {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    compiled = run("tests.benchmarks.test_epilogue", "compile", **environment)
    assert compiled == ["_forward", "_backward"] * 4


def interpret() -> None:
    forget_triton()
    from benchmarks import epilogue

    torch.manual_seed(0)
    for layout in LAYOUTS:
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
        for ours, theirs in zip(found["triton"], found["eager"], strict=True):
            torch.testing.assert_close(ours, theirs)
        print("equal")


def compile_kernels() -> None:
    from benchmarks import epilogue_triton as module

    compile_without_gpu()
    for name in ("_forward", "_backward"):
        setattr(module, name, Compiled(name, getattr(module, name)))
    for dtype in (torch.float32, torch.bfloat16):
        for layout in LAYOUTS:
            both = torch.ones(2, 32, 8, 8, dtype=dtype).contiguous(memory_format=layout)
            halves = both.chunk(2, 1)
            output = module.forward(*halves, 0.7)
            module.backward(output, *halves, 0.7, *torch.empty_like(both).chunk(2, 1))


if __name__ == "__main__":
    {"interpret": interpret, "compile": compile_kernels}[sys.argv[1]]()
