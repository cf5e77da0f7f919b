"""Where clean images come from: the embedded digits, or a folder of the user's."""

from pathlib import Path

import click
import cv2
import numpy as np

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def digits(seed: int) -> Splits:
    """Scikit-learn's handwritten digits as 32 x 32 RGB: 1,297 training and 500 test images, split by class.

    The 8 x 8 images of 17 grey levels are enlarged by cubic interpolation.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    grey = (images.reshape(-1, 8, 8) * (255 / 16)).astype(np.float32)
    large = np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_CUBIC) for image in grey])
    rgb = np.repeat(np.rint(large.clip(0, 255)).astype(np.uint8)[..., None], 3, axis=3)
    train, test = train_test_split(np.arange(len(rgb)), test_size=500, stratify=labels, random_state=seed)
    return {"train": (rgb[train], labels[train]), "test": (rgb[test], labels[test])}


def folder(path: Path) -> Splits:
    """A set in our own form (`{train,test}_{images,labels}.npy`, alone or under `clean/`).

    Raises:
        click.ClickException: a file is missing or is no array.
    """
    base = path / "clean" if (path / "clean").is_dir() else path
    splits = {}
    for split in ("train", "test"):
        arrays = []
        for part in ("images", "labels"):
            file = base / f"{split}_{part}.npy"
            try:
                arrays.append(np.load(file, mmap_mode="r"))
            except FileNotFoundError:
                raise click.ClickException(
                    f"no {file}; data.path must hold CIFAR's python batches or "
                    "{train,test}_{images,labels}.npy (uint8 NHWC, integers)"
                ) from None
            except (ValueError, EOFError) as error:
                raise click.ClickException(f"{file} is not an array: {error}") from None
        splits[split] = tuple(arrays)
    return splits
