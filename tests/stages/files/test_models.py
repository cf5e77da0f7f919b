"""The file of a trained net: what was saved comes back, and a damaged or hostile file is one line."""

import io
import os
import zipfile

import click
import pytest
import torch

from nets.registry import create_net
from stages.files import models
from stages.files.trained import Trained

OPTIONS = {"pushpull": "first", "num_classes": 3, "in_channels": 1}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("models") / "small.pt"
    weights = {seed: create_net("resnet14", **OPTIONS).state_dict() for seed in (0, 5)}
    Trained("resnet14", OPTIONS, [0.5], [0.2], weights).save(path)
    return path.read_bytes()


def packed(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def changed(saved: bytes, **parts) -> bytes:
    return packed(torch.load(io.BytesIO(saved), weights_only=True) | parts)


def flipped(saved: bytes) -> bytes:
    """One bit of the largest tensor the other way: PyTorch loads it without a word."""
    with zipfile.ZipFile(io.BytesIO(saved)) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    place = saved.index(b"PK", largest.header_offset) + 1000
    content = bytearray(saved)
    content[place] ^= 64
    torch.load(io.BytesIO(bytes(content)), weights_only=True)
    return bytes(content)


class Hostile:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_what_was_saved_is_loaded(saved, tmp_path):
    (tmp_path / "small.pt").write_bytes(saved)
    trained = models.load(tmp_path / "small.pt")
    assert (trained.arch, trained.options, trained.mean) == ("resnet14", OPTIONS, [0.5])
    written = torch.load(io.BytesIO(saved), weights_only=True)["weights"]
    for seed in (0, 5):
        for name, value in trained.net(seed).state_dict().items():
            assert torch.equal(value, written[seed][name])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda saved: b"", "it is damaged"),
        (lambda saved: b"<html>404</html>", "it is damaged"),
        (lambda saved: saved[: len(saved) // 2], "it is damaged"),
        (flipped, "the checksum of .*data.* is wrong"),
        (lambda saved: packed(Hostile("touch hacked")), "it is damaged, or holds more than tensors"),
        (lambda saved: packed([1, 2]), "unexpected content"),
        (lambda saved: packed({"state_dict": {}}), "unexpected content"),
        (lambda saved: changed(saved, arch="resnet20"), "the weights of seed 0 are not those of a resnet20"),
        (lambda saved: changed(saved, weights={1: {"conv1.weight": 3}}), "the weights of seed 1 are not"),
        (lambda saved: changed(saved, weights=[1]), "unexpected content"),
        (lambda saved: changed(saved, options={"pushpull": "sometimes"}), "sometimes"),
    ],
)
def test_another_file_is_one_line_with_the_command_that_makes_it_anew(
    saved, damage, reason, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.pt").write_bytes(damage(saved))
    with pytest.raises(click.ClickException, match=rf"small\.pt is not a trained net: .*{reason}") as caught:
        models.load(tmp_path / "small.pt")
    assert caught.value.message.endswith("; `dvc repro -f -s train@small` retrains it")
    assert "\n" not in caught.value.message
    assert not (tmp_path / "hacked").exists()
