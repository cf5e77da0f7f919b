"""Answers of nets on the device against those on the CPU."""

import functools

import numpy as np
import pytest
import torch

from common_corruptions.evaluation import memory_format, outputs, predict, predict_ranks
from common_corruptions.evaluation.folding import fold_norms
from common_corruptions.metrics import ordinal_ranks
from nets.registry import create_net

OPTIONS = {"mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26], "batch_size": 13}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@functools.cache  # nothing here changes a net
def net_on(device, arch: str, pushpull: str | None) -> torch.nn.Module:
    torch.manual_seed(0)
    net = create_net(arch, pushpull=pushpull)
    return net.to(device, memory_format=memory_format(device)).eval()


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize(("arch", "pushpull"), [("resnet20", None), ("resnet20", "first"), ("alexnet", None)])
def test_logits_are_those_of_the_cpu(device, images, arch, pushpull, fold):
    nets = [net_on(where, arch, pushpull) for where in (device, "cpu")]
    ours, theirs = (predict(fold_norms(net) if fold else net, images, **OPTIONS) for net in nets)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_ranks_are_those_of_the_logits(device, images):
    net = net_on(device, "resnet20", "first")
    np.testing.assert_array_equal(
        predict_ranks(net, images, **OPTIONS), ordinal_ranks(predict(net, images, **OPTIONS))
    )


def test_images_that_lie_on_the_device_get_the_same_answers(device, images):
    net = net_on(device, "resnet20", "first")
    there = torch.from_numpy(images).to(device)
    found = torch.cat(list(outputs(net, there, **OPTIONS))).cpu().numpy()
    np.testing.assert_array_equal(found, predict(net, images, **OPTIONS))
