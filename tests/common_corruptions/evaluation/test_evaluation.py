"""Running a net over images on disk: the same logits as in one go, from batches read ahead."""

import copy
import itertools
import math
import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common_corruptions.benchmarking.per_image import answer_images
from common_corruptions.evaluation import float32_as, predict, predict_ranks
from common_corruptions.logits import UndefinedLogits
from common_corruptions.metrics import classification_error, ordinal_ranks
from common_corruptions.sets.staging import slices, staged


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


class Nearest(nn.Module):
    """Distances to buffers, in a net without parameters."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("centres", torch.rand(5, 108, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return -torch.cdist(x.flatten(1), self.centres)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_net_of_buffers_alone_gets_images_of_their_type(mapped, dtype):
    net = Nearest().to(dtype)
    pixels = mapped.transpose(0, 3, 1, 2).reshape(23, -1) / 255
    expected = -np.linalg.norm(pixels[:, None] - net.centres.double().numpy(), axis=2)
    np.testing.assert_allclose(predict(net, mapped, batch_size=5), expected, rtol=1e-5)


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
    with pytest.raises(UndefinedLogits, match="logits contain NaN"):
        predict_ranks(lambda x: x.flatten(1)[:, :3].where(x.sum() < 0, torch.nan), mapped, batch_size=5)


@pytest.mark.parametrize(
    ("row", "defined"),
    [
        ([math.inf, math.inf, 0.0], False),
        ([math.inf, -math.inf, math.inf], False),
        ([-math.inf, -math.inf, -math.inf], False),
        ([math.inf, -math.inf, 0.0], True),
        ([-math.inf, -math.inf, 0.0], True),
        ([1.0, 1.0, 0.0], True),
    ],
)
def test_no_class_is_the_largest_among_infinities(mapped, row, defined):
    """As after an overflow in half precision; -inf for masked classes, and +inf for one, are an answer."""
    labels = np.zeros(len(mapped), np.intp)
    calls = []

    def net(x):
        calls.append(len(x))
        answers = torch.tensor([[math.inf, 0.0, -1.0]]).repeat(len(x), 1)
        answers[0] = torch.tensor(row if len(calls) == 2 else [0.0, 1.0, 2.0])
        return answers

    options = {"batch_size": 5}
    logits = predict(net, mapped, **options)
    for run in (
        lambda: predict_ranks(net, mapped, **options),
        lambda: answer_images(net, mapped, labels, **options).predicted,
        lambda: ordinal_ranks(logits),
        lambda: classification_error(logits, labels),
    ):
        calls.clear()
        if defined:
            run()
        else:
            with pytest.raises(UndefinedLogits, match=r"^logits are infinite for several classes of"):
                run()
    if defined:
        calls.clear()
        np.testing.assert_array_equal(predict_ranks(net, mapped, **options), ordinal_ranks(logits))
        calls.clear()
        found = answer_images(net, mapped, labels, **options)
        np.testing.assert_array_equal(found.predicted, logits.argmax(1))
        assert found.no_confidence == "a logit is not finite"


def test_an_error_of_the_net_comes_through(mapped):
    def broken(x):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        predict(broken, mapped, batch_size=2)


def test_parts_come_in_order_and_the_reader_ends(mapped):
    before = set(threading.enumerate())
    parts = [*slices(23, 4), np.array([5, 0, 5]), np.array([], dtype=np.int64)]
    for part, got in zip(parts, staged(mapped, parts, "cpu"), strict=True):
        np.testing.assert_array_equal(got.numpy(), mapped[part])
    first = next(iter(staged(mapped, itertools.repeat(slice(0, 2)), "cpu")))  # given up in the middle
    assert first.shape == (2, 6, 6, 3)
    assert not [one for one in set(threading.enumerate()) - before if one.name.startswith("staging")]


def test_precision_of_cuda_is_set_back():
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = conv.fp32_precision, matmul.fp32_precision
    with float32_as("tf32"):
        assert (conv.fp32_precision, matmul.fp32_precision) == ("tf32", "tf32")
        with float32_as("ieee"):
            assert (conv.fp32_precision, matmul.fp32_precision) == ("ieee", "ieee")
    assert (conv.fp32_precision, matmul.fp32_precision) == before


def small_net(classes=7):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, classes))


@pytest.mark.parametrize("run", [predict, predict_ranks])
def test_all_of_a_module_is_in_eval_mode_meanwhile(mapped, run):
    net = small_net().train()
    net[0].eval()
    modes = [part.training for part in net.modules()]
    expected = run(copy.deepcopy(net).eval(), mapped, batch_size=5)
    before = copy.deepcopy(net.state_dict())
    np.testing.assert_array_equal(run(net, mapped, batch_size=5), expected)
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Merging(nn.Linear):
    """As a layer of LoRA, it merges weights as it goes into eval mode, and takes them out again in `train`."""

    merged = False

    def train(self, mode: bool = True):
        self.merged = not mode
        return super().train(mode)


def test_layers_that_do_something_as_the_mode_changes_undo_it(mapped):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), Merging(64, 10)).train()
    merged = []
    net[2].register_forward_hook(lambda layer, *_: merged.append(layer.merged))
    predict(net, mapped, batch_size=5)
    assert all(merged) and not net[2].merged and net[2].training


def test_modules_without_a_mode_or_with_a_fixed_one(mapped):
    net = small_net().eval()
    expected = predict(net, mapped, batch_size=23)
    example = torch.zeros(23, 3, 6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script = torch.jit.freeze(torch.jit.script(net))
    np.testing.assert_allclose(predict(script, mapped, batch_size=23), expected, rtol=1e-4, atol=1e-5)
    program = torch.export.export(net, (example,)).module()
    with pytest.warns(UserWarning, match="in the mode it was exported in"):
        found = predict(program, mapped, batch_size=23)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.5] * 3}, "mean and std belong together"),
        ({"std": [0.5] * 3}, "mean and std belong together"),
        ({"mean": [125.3, 123.0, 113.9], "std": [63.0, 62.1, 66.7]}, "divide one for 0..255 by 255"),
        ({"mean": [0.5] * 3, "std": [63.0, 62.1, 66.7]}, "std must be for pixel values 0..1"),
        ({"mean": [-0.1] * 3, "std": [0.5] * 3}, "mean must be for pixel values 0..1"),
        (
            {"mean": [0.5] * 3, "std": [0.5, 0.0, 0.5]},
            "std must be above 0, .*: a channel that does not vary",
        ),
        ({"mean": [np.nan] * 3, "std": [0.5] * 3}, "mean must be for pixel values 0..1"),
        ({"mean": [0.5], "std": [0.5]}, "mean must have one number for each of the 3 channels"),
        ({"mean": 0.5, "std": 0.5}, "mean must have one number for each of the 3 channels"),
        ({"mean": [0.5] * 3, "std": [0.5] * 4}, "std must have one number for each of the 3 channels"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"batch_size": -5}, "batch_size must be at least 1, not -5"),
        ({"sets": 2}, "23 images cannot form 2 equal sets"),  # the last would be left out
        ({"sets": 40}, "23 images cannot form 40 equal sets"),
        ({"sets": 0}, "23 images cannot form 0 equal sets"),
        ({"sets": -1}, "23 images cannot form -1 equal sets"),
    ],
)
@pytest.mark.parametrize("run", [predict, predict_ranks])
def test_options_that_would_give_other_numbers_are_refused(mapped, run, options, message):
    with pytest.raises(ValueError, match=message):
        run(small_net().eval(), mapped, **options)


def test_a_batch_size_is_an_integer(mapped):
    with pytest.raises(TypeError, match="float"):
        predict(small_net(), mapped, batch_size=2.5)


def test_mean_and_std_may_be_arrays_or_tensors(mapped):
    expected = predict(small_net().eval(), mapped, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25])
    for kind in (np.array, torch.tensor):
        found = predict(small_net().eval(), mapped, mean=kind([0.4, 0.5, 0.6]), std=kind([0.2, 0.3, 0.25]))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((0, 6, 6, 3), np.uint8), ValueError, "images must be uint8"),
        (np.zeros((2, 6, 0, 3), np.uint8), ValueError, "images must be uint8"),
        (np.zeros((2, 6, 6), np.uint8), ValueError, "images must be uint8"),
        (np.zeros((2, 6, 6, 3), np.float32), ValueError, "images must be uint8"),
        ([[[[0]]]], TypeError, "images must be an array or a tensor, not list"),
    ],
)
def test_images_that_are_none_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        predict(small_net().eval(), images)


class Answer(dict):
    """As the nets of some libraries return: a dict with attributes."""


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: (x, x), TypeError, "the net returned a tuple, not logits"),
        (lambda x: [x], TypeError, "the net returned a list, not logits"),
        (lambda x: {"out": x}, TypeError, "the net returned a dict, not logits"),
        (lambda x: Answer(logits=x), TypeError, "the net returned a Answer, not logits"),
        (lambda x: None, TypeError, "the net returned a NoneType, not logits"),
        (lambda x: x[:-1], ValueError, r"shape \(4, 3\) for 5 images; expected logits \(5, K\)"),
        (lambda x: x[:, :1], ValueError, r"shape \(5, 1\) for 5 images"),  # whose largest is always the first
        (lambda x: x.argmax(1), ValueError, r"torch.int64 of shape \(5,\)"),
        (lambda x: x[:, :, None, None], ValueError, r"shape \(5, 3, 1, 1\)"),
        (lambda x: x > 0, ValueError, "torch.bool of shape"),
        (lambda x: x * 1j, ValueError, "torch.complex64 of shape"),
    ],
)
@pytest.mark.parametrize("run", [predict, predict_ranks])
def test_what_is_no_logits_is_one_clear_line(mapped, run, answer, error, message):
    with pytest.raises(error, match=message):
        run(lambda x: answer(x.mean((2, 3))), mapped, batch_size=5)


def test_a_net_may_answer_in_numpy(mapped):
    expected = predict(lambda x: x.mean((2, 3)), mapped, batch_size=5)
    for dtype in (np.float32, np.float64):
        found = predict(lambda x, t=dtype: x.mean((2, 3)).numpy().astype(t), mapped, batch_size=5)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.1), (torch.float64, 1e-5)]
)
def test_a_net_gets_images_in_the_type_of_its_parameters(mapped, dtype, tolerance):
    expected = predict(small_net().eval(), mapped)
    found = predict(small_net().eval().to(dtype), mapped)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=tolerance)


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
    from common_corruptions.evaluation.answers import _ahead

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
