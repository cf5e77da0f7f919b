"""The device that the code under test is given: the CPU always, a CUDA GPU where there is one."""

import pytest
import torch

HAS_GPU = torch.cuda.is_available()
NO_GPU = "torch finds no CUDA GPU here"

# For tests of what no other device has.
needs_gpu = [pytest.mark.cuda, pytest.mark.skipif(not HAS_GPU, reason=NO_GPU)]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_gpu)])
def device(request) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def deterministic():
    """Torch held to deterministic algorithms as in a training, and let go again."""
    from training.device import make_deterministic

    if not HAS_GPU:  # where it changes nothing, but to let go imports a compiler
        yield
        return
    make_deterministic(torch.device("cuda"))
    yield
    torch.use_deterministic_algorithms(False)
