"""Clean images from the embedded digits and from folders of three forms."""

import numpy as np
import pytest

from archives.form import save_clean
from archives.formats import ArchiveError
from archives.sources import digits, from_folder


def test_digits_are_cifar_shaped_and_split_by_class():
    splits = digits(seed=0)
    for split, count in (("train", 1497), ("test", 300)):
        images, labels = splits[split]
        assert images.shape == (count, 32, 32, 3)
        assert images.dtype == np.uint8
        assert np.bincount(labels).min() > 0.09 * count
    assert np.array_equal(splits["test"][0], digits(seed=0)["test"][0])
    assert not np.array_equal(splits["test"][0], digits(seed=1)["test"][0])


@pytest.fixture
def originals():
    from sklearn.datasets import load_digits  # here: it takes two seconds, wherever the tests are collected

    return load_digits()


def test_digits_are_enlarged_exactly(originals):
    """Cubic convolution (Keys 1981, a = -3/4) without rounding before the last: no processor makes other digits."""
    weights = np.zeros((32, 8))
    for row, place in enumerate((np.arange(32) + 0.5) / 4 - 0.5):
        for pixel in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            x = abs(place - pixel)
            near, far = (1.25 * x - 2.25) * x * x + 1, -0.75 * (((x - 5) * x + 8) * x - 4)
            weights[row, np.clip(pixel, 0, 7)] += near if x <= 1 else far
    exact = weights @ originals.images @ weights.T * (255 / 16)
    expected = np.rint(exact.clip(0, 255)).astype(np.uint8)
    splits = digits(seed=0)
    found = np.concatenate([splits[split][0][..., 0] for split in ("train", "test")])
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in expected)


def test_digits_are_the_right_way_up(originals):
    """The mean image of each class, shrunk again, is nearest to the mean of that class in scikit-learn."""
    images, labels = digits(seed=0)["train"]
    small = images[..., 0].reshape(-1, 8, 4, 8, 4).mean((2, 4)) * 16 / 255
    for digit in range(10):
        mean = small[labels == digit].mean(0)
        distances = [
            np.abs(mean - originals.images[originals.target == other].mean(0)).sum() for other in range(10)
        ]
        assert np.argmin(distances) == digit


def test_cifar_batches_are_the_right_way_up(shared):
    splits = from_folder(shared / "data" / "cifar10-subset")
    images, labels = splits["test"]
    assert images.shape[1:] == (32, 32, 3)
    assert splits["train"][0].shape == (5 * 1017, 32, 32, 3)
    # What the first test images show is well known: a cat, two ships, a plane.
    assert labels[:4].tolist() == [3, 8, 8, 0]
    plane = images[3].astype(float)  # its sky is at the top, bluer and lighter than the ground below
    assert plane[:8].mean() > plane[-8:].mean()


def test_mnist_from_idx_files(shared):
    splits = from_folder(shared / "data" / "mnist-subset")
    assert splits["test"][0].shape == (10_000, 28, 28, 1)
    assert splits["train"][0].shape == (14_262, 28, 28, 1)
    assert splits["test"][1][:5].tolist() == [7, 2, 1, 0, 4]


def test_own_arrays_alone_or_under_clean(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 256, (n, 8, 12, 1), dtype=np.uint8), rng.integers(0, 3, n))
        for split, n in (("train", 7), ("test", 5))
    }
    monkeypatch.chdir(tmp_path)
    save_clean(tmp_path / "datasets" / "mine" / "clean", splits)
    for place in ("datasets/mine", "datasets/mine/clean"):
        read = from_folder(tmp_path / place)
        np.testing.assert_array_equal(read["test"][0], splits["test"][0])
    np.testing.assert_array_equal(np.load("datasets/mine/clean/train_labels.npy"), splits["train"][1])
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_floats_from_0_to_1_that_were_cast_are_no_images(tmp_path, split):
    for one in ("train", "test"):
        np.save(tmp_path / f"{one}_images.npy", np.full((4, 8, 8, 3), 1 if one == split else 2, np.uint8))
        np.save(tmp_path / f"{one}_labels.npy", np.zeros(4, int))
    with pytest.raises(ArchiveError, match=rf"{split}_images\.npy holds no value above 1"):
        from_folder(tmp_path)


def test_a_folder_of_nothing_says_what_is_wanted(tmp_path):
    with pytest.raises(ArchiveError, match=r"no folder .*absent"):
        from_folder(tmp_path / "absent")
    with pytest.raises(ArchiveError, match=r"holds none of: \{train,test\}"):
        from_folder(tmp_path)
    for split in ("train", "test"):
        (tmp_path / "classes" / split / "cat").mkdir(parents=True)
    with pytest.raises(ArchiveError, match=r"holds none of: \{train,test\}"):
        from_folder(tmp_path / "classes")
    np.save(tmp_path / "train_images.npy", np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ArchiveError, match=r"train_labels\.npy"):
        from_folder(tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((4, 8, 8, 3), np.float32), np.zeros(4, int), "uint8 of shape"),
        (np.zeros((4, 3, 8, 8), np.uint8), np.zeros(4, int), "1 or 3"),
        (
            np.zeros((4, 8, 8, 3), np.uint8),
            np.zeros(3, int),
            r"labels must be 4 integers, .* got int64 \(3,\)",
        ),
        (np.zeros((4, 8, 8, 3), np.uint8), np.eye(4), r"labels must be 4 integers, .* got float64 \(4, 4\)"),
        (np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) * 250, "from 0 to 255, got 0 to 750"),
        (np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) % 2 + 1, "classes without training images: 2"),
    ],
)
def test_wrong_arrays_are_refused_before_anything_is_written(tmp_path, images, labels, message):
    good = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) % 2
    with pytest.raises(ValueError, match=message):
        save_clean(tmp_path / "clean", {"train": good, "test": (images, labels)})
    assert not (tmp_path / "clean").exists()


def test_splits_of_different_shapes_are_refused(tmp_path):
    labels = np.zeros(4, int)
    splits = {
        "train": (np.zeros((4, 8, 8, 3), np.uint8), labels),
        "test": (np.zeros((4, 9, 8, 3), np.uint8), labels),
    }
    with pytest.raises(ValueError, match="differ in shape"):
        save_clean(tmp_path / "clean", splits)
