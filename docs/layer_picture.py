"""Draw docs/layer.png: a push kernel, its two pull kernels, and the responses to a digit without and with noise.

python -m docs.layer_picture
"""

import io
import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from common_corruptions import corrupt
from pushpull import pull_kernel, push_pull_conv2d

PICTURE = Path(__file__).with_name("layer.png")
FORMS = ({}, {"pull": "complementary", "average_size": 3})


def digit() -> np.ndarray:
    """A handwritten four as (1, 32, 32, 1) uint8."""
    small = torch.tensor(load_digits().images[4][None, None])
    large = torch.nn.functional.interpolate(small, size=32, mode="bicubic", align_corners=False)
    return (large * (255 / 16)).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def responses(images: np.ndarray, push: Tensor) -> list[np.ndarray]:
    """The image, its rectified push response; and the pull response of each form and the difference; (32, 32) each."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255.0
    image, x = x[0, 0], x - x.mean()  # as a net sees it
    shown = [image, push_pull_conv2d(x, push, padding=2, alpha=0)[0, 0]]
    for form in FORMS:
        difference = push_pull_conv2d(x, push, padding=2, **form)[0, 0]
        shown += [shown[1] - difference, difference.relu()]
    return [picture.numpy() for picture in shown]


def draw() -> bytes:
    matplotlib.use("Agg")
    push = (
        torch.tensor([[-3.75, 1.75, 4.0, 1.75, -3.75]]).expand(5, 5)[None, None] / 38
    )  # a bar; the sum is 0
    clean = digit()
    noisy = corrupt(clean, "gaussian_noise", severity=5, seed=0)
    figure, axes = plt.subplots(3, 6, figsize=(11, 5.8), layout="constrained")
    kernels = {
        1: ("push kernel $k$", push),
        2: ("$-k\\!\\uparrow$ (2020)", pull_kernel(push)),
        4: ("$-k + \\max k + \\min k$ (2024)", pull_kernel(push, pull="complementary")),
    }
    for column, (title, kernel) in kernels.items():
        axes[0, column].imshow(kernel[0, 0], cmap="RdBu_r", vmin=-0.13, vmax=0.13)
        axes[0, column].set_title(title, fontsize=10)
    # The enlarged kernel has more values, and larger responses: they are drawn on a scale of their own.
    limits = (1.0, 0.3, 1.5, 0.3, 0.3, 0.3)
    titles = ("image", "push response", "pull response", "push $-$ pull", "pull response", "push $-$ pull")
    for row, images, names in zip(axes[1:], (clean, noisy), (titles, ("with noise",)), strict=True):
        for axis, picture, limit in zip(row, responses(images, push), limits, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=limit)
        for axis, name in zip(row, names, strict=False):
            axis.set_title(name, fontsize=10)
    for axis in axes.flat:
        axis.set_axis_off()
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
    return content.getvalue()


def main() -> None:
    temporary = PICTURE.with_name(PICTURE.name + ".part")
    temporary.write_bytes(draw())
    os.replace(temporary, PICTURE)


if __name__ == "__main__":
    main()
