"""The recipe of a training: all that decides its weights besides net, images and torch."""

from dataclasses import dataclass
from typing import Literal

from training.augmentation import Augmentation

Precision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum on cropped and mirrored images, as in the paper (section 4.2.2), or augmented ones.

    The paper trains ResNets for 200 epochs in batches of 128, at learning rate 0.1 with milestones 80, 120 and 160;
    DenseNets for 350 epochs in batches of 64 with milestones 150, 225 and 300. Momentum is 0.9, weight decay 1e-4.

    Attributes:
        epochs: passes over the training images, 1 or more.
        batch_size: images of a step, over all processes, 1 or more.
        lr: learning rate of the first epoch, above 0.
        momentum: above 0, below 1.
        weight_decay: factor of the weights that is added to their gradient, 0 or more.
        milestones: rising epochs, counted from 1, after each of which the learning rate drops to a tenth.
        flip: mirror half of the images, each drawn on its own.
        seed: decides every draw, with the epoch; 0 or more.
        precision: of the training; weights, optimizer and the test error stay float32. `fp32` computes as it says;
            `tf32` rounds the factors of products to 10 bits (CUDA alone); `bf16` is autocast to bfloat16.
        augment: what is done to the crops besides, as `training.augmentation` says; nothing in the paper.
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
        """Learning rate of an epoch counted from 1."""
        return self.lr * 0.1 ** sum(epoch > milestone for milestone in self.milestones)
