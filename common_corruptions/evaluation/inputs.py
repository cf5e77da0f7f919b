"""How images are passed to a net: batch size, normalisation, memory layout and precision."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

BATCH_SIZE = {"cpu": 64}  # activations that stay in the caches gain more than large batches
LARGE_BATCH = 1000  # elsewhere: few launches, each with much work


def default_batch_size(device: torch.device | str) -> int:
    """The default number of images per batch."""
    return BATCH_SIZE.get(torch.device(device).type, LARGE_BATCH)


def affine(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Scale and shift per channel that map values 0..255 to (value / 255 - mean) / std, or without both to 0..1.

    Raises:
        ValueError: only one of the two; or not one mean from 0 to 1, and one std above 0 and up to 1, for each channel.
    """
    if (mean is None) != (std is None):
        raise ValueError("mean and std belong together: give both, or neither for values 0..1")
    if mean is None or std is None:
        mean, std = [0.0] * channels, [1.0] * channels
    for name, values in (("mean", np.asarray(mean)), ("std", np.asarray(std))):
        if values.shape != (channels,):
            raise ValueError(
                f"{name} must have one number for each of the {channels} channels of the images, not {values}"
            )
        if name == "std" and np.any(values == 0):
            raise ValueError(
                f"std must be above 0, not {values}: a channel that does not vary cannot be normalised"
            )
        if not np.all((values >= 0) & (values <= 1)):  # NaN fails
            raise ValueError(
                f"{name} must be for pixel values 0..1, not {values}; divide one for 0..255 by 255"
            )
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale, shift


def memory_format(device: torch.device | str, precision: str = "fp32") -> torch.memory_format:
    """The memory layout of nets and their images; decided only here.

    Channels last suits oneDNN's convolutions and those of tensor cores, which IEEE float32 does not use.
    """
    on_gpu = torch.device(device).type == "cuda"
    return torch.contiguous_format if on_gpu and precision == "fp32" else torch.channels_last


def normalise(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(N, H, W, C) uint8 to (N, C, H, W) float32 `images * scale + shift`; channels stay last in memory."""
    return torch.addcmul(shift, images.float(), scale).permute(0, 3, 1, 2)


@contextlib.contextmanager
def float32_as(precision: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Compute float32 convolutions and matrix products on CUDA in full precision, or rounded to TF32.

    Torch's default on CUDA is TF32 for convolutions, which changes a logit in the fourth digit.
    """
    cudnn: Any = torch.backends.cudnn  # its attributes are untyped
    kinds = (cudnn.conv, torch.backends.cuda.matmul)
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = precision
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value
