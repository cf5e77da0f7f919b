"""Data sets on the disk, as the stages find them."""

import re

import click
import numpy as np
import pytest

from archives.form import save_clean
from stages.files.datasets import Split, count_classes, full_name, load_split


def test_every_set_is_called_what_it_is():
    assert full_name("mine", 509) == "mine"
    assert full_name("cifar10") == full_name("cifar10-authors", 10_000) == "CIFAR-10"
    assert full_name("cifar10-authors", 509) == "CIFAR-10, the first 509 test images"
    assert full_name("cifar10-jpeg") == "cifar10-jpeg (a lossy JPEG copy of CIFAR-10)"


def test_either_part_of_a_set_may_lack_the_last_class():
    images = np.zeros((3, 8, 8, 3), np.uint8)
    few, many = (Split(images, np.array(labels, np.uint8)) for labels in ([0, 1, 0], [0, 1, 2]))
    assert count_classes(few, many) == count_classes(many, few) == 3
    assert count_classes(few, few) == 2


@pytest.mark.parametrize("file", ["train_images", "train_labels"])
def test_a_clean_set_that_was_damaged_is_one_line(tmp_path, monkeypatch, file):
    splits = {split: (np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, int)) for split in ("train", "test")}
    monkeypatch.chdir(tmp_path)
    save_clean(tmp_path / "datasets" / "mine" / "clean", splits)
    path = tmp_path / "datasets" / "mine" / "clean" / f"{file}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(click.ClickException, match=rf"{re.escape(file)}.*`dvc repro fetch`"):
        load_split("mine", "train")
