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
        Pictures(item=lambda image, label: {"id": 3, "pixels": np.asarray(image), "label": label}),
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
    with pytest.warns(UserWarning, match="measured again"):
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
            "give the data set behind the DataLoader: its attribute `dataset`",
        ),
        (Stream(), TypeError, "Stream needs a length"),
        (Pictures(images=IMAGES[:0]), ValueError, "the data set has no items"),
        (IMAGES, TypeError, r"give \(images, labels\), not a ndarray of images without labels"),
        (Image.fromarray(IMAGES[0]), TypeError, "images without labels"),
        (
            Pictures(images=[*IMAGES[:5], IMAGES[5, :20]]),
            ValueError,
            r"item 5 .* 20 x 32 pixels \(height x width\), but item 0 has 24 x 32: all must have one size",
        ),
        (
            Pictures(images=[*IMAGES[:3], IMAGES[3, ..., 0]]),
            ValueError,
            "item 3 .* is grey, but item 0 is RGB",
        ),
    ],
)
def test_one_clear_error_before_anything_is_measured(data, error, message):
    with pytest.raises(error, match=message):
        open_data(data, ["fog"])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (lambda image, label: image, "item 0 of the data set has no label"),
        (lambda image, label: (image, float(label)), "item 0 .* an integer from 0, not 0.0"),
        (lambda image, label: (image, label - 1), "item 0 .* an integer from 0, not -1"),
        (lambda image, label: (image, torch.tensor(True)), r"an integer from 0, not tensor\(True\)"),
        (lambda image, label: (image, np.eye(3)[label]), r"not ndarray of shape \(3,\)"),
        (lambda image, label: (image, 7, label), "item 0 .* several integers, any of which may be the label"),
        (lambda image, label: {"img": image, "id": label}, "no key `label` among img, id"),
        (lambda image, label: {"img": image, "label": "cat", "id": label}, "from 0, not 'cat'"),
        (lambda image, label: {"img": image, "label": label > 0, "id": label}, "not (True|False)"),
    ],
)
def test_a_label_is_one_integer_that_is_called_so(item, message):
    """Another integer taken for it would give errors that look like a net's."""
    with pytest.raises(TypeError, match=message):
        open_data(Pictures(item=item), ["fog"])


def test_normalised_images_are_refused():
    chain = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]
    with pytest.raises(ValueError, match=r"item 0 .* before they are normalised"):
        open_data(Pictures(v2.Compose(chain)), ["fog"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"corruptions": ["fogg"]}, "did you mean 'fog'"),
        ({"corruptions": []}, "nothing to measure"),
        ({"severities": [6]}, "from 1 to 5"),
        ({"seed": 0.0}, "seed must be an integer"),
        ({"scale": "mnist"}, "scale must be"),
    ],
)
def test_arguments_are_refused_before_the_items_are_read(wrong, message):
    class Unread(Pictures):
        def __getitem__(self, index):
            raise AssertionError("read")

    with pytest.raises((TypeError, ValueError), match=message):
        open_data(Unread(), **wrong)


def test_an_image_that_is_another_when_it_is_read_again_stops_the_measurement():
    """One of all, as after a RandomGrayscale that draws seldom."""

    class Sometimes(Pictures):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            image, label = super().__getitem__(index)
            drawn = self.reads == 3 * COUNT // 2
            return (image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if drawn else image), label

    with pytest.raises(ValueError, match=r"item \d+ of the data set is another image when it is read again"):
        measured(Sometimes())


def test_an_item_that_cannot_be_read_is_named():
    class Broken(Pictures):
        def __getitem__(self, index):
            return {}["gone"] if index == 5 else super().__getitem__(index)

    with pytest.raises(
        ValueError, match=r"item 5 .* cannot be read: KeyError: 'gone' \(\S+test_items\.py:\d+\)"
    ):
        open_data(Broken(), ["fog"])


def test_a_buffer_that_is_used_again_is_no_fault(expected):
    class Reusing(Pictures):
        buffer = np.empty_like(IMAGES[0])

        def __getitem__(self, index):
            self.buffer[:] = self.images[index]
            return self.buffer, int(LABELS[index])

    assert measured(Reusing())[0].equals(expected[0])


def test_a_net_of_another_number_of_classes_than_the_data_set_names_is_refused():
    data = Pictures()
    data.classes = ["cat", "dog", "fox", "owl"]
    with pytest.raises(ValueError, match="3 classes"):
        measured(data)


def test_a_set_with_a_shape_is_one():
    """As Hugging Face's data sets are."""

    class Table(Pictures):
        shape = (COUNT, 2)

    assert measured(Table())[1]["images"] == COUNT
