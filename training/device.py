"""The training device: its choice, its description, and deterministic algorithms on it."""

import os
import platform
from pathlib import Path

import torch

from training import parallel


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`; `auto` is cuda if available.

    Raises:
        ValueError: cuda is not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch finds no GPU here; set it to auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def make_deterministic(device: torch.device) -> None:
    """Make torch choose the same algorithms in every run; an operation without a deterministic algorithm warns.

    Call this before anything is computed on the device, because cuBLAS reads its environment variable only once.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False  # its choices, and so the weights, would vary between runs
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs a pass over every new tensor


def describe(device: torch.device) -> str:
    """Describe the hardware of a training, as far as it determines how sums are rounded."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu x {torch.get_num_threads()}"
    return name if parallel.ranks() == 1 else f"{parallel.ranks()} processes, {name}"


def processor() -> str:
    """Name of the processor, or its architecture if the system gives no name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = (line.partition(":") for line in lines)
    other = platform.processor() or platform.machine()
    return next((value.strip() for key, _, value in named if key.strip() == "model name"), other)
