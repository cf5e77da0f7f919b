"""Training recipe: everything that determines the trained weights besides net, images and torch."""

from dataclasses import dataclass
from typing import Literal

from training.augmentation import Augmentation

Precision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum on cropped and mirrored images (paper, section 4.2.2), optionally augmented.

    The paper trains ResNets for 200 epochs in batches of 128, at learning rate 0.1 with milestones 80, 120 and 160;
    DenseNets for 350 epochs in batches of 64 with milestones 150, 225 and 300. Momentum is 0.9, weight decay 1e-4.

    Attributes:
        epochs: passes over the training images, 1 or more.
        batch_size: images per step, over all processes, 1 or more.
        lr: learning rate of the first epoch, above 0.
        momentum: above 0, below 1.
        weight_decay: L2 penalty; the gradient is increased by this factor times the weights, 0 or more.
        milestones: increasing epochs, counted from 1, after each of which the learning rate drops to a tenth.
        flip: mirror each image with probability 0.5.
        seed: determines, with the epoch, every random draw; 0 or more.
        precision: of the training; weights, optimizer and the test error stay in float32. `fp32` computes in float32,
            `tf32` rounds the factors of products to 10 bits (CUDA only), `bf16` is autocast to bfloat16.
        augment: augmentation of the crops, see `training.augmentation`; the paper uses none.
    """

    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    milestones: tuple[int, ...]
    flip: bool
    seed: int
    precision: Precision = "fp32"
    augment: Augmentation = "none"

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of `epoch`, counted from 1."""
        return self.lr * 0.1 ** sum(epoch > milestone for milestone in self.milestones)
