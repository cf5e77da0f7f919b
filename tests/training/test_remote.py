"""A training as a task: what it sends, and which checkpoints it goes on from."""

import functools
import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from nets.registry import create_net
from tests.training.short import RECIPE
from training import remote

CREATE = functools.partial(create_net, "resnet14", pushpull="first")


class Handle:
    """The mailbox as a task sees it, in this process."""

    def __init__(self) -> None:
        self.mailbox = remote.Mailbox()
        self.put = self
        self.epochs: list[int] = []

    def remote(self, job, epoch, checkpoint) -> None:
        self.epochs.append(epoch)
        self.mailbox.put(job, epoch, checkpoint)


def train(recipe=RECIPE, device="cpu", saved=None):
    """The handle, and the checkpoint that the task returns."""
    random = np.random.default_rng(0)
    images = [
        part
        for count in (33, 15)
        for part in (random.integers(0, 256, (count, 8, 8, 3), np.uint8), random.integers(0, 10, count))
    ]
    handle = Handle()
    last = remote.train_task(CREATE, images, ([0.5] * 3, [0.25] * 3), recipe, device, saved, "job", handle)
    return handle, torch.load(io.BytesIO(last), weights_only=True)


def same_weights(ours: dict, theirs: dict) -> bool:
    return all(
        torch.equal(value, theirs["state"]["net"][name]) for name, value in ours["state"]["net"].items()
    )


def test_a_task_sends_its_epochs_and_goes_on_from_what_it_sent(monkeypatch):
    monkeypatch.setattr(remote, "SECONDS_BETWEEN", -1)
    handle, whole = train()
    assert handle.epochs == [0, 1, 2]
    epochs, sent = handle.mailbox.take()
    assert epochs == {"job": 2}
    assert same_weights(torch.load(io.BytesIO(sent["job"]), weights_only=True), whole)
    assert handle.mailbox.take() == ({"job": 2}, {})

    _, begun = train(replace(RECIPE, epochs=1))
    handle, resumed = train(saved=begun)
    assert handle.epochs == [1, 2]
    assert same_weights(resumed, whole)


def test_an_unfinished_checkpoint_of_other_hardware_is_not_taken_up():
    _, begun = train(replace(RECIPE, epochs=1))
    handle, whole = train(saved={**begun, "device": "another"})
    assert handle.epochs == [0, 1, 2]
    handle, again = train(saved={**whole, "device": "another"})
    assert handle.epochs == [2]
    assert same_weights(again, whole)


@pytest.mark.parametrize(
    ("recipe", "device", "message"),
    [
        (RECIPE, "cuda", "device is cuda, but torch finds no GPU here"),
        (replace(RECIPE, precision="tf32"), "cpu", "tf32 needs a CUDA GPU, but the device is cpu"),
    ],
)
def test_what_the_machine_cannot_do_is_an_error(monkeypatch, recipe, device, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        train(recipe, device)
