"""Draw docs/layer.png: a push kernel, its pull kernel, and their responses to a digit without and with noise.

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


def digit() -> np.ndarray:
    """A handwritten four as (1, 32, 32, 1) uint8."""
    small = torch.tensor(load_digits().images[4][None, None])
    large = torch.nn.functional.interpolate(small, size=32, mode="bicubic", align_corners=False)
    return (large * (255 / 16)).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def responses(images: np.ndarray, push: Tensor) -> tuple[np.ndarray, ...]:
    """The image, its rectified push and pull responses, and their difference; (32, 32) each."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255.0
    both = push_pull_conv2d(x, push, padding=2, dual_output=True)[0]
    difference = push_pull_conv2d(x, push, padding=2)[0, 0].relu()
    return x[0, 0].numpy(), both[0].numpy(), both[1].numpy(), difference.numpy()


def draw() -> bytes:
    matplotlib.use("Agg")
    push = torch.tensor([[-3.0, 1.0, 4.0, 1.0, -3.0]]).expand(5, 5)[None, None] / 30  # a bar; the sum is 0
    clean = digit()
    noisy = corrupt(clean, "gaussian_noise", severity=5, seed=0)
    figure, axes = plt.subplots(2, 5, figsize=(10, 4.4), layout="constrained")
    kernels = {"push kernel $k$": push[0, 0], "pull kernel $-k\\!\\uparrow$": pull_kernel(push)[0, 0]}
    for axis, (title, kernel) in zip(axes[:, 0], kernels.items(), strict=True):
        axis.imshow(kernel, cmap="RdBu_r", vmin=-0.13, vmax=0.13)
        axis.set_title(title, fontsize=10)
    limits = (1.0, 0.3, 1.0, 0.3)  # the pull kernel has more values, and larger responses
    titles = (("image", "push response", "pull response", "push $-$ pull"), ("image with noise", "", "", ""))
    for row, images, names in zip(axes[:, 1:], (clean, noisy), titles, strict=True):
        for axis, picture, name, limit in zip(row, responses(images, push), names, limits, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=limit)
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
