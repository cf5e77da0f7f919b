"""Sets of JPEG images in one file: read as they are, in a mixed order."""

import cv2
import numpy as np
import pytest

from archives.formats import ArchiveError
from archives.jpeg_set import read_jpeg_set
from tests.archives.miniatures import jpeg_arrays


def test_images_come_out_in_rgb_with_their_labels_and_mixed(tmp_path):
    arrays, images = jpeg_arrays()
    np.savez(tmp_path / "set.npz", **arrays)
    for read, labels in read_jpeg_set(tmp_path / "set.npz").values():
        assert read.dtype == np.uint8 and read.shape == images.shape
        assert sorted(labels) == sorted(arrays["test_labels"])
        for channel in range(3):
            expected = images[labels * 10, :, :, channel].astype(int)
            assert (
                abs(read[..., channel] - expected).max() < 12
            )  # what the compression leaves of flat colours
        assert len(set(labels[:10])) == 3
    again = read_jpeg_set(tmp_path / "set.npz")["test"][1]
    np.testing.assert_array_equal(again, labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("test_labels"), "lacks test_labels"),
        (lambda a: a.update(train_offsets=a["train_offsets"][:-1]), "train_offsets must rise"),
        (lambda a: a.update(train_offsets=a["train_offsets"][::-1]), "train_offsets must rise"),
        (lambda a: a.update(train_bytes=a["train_bytes"][:-1]), "train_offsets must rise"),
        (lambda a: a.update(test_offsets=swapped(a["test_offsets"], 4, 5)), "test_offsets must rise"),
        (lambda a: a.update(test_labels=a["test_labels"] * 0.5), "test_labels must be a 1-D integer array"),
        (lambda a: a["test_bytes"].__setitem__(slice(0, 20), 0), "image 0 of test is not a JPEG file"),
        (lambda a: a.update(other_sizes(a)), "others are"),
    ],
)
def test_a_file_of_another_form_is_one_error(tmp_path, change, message):
    arrays, _ = jpeg_arrays()
    change(arrays)
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ArchiveError, match=message) as error:
        read_jpeg_set(tmp_path / "set.npz")
    assert "cannot be read" not in str(error.value)


def swapped(offsets: np.ndarray, *places: int) -> np.ndarray:
    """Without a sign, in which the difference of two is never below 0."""
    offsets = offsets.astype(np.uint64)
    offsets[list(places)] = offsets[list(reversed(places))]
    return offsets


def other_sizes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    small = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1]
    return {
        "test_bytes": np.concatenate([arrays["test_bytes"], small]),
        "test_offsets": np.append(arrays["test_offsets"], arrays["test_offsets"][-1] + len(small)),
        "test_labels": np.append(arrays["test_labels"], 0),
    }


def test_no_file_and_a_damaged_one(tmp_path):
    with pytest.raises(ArchiveError, match=r"set\.npz cannot be read"):
        read_jpeg_set(tmp_path / "set.npz")
    np.save(tmp_path / "set.npy", np.zeros(3))
    with pytest.raises(ArchiveError, match=r"set\.npy cannot be read: not an \.npz file"):
        read_jpeg_set(tmp_path / "set.npy")
    np.savez(tmp_path / "set.npz", **jpeg_arrays()[0])
    whole = (tmp_path / "set.npz").read_bytes()
    (tmp_path / "set.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match=r"set\.npz cannot be read"):
        read_jpeg_set(tmp_path / "set.npz")


def test_the_real_file(shared):
    splits = read_jpeg_set(shared / "data" / "cifar10-jpeg.npz")
    assert splits["train"][0].shape == (50_000, 32, 32, 3) and splits["test"][0].shape == (10_000, 32, 32, 3)
    assert np.bincount(splits["train"][1][:5000]).min() > 400
    # The mean of the channels is CIFAR-10's, so red is the first.
    np.testing.assert_allclose(splits["train"][0][:5000].mean((0, 1, 2)), (125.3, 123.0, 113.9), atol=2)
