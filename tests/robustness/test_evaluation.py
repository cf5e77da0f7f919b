"""Running a net over images on disk: the same logits as in one go, from batches read ahead."""

import itertools
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustness.evaluation import float32_as, predict, predict_ranks
from robustness.metrics import ordinal_ranks
from robustness.staging import slices, staged


@pytest.fixture
def mapped(tmp_path) -> np.ndarray:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (23, 6, 6, 3), dtype=np.uint8))
    return np.load(tmp_path / "images.npy", mmap_mode="r")


@pytest.mark.parametrize("batch_size", [None, 1, 5, 23, 100])
def test_logits_are_those_of_the_whole_set_at_once(mapped, batch_size):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 7)).eval()
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    inputs = (torch.from_numpy(mapped / 255 - mean) / torch.tensor(std)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = net(inputs).numpy()
    logits = predict(net, mapped, mean=mean, std=std, batch_size=batch_size)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_any_callable_on_values_0_to_1(mapped):
    logits = predict(lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), mapped)
    np.testing.assert_allclose(logits, mapped.mean((1, 2)) / 255, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 10, 300])
def test_ranks_are_those_of_the_logits_with_the_lower_class_first_among_equals(mapped, classes):
    torch.manual_seed(0)
    linear = nn.Linear(108, classes)

    def net(x):
        return linear(x.flatten(1)).round(decimals=1)  # with many equal logits

    ranks = predict_ranks(net, mapped, batch_size=5)
    expected = ordinal_ranks(predict(net, mapped, batch_size=5))
    assert ranks.dtype == expected.dtype
    np.testing.assert_array_equal(ranks, expected)


def test_no_ranks_of_nan(mapped):
    with pytest.raises(ValueError, match="logits contain NaN"):
        predict_ranks(lambda x: x.flatten(1)[:, :3].where(x.sum() < 0, torch.nan), mapped, batch_size=5)


def test_an_error_of_the_net_comes_through(mapped):
    def broken(x):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        predict(broken, mapped, batch_size=2)


def test_parts_come_in_order_and_the_reader_ends(mapped):
    parts = [*slices(23, 4), np.array([5, 0, 5]), np.array([], dtype=np.int64)]
    for part, got in zip(parts, staged(mapped, parts, "cpu"), strict=True):
        np.testing.assert_array_equal(got.numpy(), mapped[part])
    first = next(iter(staged(mapped, itertools.repeat(slice(0, 2)), "cpu")))  # given up in the middle
    assert first.shape == (2, 6, 6, 3)
    assert not any(thread.name.startswith("staging") for thread in threading.enumerate())


def test_precision_of_cuda_is_set_back():
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = conv.fp32_precision, matmul.fp32_precision
    with float32_as("tf32"):
        assert (conv.fp32_precision, matmul.fp32_precision) == ("tf32", "tf32")
        with float32_as("ieee"):
            assert (conv.fp32_precision, matmul.fp32_precision) == ("ieee", "ieee")
    assert (conv.fp32_precision, matmul.fp32_precision) == before
