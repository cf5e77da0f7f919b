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
