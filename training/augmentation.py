"""Augmentation of training images beyond crop and mirroring: TrivialAugment or AugMix, batch-wise on the device.

Both apply chains of randomly drawn operations to each image. TrivialAugment (Müller and Hutter, ICCV 2021) has one
chain of one operation, with the wide ranges of its paper. The paper's shifts of up to 32 pixels are here shifts of up
to the image side, and the Cutout that follows in the paper is left out. Four of its operations, brightness, contrast,
color and sharpness, are similar to corruptions of the benchmark. AugMix (Hendrycks et al., ICLR 2020) has three chains
of one to three operations, without those four, and mixes their results with the image. Its Jensen-Shannon consistency
loss between three copies of an image is left out, and mixtures are rounded to integer levels. Both methods rotate,
shift and shear images, as three of the perturbations do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from training import operations as op

Augmentation = Literal["none", "trivial", "augmix"]


@dataclass(frozen=True)
class Magnitude:
    """From `low` at level 0 to `high` at level 1; `whole`: steps of 1, rounded towards `low`; `signed`: either sign."""

    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    signed: bool = False

    def at(self, level: Tensor, negative: Tensor) -> Tensor:
        """The magnitude at levels in 0..1, negated where `negative` if the range is signed."""
        way = level * (self.high - self.low)
        value = self.low + (way.trunc() if self.whole else way)
        return torch.where(negative, -value, value) if self.signed else value


@dataclass(frozen=True)
class Policy:
    """How images are augmented.

    Attributes:
        operations: each with its range of magnitudes; all are drawn with equal probability.
        levels: lowest and highest level that can be drawn.
        steps: number of equal steps between them that levels are drawn from; None draws from the whole interval.
        chains: number of chains for an image, each of which starts from the image.
        lengths: minimum and maximum number of operations of a chain.
        mixed: mix the image and the results of its chains with random weights; else return the result of the one chain.
    """

    operations: tuple[tuple[op.Operation, Magnitude], ...]
    levels: tuple[float, float]
    steps: int | None
    chains: int
    lengths: tuple[int, int]
    mixed: bool


ENHANCED = Magnitude(0.01, 2.0)
SHEARED = Magnitude(0, 0.99, signed=True)
SHIFTED = Magnitude(0, 1, signed=True)
SLIGHTLY_SHEARED = Magnitude(0, 0.3, signed=True)
SLIGHTLY_SHIFTED = Magnitude(0, 1 / 3, signed=True)

POLICIES = {
    "trivial": Policy(
        (
            (lambda images, _: images, Magnitude()),
            (op.autocontrast, Magnitude()),
            (op.equalize, Magnitude()),
            (op.rotate, Magnitude(0, 135, whole=True, signed=True)),
            (op.solarize, Magnitude(256, 0, whole=True)),
            (op.color, ENHANCED),
            (op.posterize, Magnitude(8, 2, whole=True)),
            (op.contrast, ENHANCED),
            (op.brightness, ENHANCED),
            (op.sharpness, ENHANCED),
            (op.shear_x, SHEARED),
            (op.shear_y, SHEARED),
            (op.translate_x, SHIFTED),
            (op.translate_y, SHIFTED),
        ),
        levels=(0, 1), steps=30, chains=1, lengths=(1, 1), mixed=False,
    ),
    "augmix": Policy(
        (
            (op.autocontrast, Magnitude()),
            (op.equalize, Magnitude()),
            (op.posterize, Magnitude(4, 0, whole=True)),
            (partial(op.rotate, bilinear=True), Magnitude(0, 30, whole=True, signed=True)),
            (op.solarize, Magnitude(256, 0, whole=True)),
            (partial(op.shear_x, bilinear=True), SLIGHTLY_SHEARED),
            (partial(op.shear_y, bilinear=True), SLIGHTLY_SHEARED),
            (partial(op.translate_x, bilinear=True), SLIGHTLY_SHIFTED),
            (partial(op.translate_y, bilinear=True), SLIGHTLY_SHIFTED),
        ),
        levels=(0.01, 0.3), steps=None, chains=3, lengths=(1, 3), mixed=True,
    ),
}  # fmt: skip


@dataclass
class Chains:
    """Random draws of a policy for each of N images, on one device.

    operations: (N, chains, longest chain) int64, 1 for the policy's first operation; 0 where the chain has ended.
    magnitudes: (N, chains, longest chain) float32, of the operations.
    shares: (N, 1 + chains) float32, weights of the image itself and of each chain's result; their sum is 1.
    """

    policy: Policy
    operations: Tensor
    magnitudes: Tensor
    shares: Tensor

    def tensors(self) -> list[Tensor]:
        return [self.operations, self.magnitudes, self.shares]

    def each(self, change: Callable[[Tensor], Tensor]) -> "Chains":
        """Apply `change` to every tensor, for example to move it or to select some of the images."""
        return Chains(self.policy, *map(change, self.tensors()))


def draw_chains(policy: Policy, count: int, generator: torch.Generator) -> Chains:
    """Draw the chains of `count` images, on the CPU."""
    shape = (count, policy.chains, policy.lengths[1])
    lengths = torch.randint(policy.lengths[0], policy.lengths[1] + 1, shape[:2], generator=generator)
    drawn = torch.randint(1, len(policy.operations) + 1, shape, generator=generator)
    operations = torch.where(torch.arange(shape[2]) < lengths[..., None], drawn, 0)
    if policy.steps is None:
        levels = torch.rand(shape, generator=generator)
    else:
        levels = torch.randint(policy.steps + 1, shape, generator=generator) / policy.steps
    low, high = policy.levels
    levels = low + (high - low) * levels
    negative = torch.rand(shape, generator=generator) < 0.5
    magnitudes = torch.zeros(shape)
    for place, (_, magnitude) in enumerate(policy.operations, start=1):
        magnitudes = torch.where(operations == place, magnitude.at(levels, negative), magnitudes)
    if policy.mixed:  # Dirichlet(1, ..., 1) over the chains, Beta(1, 1) between them and the image
        parts = torch.empty(count, policy.chains).exponential_(generator=generator)
        whole = torch.rand(count, 1, generator=generator)
        shares = torch.cat([1 - whole, whole * parts / parts.sum(1, keepdim=True)], dim=1)
    else:
        shares = torch.tensor([0.0, 1.0]).repeat(count, 1)
    return Chains(policy, operations, magnitudes, shares)


def augment(images: Tensor, chains: Chains) -> Tensor:
    """Augment images (n, H, W, C) uint8 with one or three channels by the draws of n images, on the same device."""
    policy = chains.policy
    number = policy.chains
    results = images.repeat(number, 1, 1, 1)  # chain by chain
    for step in range(policy.lengths[1]):
        operations = chains.operations[:, :, step].T.reshape(-1)
        magnitudes = chains.magnitudes[:, :, step].T.reshape(-1)
        operate = _operate_on_each if images.device.type == "cpu" else _operate_on_all
        results = operate(results, operations, magnitudes, policy)
    if not policy.mixed:
        return results
    shares = chains.shares.T[:, :, None, None, None]
    ends = results.unflatten(0, (number, len(images)))
    return (shares[0] * images + (shares[1:] * ends).sum(0)).round().to(torch.uint8)


def _operate_on_each(images: Tensor, operations: Tensor, magnitudes: Tensor, policy: Policy) -> Tensor:
    """Apply each operation to the images for which it was drawn."""
    results = images.clone()
    for place, (function, _) in enumerate(policy.operations, start=1):
        chosen = (operations == place).nonzero()[:, 0]
        if len(chosen):
            results[chosen] = function(images[chosen], magnitudes[chosen])
    return results


def _operate_on_all(images: Tensor, operations: Tensor, magnitudes: Tensor, policy: Policy) -> Tensor:
    """Apply every operation to all images and select the results, so that no draws are read back from the device."""
    results = images
    for place, (function, _) in enumerate(policy.operations, start=1):
        chosen = (operations == place)[:, None, None, None]
        results = torch.where(chosen, function(images, magnitudes), results)
    return results
