"""Fixtures of all tests."""

import functools
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Nothing that is imported is garbage, and it is more than a million objects to look through.
gc.disable()


@pytest.fixture(scope="session", autouse=True)
def warnings_in_this_process_alone():
    """EncodingWarning is raised here where `make test` asks for it, and not on stderr of what the tests start."""
    os.environ.pop("PYTHONWARNDEFAULTENCODING", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that processes which take one file after the other end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # Triton lists on stderr what it finds alive at the end


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
    import torch  # here, for the process that only hands out the tests

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other cost more than they save where others run too
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def forget(monkeypatch) -> Iterator[Callable[..., None]]:
    """Takes packages out of `sys.modules`: the test imports them anew, and what came before is back after it."""
    forgotten: set[str] = set()

    def modules() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in forgotten]

    def take_out(*packages: str) -> None:
        forgotten.update(packages)
        for name in modules():
            monkeypatch.delitem(sys.modules, name)

    yield take_out
    for name in modules():
        del sys.modules[name]


@pytest.fixture(scope="session")
def one_onnx_registry() -> Iterator[None]:
    """The exporter reads the source of all its operators once, and not again for each export, as it would."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(ONNXRegistry.from_torchlib)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(once))
        yield


@pytest.fixture
def mount_disk() -> Iterator[Callable[[Path, int], Path]]:
    """Mounts a file system of so many megabytes at a folder."""
    mounted = []

    def mount(folder: Path, megabytes: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8")
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)  # MLflow keeps its database open
