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


def test_sets_in_one_file_get_the_bits_of_each_alone():
    """No batch holds images of two sets, so nothing depends on what else the file holds."""
    images = np.random.default_rng(2).integers(0, 256, (5 * 13, 16, 16, 3), dtype=np.uint8)
    sizes = []

    def net(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return F.conv2d(x, torch.ones(4, 3, 16, 16)).flatten(1)

    together = predict(net, images, batch_size=8, sets=5)
    assert sizes == [8, 5] * 5
    alone = [predict(net, part, batch_size=8) for part in np.split(images, 5)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_what_is_computed_ahead_comes_in_order_and_its_errors_too():
    from robustness.benchmark import _ahead

    running = []

    def call(name: str) -> str:
        running.append(name)
        if name == "d":
            raise ValueError("d is damaged")
        return name.upper()

    found = _ahead(call, "abcd")
    assert next(found) == "A" and "c" not in running  # one ahead, no more: results of all would not fit
    assert [next(found), next(found)] == ["B", "C"]
    with pytest.raises(ValueError, match="d is damaged"):
        next(found)
