"""Running any callable net over uint8 images, in large batches on its device."""

import contextlib
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from common_corruptions.logits import TIED, UndefinedLogits
from common_corruptions.sets.staging import Images, slices, staged

BATCH_SIZE = {"cpu": 64}  # activations that stay in the caches are worth more than large batches
LARGE_BATCH = 1000  # elsewhere: few launches, each with much to do

Net = Callable[[Tensor], Tensor | np.ndarray]


def default_batch_size(device: torch.device | str) -> int:
    """Images at a time where nobody says how many."""
    return BATCH_SIZE.get(torch.device(device).type, LARGE_BATCH)


def affine(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Scale and shift per channel that take values 0..255 to (value / 255 - mean) / std, or to 0..1 without both.

    Raises:
        ValueError: one without the other, or not for each channel a mean from 0 to 1 and a std above 0 and up to 1.
    """
    if (mean is None) != (std is None):
        raise ValueError("mean and std belong together: give both, or neither for values 0..1")
    if mean is None or std is None:
        mean, std = [0.0] * channels, [1.0] * channels
    for name, values in (("mean", np.asarray(mean)), ("std", np.asarray(std))):
        if values.shape != (channels,):
            raise ValueError(
                f"{name} must hold a number for each of the {channels} channels of the images, not {values}"
            )
        if name == "std" and np.any(values == 0):
            raise ValueError(
                f"std must be above 0, not {values}: a channel that does not vary cannot be normalised"
            )
        if not np.all((values >= 0) & (values <= 1)):  # NaN fails
            raise ValueError(
                f"{name} is that of values 0..1, not {values}; divide one of values 0..255 by 255"
            )
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale, shift


def memory_format(device: torch.device | str, precision: str = "fp32") -> torch.memory_format:
    """The layout in which nets and their images are computed: the one place that decides it.

    Channels last is what oneDNN's convolutions read, and those of tensor cores, which IEEE float32 does not use.
    """
    on_gpu = torch.device(device).type == "cuda"
    return torch.contiguous_format if on_gpu and precision == "fp32" else torch.channels_last


def normalise(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(N, H, W, C) uint8 to (N, C, H, W) float32 `images * scale + shift`; channels stay last in memory."""
    return torch.addcmul(shift, images.float(), scale).permute(0, 3, 1, 2)


@contextlib.contextmanager
def float32_as(precision: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Compute float32 convolutions and matrix products on CUDA as they are, or rounded to TF32.

    Torch's default on CUDA is TF32 for convolutions, which moves a logit in the fourth digit.
    """
    cudnn: Any = torch.backends.cudnn  # whose parts have no types
    kinds = (cudnn.conv, torch.backends.cuda.matmul)
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = precision
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value


@contextlib.contextmanager
def evaluating(net: Net) -> Iterator[None]:
    """Every module of `net` in eval mode, and afterwards each in the mode it was in; other callables are left alone.

    An exported program keeps the mode it was exported in, and a warning says so.
    """
    modules = net.modules() if isinstance(net, nn.Module) else ()
    # A frozen script has no mode.
    modes = [(module, module.training) for module in modules if hasattr(module, "training")]
    try:
        if isinstance(net, nn.Module) and any(training for _, training in modes):
            try:
                net.eval()
            except NotImplementedError:
                warnings.warn("an exported program is evaluated in the mode it was exported in", stacklevel=4)
        yield
    finally:
        for module, training in modes:
            module.training = training


def predict(
    net: Net,
    images: Images | Tensor,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    sets: int = 1,
) -> np.ndarray:
    """Logits of `net` for every image, computed in float32, or in the type of the parameters of `net`.

    Of a net that has no parameters, its buffers decide the type and the device. The net is called in inference mode.

    A thread reads the next batches while the device computes; nothing comes back from the device before the end.

    Args:
        net: takes (n, C, H, W) in the type of its parameters, else float32, and returns logits (n, K), K >= 2, as a
            tensor or an array. All of a Module is in eval mode meanwhile; in any other callable call `eval()` yourself.
        images: (N, H, W, C) uint8, an array or a tensor on the device; a memory map is read batch by batch, and so is
            what reads or makes a slice when it is asked for (`common_corruptions.sets.staging.Images`).
        mean, std: normalisation per channel of values 0..1, both or neither; without them the net gets values 0..1.
        batch_size: images at a time; by default 64 on the CPU and 1000 elsewhere.
        device: where to compute; by default where the parameters of `net` are, or the CPU.
        sets: how many sets of one size the images are, at least 1; no batch holds images of two.

    Returns:
        (N, K) float32.

    Raises:
        TypeError: images that are no array, a batch size that is no integer, or a net that returns something else, such
            as a tuple or a dict.
        ValueError: no images, or of another type or shape; a mean and std that are not those of values 0..1 of every
            channel; a batch size below 1; images that are not so many sets of one size; a net that returns another
            shape.
    """
    with evaluating(net):
        batches = outputs(net, images, mean=mean, std=std, batch_size=batch_size, device=device, sets=sets)
        logits: np.ndarray = torch.cat(list(batches)).cpu().numpy()
    return logits


@torch.inference_mode()
def predict_ranks(net: Net, images: Images | Tensor, **options: Any) -> np.ndarray:
    """Ordinal ranks of the classes for every image: `metrics.ordinal_ranks` of the logits of `predict`.

    They are found on the device, so that a byte comes back from there for each class, and not four.

    Args:
        net, images, options: as for `predict`.

    Returns:
        (N, K) of the smallest unsigned integer type that holds K, 1 for the predicted class.

    Raises:
        TypeError, ValueError: as `predict`.
        UndefinedLogits: a ValueError; a logit that is NaN, or several infinities on top.
    """
    ranks, faults = [], []
    with evaluating(net):
        for logits in outputs(net, images, **options):
            found, first_two = _ordinal_ranks(logits)
            ranks.append(found)
            # The order puts NaN first, so these two tell of a whole row.
            tied = first_two.isinf().all(1) & (first_two[:, 0] == first_two[:, 1])
            faults.append(torch.stack([first_two.isnan().any(), tied.any()]))
    undefined, infinite = torch.stack(faults).any(0).tolist()
    if undefined or infinite:
        raise UndefinedLogits() if undefined else UndefinedLogits(TIED)
    classes = ranks[0].shape[1]
    return torch.cat(ranks).cpu().numpy().astype(np.min_scalar_type(classes), copy=False)


def _ordinal_ranks(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks (n, K) of (n, K) logits, 1 for the highest, among equal ones the lower class first; the first two."""
    order = logits.argsort(dim=1, descending=True, stable=True)
    classes = logits.shape[1]
    places = torch.arange(1, classes + 1, device=logits.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, places)
    return ranks.to(torch.uint8 if classes < 256 else torch.int32), logits.gather(1, order[:, :2])


def outputs(
    net: Net,
    images: Images | Tensor,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    sets: int = 1,
) -> Iterator[Tensor]:
    """Logits (n, K) float32 of every batch, on the device; the mode of the net is left as it is.

    Args:
        images: (N, H, W, C) uint8; a tensor has to lie on the device already.
        net, mean, std, batch_size, device, sets: as for `predict`.

    Raises:
        TypeError, ValueError: as `predict`.
    """
    if not isinstance(images, Images):
        raise TypeError(f"images must be an array or a tensor, not {type(images).__name__}")
    if images.dtype not in (np.uint8, torch.uint8) or len(images.shape) != 4 or 0 in images.shape:
        raise ValueError(
            f"images must be uint8 of shape (N, H, W, C), none of them 0, got {images.dtype} {tuple(images.shape)}"
        )
    tensors: list[Tensor] = []
    if isinstance(net, nn.Module):
        tensors = [*net.parameters()] or [*net.buffers()]
    dtype = next((one.dtype for one in tensors if one.is_floating_point()), torch.float32)
    if device is None:
        device = tensors[0].device if tensors else "cpu"
    batch_size = default_batch_size(device) if batch_size is None else batch_size
    if operator.index(batch_size) < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if operator.index(sets) < 1 or len(images) % sets:
        raise ValueError(f"{len(images)} images are not {sets} sets of one size")
    scale, shift = affine(mean, std, images.shape[3], device)
    layout = memory_format(device)
    size = len(images) // sets
    parts = (
        slice(k * size + p.start, k * size + p.stop) for k in range(sets) for p in slices(size, batch_size)
    )
    batches = (images[p] for p in parts) if isinstance(images, Tensor) else staged(images, parts, device)
    for batch in batches:
        with torch.inference_mode(), float32_as("ieee"):
            inputs = normalise(batch, scale, shift).to(dtype).contiguous(memory_format=layout)
            logits = _logits(net(inputs), len(batch), device)
        yield logits


def _logits(output: object, count: int, device: torch.device | str) -> Tensor:
    """What a net returned for `count` images, if it is logits (count, K), as float32 on the device."""
    if isinstance(output, np.ndarray):
        output = torch.tensor(output, device=device)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the net returned a {type(output).__name__} and not logits (n, K); give a function that picks them, such "
            f"as lambda x: net(x)[0], of a net in eval mode"
        )
    numeric = output.dtype != torch.bool and not output.is_complex()
    if output.ndim != 2 or len(output) != count or output.shape[1] < 2 or not numeric:
        raise ValueError(
            f"the net returned {output.dtype} of shape {tuple(output.shape)} for {count} images; expected logits "
            f"({count}, K) of K >= 2 classes"
        )
    return output.float()
