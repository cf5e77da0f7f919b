"""Nets in ONNX Runtime: the logits of torch, an error where they are others, and torch where they cannot be had."""

import copy
import itertools
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common_corruptions import benchmark
from common_corruptions.evaluation import onnx_runtime, predict
from common_corruptions.evaluation.answers import answer_corruptions, rank_perturbations
from common_corruptions.evaluation.onnx_runtime import WORTH_EXPORTING, Exported, for_many
from nets.densenet import DenseNet
from nets.registry import create_net
from nets.resnet import BasicBlock, ResNet
from pushpull import convert

NORMALISATION = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}


@pytest.fixture(autouse=True)
def fresh(one_thread, one_onnx_registry):
    torch.manual_seed(0)


def images(count, size=32, channels=3):
    return np.random.default_rng(0).integers(256, size=(count, size, size, channels), dtype=np.uint8)


class Shuffling(nn.Module):
    """Shapes read in the forward pass, a loop, views, a branch on a shape, an activation given as a function."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 5)

    def forward(self, x):
        y = F.gelu(self.first(x))
        n, _, height, width = y.shape
        y = torch.cat([y[:, k::2] for k in range(2)], dim=1).view(n, 8, height * width)
        if width > 4:
            y = y.flip(2)
        return self.last(y.amax(2)) + height / 10


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(48, 3)

    def forward(self, x):
        return self.last((x + 1 if x.sum() > 0 else x).flatten(1))


def with_statistics(net):
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.2)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return net


# As shallow as the nets can be, since the time of an export is that of its layers.
NETS = {
    "resnet-pp": lambda: convert(ResNet(BasicBlock, (1, 1))),
    "densenet10_12": lambda: DenseNet(10, 12),
    "alexnet": lambda: create_net("alexnet"),
    "lenet_b": lambda: create_net("lenet_b", in_channels=1),
    "a user's": Shuffling,
}


@pytest.mark.parametrize("name", NETS)
def test_logits_are_those_of_torch_for_any_batch(name):
    net = with_statistics(NETS[name]()).train()
    grey = name.startswith("lenet")
    pictures = images(9, 28 if grey else 32, 1 if grey else 3)
    expected = predict(copy.deepcopy(net).eval(), pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exported = Exported(net)
        logits = [predict(exported, pictures, batch_size=size) for size in (4, 9, 4)]
    assert exported.session is not None
    assert all(part.training for part in net.modules())
    for found in logits:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(logits[0], logits[2])


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


class OfTheBatch(nn.Module):
    def forward(self, x):
        return (x - x.mean(0)).flatten(1)[:, :3]


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Branching(), "data-dependent"),
        (OfTheBatch(), "depends on the other images of the batch, or on chance"),
        (
            torch.export.export(small_net(), (torch.zeros(6, 3, 4, 4),)).module(),
            "RuntimeError|AssertionError|Error",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:an exported program")
def test_what_cannot_be_exported_runs_in_torch_and_says_so_once(net, reason):
    pictures = images(12, 4)
    expected = predict(net, pictures, batch_size=6)
    with pytest.warns(
        UserWarning, match=f"torch evaluates the net because ONNX Runtime cannot: .*({reason})"
    ) as said:
        found = predict(Exported(net), pictures, batch_size=6)
    assert len([one for one in said if "torch evaluates" in str(one.message)]) == 1
    np.testing.assert_array_equal(found, expected)


def test_a_net_that_draws_runs_in_torch():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    net.register_forward_hook(lambda module, inputs, output: F.dropout(output, 0.5, training=True))
    exported = Exported(net)
    with pytest.warns(UserWarning, match="or on chance"):
        predict(exported, images(12, 4), batch_size=6)
    assert exported.session is None


class Writing(nn.Module):
    """Normalises its images where they lie; refuses to be exported where told so."""

    def __init__(self, branches=False):
        super().__init__()
        self.net, self.branches = small_net(), branches

    def forward(self, x):
        if self.branches and x.sum() < 0:
            return self.net(x)
        return self.net(x.sub_(0.5).div_(0.25))


@pytest.mark.parametrize("branches", [False, True])
def test_a_net_that_writes_to_its_images(branches):
    """It answers to every batch as it comes, and what an export runs besides changes none."""
    net, pictures = Writing(branches).eval(), images(300, 4)
    inputs = torch.from_numpy(pictures).permute(0, 3, 1, 2).double() / 255
    expected = (net.net.double()((inputs - 0.5) / 0.25)).detach().numpy()
    exported = Exported(net.float())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for size in (2, 3, 200):
            np.testing.assert_allclose(predict(exported, pictures, batch_size=size), expected, atol=1e-5)
    assert (exported.session is None) == branches
    assert not any("depends on the other images" in str(one.message) for one in said)


def test_a_net_that_returns_no_logits_is_told_so():
    class Two(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(TypeError, match="the net returned a tuple, not logits"):
        predict(Exported(Two()), images(4, 4))


def test_other_logits_than_those_of_torch_are_an_error(monkeypatch):
    other, export = small_net(), onnx_runtime.export
    with torch.no_grad():
        other[1].bias += 0.01
    monkeypatch.setattr(onnx_runtime, "export", lambda net, shape: export(other, shape))
    with pytest.raises(
        RuntimeError,
        match=r"torch differ by up to 0\.01, .* call net\.eval\(\) .* lambda x: net\(x\)",
    ):
        predict(Exported(small_net()), images(12, 4))


def test_it_is_compared_all_along(monkeypatch):
    """A net whose weights change meanwhile: the next batch of a new size or the next hundredth tells."""
    calls = itertools.count()
    net = small_net()
    run = onnx_runtime._run

    def drifting(session, inputs):
        return run(session, inputs) + (0.01 if next(calls) > 3 else 0)

    monkeypatch.setattr(onnx_runtime, "_run", drifting)
    exported = Exported(net)
    predict(exported, images(90, 4), batch_size=1)
    with pytest.raises(RuntimeError, match="the logits of ONNX Runtime and torch differ"):
        predict(exported, images(20, 4), batch_size=1)
    with pytest.raises(RuntimeError, match="the logits of ONNX Runtime and torch differ"):
        exported(torch.zeros(2, 3, 4, 4))


def test_equal_up_to_rounding():
    expected = np.array([[1.0, -200.0, np.nan], [np.inf, 3.0, 4.0]])
    assert onnx_runtime.agree(expected + 1e-3, expected)
    assert not onnx_runtime.agree(expected + np.array([[0.1], [0]]), expected)
    assert not onnx_runtime.agree(np.nan_to_num(expected), expected)
    assert not onnx_runtime.agree(expected[:1], expected)


def test_when_onnx_runtime_is_used(monkeypatch):
    net = small_net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert for_many(net, WORTH_EXPORTING - 1) is net
        assert for_many(net, WORTH_EXPORTING, "cuda") is net
        assert isinstance(for_many(net, WORTH_EXPORTING), Exported)
        assert isinstance(for_many(net, WORTH_EXPORTING, torch.device("cpu")), Exported)
        for other in (small_net().double(), small_net().bfloat16(), small_net().to("meta")):
            assert for_many(other, WORTH_EXPORTING) is other
        for package in ("onnxruntime", "onnxscript"):
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, package, None)
                assert for_many(net, WORTH_EXPORTING) is net
                assert for_many(len, WORTH_EXPORTING) is len
    with pytest.warns(UserWarning, match="because ONNX Runtime cannot: it is not a torch.nn.Module"):
        assert for_many(len, WORTH_EXPORTING) is len


class Bar:
    def update(self):
        pass


@pytest.fixture
def folder(tmp_path):
    """Sets of ten images: clean, one corruption, one perturbation."""
    arrays = {
        "clean/test_images": images(10),
        "clean/test_labels": np.arange(10, dtype=np.uint8) % 5,
        "c/fog": images(50)[::-1],
        "p/tilt": images(10 * 31).reshape(10, 31, 32, 32, 3),
    }
    for name, array in arrays.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


def test_the_answers_of_a_folder_are_those_of_torch(folder, monkeypatch):
    net = Shuffling().eval()

    def answers():
        rows, logits = answer_corruptions(net, folder, ["fog"], Bar(), **NORMALISATION)
        ((_, ranks),) = rank_perturbations(net, folder, ["tilt"], **NORMALISATION)
        return rows, logits, ranks.argmin(2)

    in_torch = answers()
    used = []
    monkeypatch.setattr(onnx_runtime, "WORTH_EXPORTING", 60)  # as many as there are on single images
    monkeypatch.setattr(
        onnx_runtime, "_run", lambda *args, run=onnx_runtime._run: used.append(1) or run(*args)
    )
    found = answers()
    assert len(used) >= 2 * (1 + 5) // 2 + 5
    assert found[0] == in_torch[0]
    np.testing.assert_allclose(found[1], in_torch[1], rtol=0, atol=1e-5 * np.abs(in_torch[1]).max())
    np.testing.assert_array_equal(found[2], in_torch[2])


def test_corruptions_and_perturbations_need_one_export(folder, monkeypatch):
    exports = []
    monkeypatch.setattr(onnx_runtime, "WORTH_EXPORTING", 370)  # all images and frames, and neither alone
    monkeypatch.setattr(
        onnx_runtime, "export", lambda *args, to=onnx_runtime.export: exports.append(1) or to(*args)
    )
    net = Shuffling().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        in_onnx_runtime, _ = benchmark(net, folder, progress=False)
        assert len(exports) == 1
        monkeypatch.setattr(onnx_runtime, "WORTH_EXPORTING", 371)
        in_torch, _ = benchmark(net, folder, progress=False)
    assert len(exports) == 1
    np.testing.assert_allclose(in_onnx_runtime.value, in_torch.value)


def test_images_of_another_shape_are_another_export():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    exported = Exported(net)
    for size in (8, 12, 8):
        pictures = images(6, size)
        np.testing.assert_allclose(predict(exported, pictures), predict(net, pictures), rtol=1e-4)
