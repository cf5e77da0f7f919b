"""Fixtures of all tests."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def warnings_in_this_process_alone():
    """EncodingWarning is raised here where `make test` asks for it, and not on stderr of what the tests start."""
    os.environ.pop("PYTHONWARNDEFAULTENCODING", None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real images and published checkpoints kept beside the repository, not in it."""
    folder = ROOT.parent / "shared"
    if not (folder / "reference").is_dir():
        pytest.skip(f"{folder} with the reference data is not there")
    return folder


@pytest.fixture
def one_thread():
    """PyTorch on one thread while the test runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other cost more than they save where others run too
    yield
    torch.set_num_threads(threads)
