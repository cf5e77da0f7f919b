"""Run any callable net over uint8 images, in large batches on its device."""

import contextlib
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common_corruptions.evaluation.inputs import (
    affine,
    default_batch_size,
    float32_as,
    memory_format,
    normalise,
)
from common_corruptions.logits import TIED, UndefinedLogits
from common_corruptions.sets.staging import Images, slices, staged

Net = Callable[[Tensor], Tensor | np.ndarray]


def tensors_of(net: Net) -> list[Tensor]:
    """The parameters of a Module, then its buffers; the first one determines the device. Empty for other callables."""
    return [*net.parameters(), *net.buffers()] if isinstance(net, nn.Module) else []


@contextlib.contextmanager
def evaluating(net: Net) -> Iterator[None]:
    """Put every module of `net` in eval mode, and restore each mode afterwards; other callables are left alone.

    An exported program keeps the mode it was exported in, with a warning.
    """
    modules = net.modules() if isinstance(net, nn.Module) else ()
    # A frozen ScriptModule has no mode.
    modes = [(module, module.training) for module in modules if hasattr(module, "training")]
    switched: nn.Module | None = None
    try:
        if isinstance(net, nn.Module) and any(training for _, training in modes):
            try:
                net.eval()
                switched = net
            except NotImplementedError:
                warnings.warn("an exported program is evaluated in the mode it was exported in", stacklevel=4)
        yield
    finally:
        if switched is not None and modes[0][1]:
            switched.train()  # layers that act on a change of mode, such as LoRA's, undo it
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
    """Logits of `net` for every image, computed in float32 or in the type of the parameters of `net`.

    For a net without parameters, its buffers determine the type and the device. The net is called in inference mode.

    A thread reads the next batches while the device computes; results are copied from the device only at the end.

    Args:
        net: takes (n, C, H, W) in the type of its parameters, else float32, and returns logits (n, K), K >= 2, as a
            tensor or an array. A Module and its submodules are in eval mode meanwhile; for any other callable, call
            `eval()` yourself.
        images: (N, H, W, C) uint8, an array or a tensor on the device. Memory maps, and objects that read or make a
            slice on access (`common_corruptions.sets.staging.Images`), are read batch by batch.
        mean, std: normalisation per channel of values 0..1, both or neither; without them the net gets values 0..1.
        batch_size: images per batch; by default 64 on the CPU and 1000 elsewhere.
        device: where to compute; by default where the parameters of `net` are, or the CPU.
        sets: the number of equally large sets in the images, at least 1; no batch spans two of them.

    Returns:
        (N, K) float32.

    Raises:
        TypeError: images that are not an array, a batch size that is not an integer, or a net that returns something
            else, such as a tuple or a dict.
        ValueError: no images, or images of another type or shape; a mean and std that do not fit values 0..1 and the
            channels; a batch size below 1; images that cannot be divided into `sets` equal sets; a net that returns
            another shape.
    """
    with evaluating(net):
        batches = outputs(net, images, mean=mean, std=std, batch_size=batch_size, device=device, sets=sets)
        logits: np.ndarray = torch.cat(list(batches)).cpu().numpy()
    return logits


@torch.inference_mode()
def predict_ranks(net: Net, images: Images | Tensor, **options: Any) -> np.ndarray:
    """Ordinal ranks of the classes for every image: `metrics.ordinal_ranks` of the logits of `predict`.

    They are computed on the device, so that one byte per class is copied from there, not four.

    Args:
        net, images, options: as for `predict`.

    Returns:
        (N, K) of the smallest unsigned integer type that holds K, 1 for the predicted class.

    Raises:
        TypeError, ValueError: as `predict`.
        UndefinedLogits: a ValueError; a logit that is NaN, or a tie of infinities at the top.
    """
    ranks, faults = [], []
    with evaluating(net):
        for logits in outputs(net, images, **options):
            found, first_two = _ordinal_ranks(logits)
            ranks.append(found)
            # NaN sorts first, so the first two decide for the whole row.
            tied = first_two.isinf().all(1) & (first_two[:, 0] == first_two[:, 1])
            faults.append(torch.stack([first_two.isnan().any(), tied.any()]))
    undefined, infinite = torch.stack(faults).any(0).tolist()
    if undefined or infinite:
        raise UndefinedLogits() if undefined else UndefinedLogits(TIED)
    classes = ranks[0].shape[1]
    return torch.cat(ranks).cpu().numpy().astype(np.min_scalar_type(classes), copy=False)


def _ordinal_ranks(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks (n, K) of (n, K) logits, 1 for the highest, ties by class index; and the two highest logits."""
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
    """Yield the logits (n, K) float32 of every batch, on the device; the mode of the net is left as it is.

    Args:
        images: (N, H, W, C) uint8; a tensor must be on the device already.
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
    tensors = tensors_of(net)
    dtype = next((one.dtype for one in tensors if one.is_floating_point()), torch.float32)
    if device is None:
        device = tensors[0].device if tensors else "cpu"
    batch_size = default_batch_size(device) if batch_size is None else batch_size
    if operator.index(batch_size) < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if operator.index(sets) < 1 or len(images) % sets:
        raise ValueError(f"{len(images)} images cannot form {sets} equal sets")
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
    """The output of a net for `count` images, checked to be logits (count, K), as float32 on the device."""
    if isinstance(output, np.ndarray):
        output = torch.tensor(output, device=device)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the net returned a {type(output).__name__}, not logits (n, K); give a function that returns them, such "
            f"as lambda x: net(x)[0], with the net in eval mode"
        )
    numeric = output.dtype != torch.bool and not output.is_complex()
    if output.ndim != 2 or len(output) != count or output.shape[1] < 2 or not numeric:
        raise ValueError(
            f"the net returned {output.dtype} of shape {tuple(output.shape)} for {count} images; expected logits "
            f"({count}, K) of K >= 2 classes"
        )
    return output.float()
