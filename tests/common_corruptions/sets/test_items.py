"""The benchmark on a map-style data set: the same figures as on its images in an array, and what is refused."""

import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.transforms import v2

from common_corruptions import benchmark
from common_corruptions.sets.any_data import open_data

COUNT = 20
IMAGES = np.random.default_rng(0).integers(256, size=(COUNT, 24, 32, 3), dtype=np.uint8)
LABELS = np.arange(COUNT) ** 2 % 3  # not the same when rolled or reversed
CHOSEN = {"corruptions": ["gaussian_noise", "fog"], "perturbations": ["tilt"], "seed": 5}


class Pictures(Dataset):
    """As torchvision's: PIL images, `targets` that a `target_transform` changes, a transform."""

    def __init__(self, transform=None, item=lambda image, label: (image, label), images=IMAGES):
        self.transform, self.item, self.images = transform, item, images
        self.targets = [7] * COUNT

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = Image.fromarray(self.images[index])
        return self.item(image if self.transform is None else self.transform(image), int(LABELS[index]))


class Named(NamedTuple):
    image: Image.Image
    label: int


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 32, 3))


def measured(data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return benchmark(net(), data, progress=False, **CHOSEN, **options)


@pytest.fixture(scope="module")
def expected():
    return measured((IMAGES, LABELS))


@pytest.mark.parametrize(
    "data",
    [
        Pictures(),
        Pictures(v2.ToImage()),
        Pictures(v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])),
        Pictures(np.asarray),
        Pictures(item=lambda image, label: [image, torch.tensor(label), "another.png"]),
        Pictures(item=Named),
        Pictures(item=lambda image, label: {"img": image, "label": np.int64(label), "coarse_label": 1}),
        Pictures(item=lambda image, label: {"id": "a", "pixels": np.asarray(image), "class": label}),
        Subset(
            [(image, 0) for image in IMAGES[::-1]] + list(zip(IMAGES, LABELS, strict=True)),
            range(COUNT, 2 * COUNT),
        ),
        TensorDataset(torch.from_numpy(IMAGES).permute(0, 3, 1, 2), torch.from_numpy(LABELS)),
    ],
    ids=[
        "PIL",
        "tv_tensor",
        "floats",
        "arrays",
        "list",
        "named tuple",
        "dict",
        "dict of arrays",
        "subset",
        "tensors",
    ],
)
def test_the_figures_are_those_of_the_images_in_an_array(data, expected):
    table, summary = measured(data)
    assert table.equals(expected[0])
    assert summary == expected[1]
    assert type(data).__name__ in table.attrs["data"]


def test_answers_are_kept_and_known_by_the_bytes_of_the_items(tmp_path, expected):
    options = {"answers": tmp_path / "answers"}
    measured(Pictures(), **options)
    kept = {path: path.stat().st_mtime_ns for path in options["answers"].rglob("*.npz")}
    assert measured(Pictures(), **options)[0].equals(expected[0])
    assert kept == {path: path.stat().st_mtime_ns for path in options["answers"].rglob("*.npz")}
    changed = IMAGES.copy()
    changed[7, 0, 0, 0] ^= 255
    with pytest.warns(UserWarning, match="measured anew"):
        benchmark(net(), Pictures(images=changed), progress=False, **CHOSEN, **options)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Pictures())


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            DataLoader(Pictures()),
            TypeError,
            "give the data set that is behind the DataLoader: its attribute `dataset`",
        ),
        (Stream(), TypeError, "Stream has no length"),
        (Pictures(images=IMAGES[:0]), ValueError, "the data set has no items"),
        (IMAGES, TypeError, r"give \(images, labels\), and not a ndarray of images without labels"),
        (Image.fromarray(IMAGES[0]), TypeError, "images without labels"),
        (Pictures(item=lambda image, label: image), TypeError, "item 0 of the data set has no label"),
        (
            Pictures(item=lambda image, label: (image, float(label))),
            TypeError,
            "item 0 of the data set has no label",
        ),
        (
            Pictures(item=lambda image, label: {"img": image, "fine_label": label, "coarse_label": 1}),
            TypeError,
            "item 0 .* several integers, fine_label, coarse_label: which is the label",
        ),
        (Pictures(item=lambda image, label: (image, label - 1)), ValueError, "labels"),
        (
            Pictures(v2.RandomCrop(24)),
            ValueError,
            r"item \d+ of the data set is another image when it is read again",
        ),
        (
            Pictures(
                v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])])
            ),
            ValueError,
            "item 0 .* before they are normalised",
        ),
        (
            Pictures(images=[*IMAGES[:5], IMAGES[5, :20]]),
            ValueError,
            r"item 5 .* \(20, 32, 3\), and item 0 of \(24, 32, 3\): all must have one size",
        ),
    ],
)
def test_one_clear_error_before_anything_is_measured(data, error, message):
    with pytest.raises(error, match=message):
        open_data(data, ["fog"])
