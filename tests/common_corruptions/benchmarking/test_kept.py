"""Answers kept by image: their form, a run that was killed goes on, and nothing is taken from another net or folder."""

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from common_corruptions import benchmark, corruption
from common_corruptions.__main__ import main
from common_corruptions.benchmarking.kept import load_answers, load_paired
from common_corruptions.recipes import registry
from common_corruptions.statistics import paired_bootstrap
from tests.conftest import ROOT

COUNT = 12
LABELS = (np.arange(COUNT) ** 2 % 3).astype(np.uint8)
NAMES = ("fog", "gaussian_noise")


class Counting(nn.Module):
    """A linear net that counts the images it answers to; the four by which it is known are not among them."""

    def __init__(self, seed=0, side=4):
        super().__init__()
        torch.manual_seed(seed)
        self.last = nn.Linear(3 * side**2, 3)
        self.answered = -4

    def forward(self, x):
        self.answered += len(x)
        return self.last(x.flatten(1))


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "sets"
    for part in ("clean", "c", "p"):
        (folder / part).mkdir(parents=True)
    np.save(folder / "clean" / "test_images.npy", random.integers(256, size=(COUNT, 4, 4, 3), dtype=np.uint8))
    np.save(folder / "clean" / "test_labels.npy", LABELS)
    for name in NAMES:
        np.save(folder / "c" / f"{name}.npy", random.integers(256, size=(5 * COUNT, 4, 4, 3), dtype=np.uint8))
    np.save(folder / "p" / "tilt.npy", random.integers(256, size=(COUNT, 31, 4, 4, 3), dtype=np.uint8))
    return folder


ALL = COUNT * (1 + 2 * 5 + 31)


def measured(net, folder, **options):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        table, summary = benchmark(net, folder, progress=False, **options)
    said = [str(one.message) for one in record if "measured again" in str(one.message)]
    return table, summary, said


def test_what_is_kept_is_what_the_net_answered(folder, tmp_path):
    net = Counting()
    table, summary, _ = measured(net, folder, answers=tmp_path / "kept")
    found = load_answers(tmp_path / "kept")
    assert set(found) == {("clean", 0), *((name, s) for name in NAMES for s in range(1, 6))}
    images = np.split(np.load(folder / "c" / "fog.npy"), 5)[1]
    with torch.no_grad():
        logits = net(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    fog = found["fog", 2]
    np.testing.assert_array_equal(fog["predicted"], logits.argmax(1))
    np.testing.assert_allclose(fog["confidence"], logits.softmax(1).amax(1), rtol=1e-5)
    np.testing.assert_array_equal(fog["correct"], fog["predicted"] == LABELS)
    np.testing.assert_array_equal(fog["labels"], LABELS)
    errors = table[table.kind == "corruption"].set_index(["name", "severity"]).value
    for key, answers in found.items():
        assert errors[key] == pytest.approx(100 * np.mean(~answers["correct"]))
    frames = np.load(tmp_path / "kept" / "p" / "tilt.npz")["predicted"]
    flips = 100 * np.mean(frames[:, 1:] != frames[:, :-1])
    assert frames.shape == (COUNT, 31) and flips == pytest.approx(summary["mFP"])
    assert not list((tmp_path / "kept").rglob("*.part"))


def test_two_nets_are_compared_image_by_image(folder, tmp_path):
    """As the documentation has it: the interval over images of a paired difference."""
    errors = []
    for seed in (0, 1):
        measured(Counting(seed), folder, answers=tmp_path / str(seed))
    for found in load_paired(tmp_path / "0", tmp_path / "1"):
        errors.append(
            np.mean([~one["correct"] for (name, _), one in found.items() if name != "clean"], axis=0)
        )
    difference = 100 * (errors[1] - errors[0])
    interval = paired_bootstrap(difference[None, None])
    assert interval.low_images[0] < interval.mean[0] < interval.high_images[0]
    assert interval.mean[0] == pytest.approx(difference.mean())


def differing_images(folder):
    np.save(folder / "c" / "fog.npy", 255 - np.load(folder / "c" / "fog.npy"))


def differing_labels(folder):
    np.save(folder / "clean" / "test_labels.npy", LABELS[::-1])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (differing_images, {}, "those of fog, severity 1, or their labels differ"),
        (differing_labels, {}, "those of clean, severity 0, or their labels differ"),
        (lambda folder: None, {"severities": [1, 2]}, "has answers for fog, severity 3"),
    ],
)
def test_nets_that_answered_to_other_images_are_not_compared(folder, tmp_path, change, options, message):
    measured(Counting(0), folder, answers=tmp_path / "0")
    copied = tmp_path / "elsewhere"
    shutil.copytree(folder, copied, copy_function=shutil.copyfile)  # at another time, but the same images
    measured(Counting(1), copied, answers=tmp_path / "1")
    load_paired(tmp_path / "0", tmp_path / "1")
    change(copied)
    measured(Counting(1), copied, answers=tmp_path / "2", **options)
    for pair in (("0", "2"), ("2", "0")):
        with pytest.raises(ValueError, match=message):
            load_paired(*(tmp_path / one for one in pair))


def test_answers_of_an_earlier_version_are_read_and_not_compared(folder, tmp_path):
    for seed in (0, 1):
        measured(Counting(seed), folder, answers=tmp_path / str(seed))
        for path in (tmp_path / str(seed)).rglob("*.npz"):
            arrays = dict(np.load(path))
            del arrays["sample"]
            np.savez(path, **arrays)
    assert len(load_answers(tmp_path / "0")) == 11
    with pytest.raises(ValueError, match="an earlier version wrote the answers"):
        load_paired(tmp_path / "0", tmp_path / "1")


def test_the_same_again_measures_nothing_and_gives_the_same(folder, tmp_path):
    plain_table, plain, _ = measured(Counting(), folder, baseline="alexnet-cifar10")
    first = Counting()
    measured(first, folder, answers=tmp_path / "kept")
    assert first.answered == ALL
    again = Counting()
    table, summary, said = measured(again, folder, answers=tmp_path / "kept", baseline="alexnet-cifar10")
    assert again.answered == 0 and not said
    pd.testing.assert_frame_equal(table, plain_table, check_exact=True)
    assert summary == plain  # to the last bit, calibration and intervals too


def test_what_is_missing_is_measured_alone(folder, tmp_path):
    net = Counting()
    measured(net, folder, corruptions=["fog"], severities=[1, 2], perturbations=[], answers=tmp_path)
    assert net.answered == 3 * COUNT
    net = Counting()
    table, _, _ = measured(net, folder, answers=tmp_path, batch_size=5)  # whose size decides nothing
    assert net.answered == ALL - 3 * COUNT
    np.testing.assert_allclose(table.value, measured(Counting(), folder)[0].value)


def other_weights(net, folder):
    with torch.no_grad():
        net.last.bias[0] += 1e-7  # the least change; no logit of the four images moves beyond rounding
    return {}


def other_form(net, folder):
    net.forward = lambda x: 1.01 * Counting.forward(net, x)  # of which the weights do not tell
    return {}


def other_images(net, folder):
    path = folder / "c" / "fog.npy"
    time.sleep(0.01)
    array = np.load(path)
    array[0] ^= 1
    np.save(path, array)
    return {}


def copied_over(net, folder):
    """As `cp -p` and `rsync -t` do: other images under the name, the size and the time of the first."""
    path = folder / "c" / "fog.npy"
    before = path.stat()
    random = np.random.default_rng(1)
    np.save(path, random.integers(256, size=np.load(path).shape, dtype=np.uint8))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    return {}


def other_labels(net, folder):
    np.save(folder / "clean" / "test_labels.npy", LABELS[::-1])
    return {}


@pytest.mark.parametrize(
    ("change", "expected", "files"),
    [
        (other_weights, ALL, 12),
        (other_form, ALL, 12),
        (other_images, 5 * COUNT, 5),
        (copied_over, 5 * COUNT, 5),
        (other_labels, 11 * COUNT, 11),
        (lambda net, folder: {"mean": [0.5] * 3, "std": [0.5] * 3}, ALL, 12),
        (lambda net, folder: {"name": "another"}, ALL, 12),
    ],
    ids=["weights", "form", "images", "copy", "labels", "normalisation", "name"],
)
def test_nothing_is_taken_from_another_net_or_folder(folder, tmp_path, change, expected, files):
    measured(Counting(), folder, answers=tmp_path / "kept")
    net = Counting()
    options = change(net, folder)
    table, _, said = measured(net, folder, answers=tmp_path / "kept", **options)
    assert net.answered == expected
    assert len(said) == 1 and f"{files} of the files in" in said[0] and "are measured again" in said[0]
    fresh = Counting()
    change(fresh, folder)
    np.testing.assert_allclose(table.value, measured(fresh, folder, **options)[0].value)
    load_answers(tmp_path / "kept")  # no longer of two nets


def test_a_function_is_known_by_its_name_alone(folder, tmp_path):
    for _ in range(2):
        net = Counting()
        _, _, said = measured(lambda x, net=net: net(x), folder, answers=tmp_path)
        assert net.answered == ALL and len(said) == 1
        assert "the net is a function" in said[0] and "give it a name" in said[0]
    for expected in (ALL, 0):
        net = Counting()
        measured(lambda x, net=net: net(x), folder, answers=tmp_path, name="linear, seed 0")
        assert net.answered == expected
    net = Counting(1)  # another one by the same name still has to answer alike
    measured(lambda x: net(x), folder, answers=tmp_path, name="linear, seed 0")
    assert net.answered == ALL


def test_of_a_function_the_size_of_a_batch_counts(folder, tmp_path):
    """As in test-time adaptation by the statistics of a batch; to a Module in eval mode it is nothing."""
    for batch_size, expected in ((5, ALL), (5, 0), (7, ALL)):
        net = Counting()
        options = {"answers": tmp_path / "function", "name": "adapted", "batch_size": batch_size}
        measured(lambda x, net=net: net(x), folder, **options)
        assert net.answered == expected
    for batch_size, expected in ((5, ALL), (7, 0)):
        net = Counting()
        measured(net, folder, answers=tmp_path / "module", batch_size=batch_size)
        assert net.answered == expected


def test_a_module_is_known_by_its_weights_whatever_it_is_called(folder, tmp_path):
    """Weights that change what no image of the probe shows."""
    for shift, expected in ((0.0, ALL), (0.0, 0), (1e-7, ALL)):
        net = Counting()
        with torch.no_grad():
            net.last.bias += shift
        measured(net, folder, answers=tmp_path, name="linear")
        assert net.answered == expected


def test_a_file_that_holds_no_answers_is_named(folder, tmp_path):
    measured(Counting(), folder, answers=tmp_path)
    whole = (tmp_path / "c" / "fog-1.npz").read_bytes()
    (tmp_path / "c" / "fog-1.npz").write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"fog-1\.npz is damaged"):
        load_answers(tmp_path)
    np.savez(tmp_path / "c" / "fog-1.npz", other=1)
    with pytest.raises(ValueError, match=r"fog-1\.npz is damaged, or holds no answers"):
        load_answers(tmp_path)


def test_answers_of_two_nets_are_not_read_as_those_of_one(folder, tmp_path):
    measured(Counting(0), folder, answers=tmp_path)
    measured(Counting(1), folder, answers=tmp_path, corruptions=["fog"])
    with pytest.raises(ValueError, match="answers of more than one net"):
        load_answers(tmp_path)
    with pytest.raises(FileNotFoundError, match="has neither clean"):
        load_answers(tmp_path / "nowhere")


def test_answers_to_two_sets_of_images_are_not_read_as_one(folder, tmp_path):
    images = np.load(folder / "clean" / "test_images.npy").repeat(8, 1).repeat(8, 2)
    options = {"answers": tmp_path / "answers", "severities": [1]}
    measured(Counting(side=32), (images, LABELS), corruptions=["fog", "snow"], **options)
    measured(Counting(side=32), (images[::-1], LABELS[::-1]), corruptions=["fog"], **options)
    with pytest.raises(ValueError, match="the labels of clean and snow, severity 1 differ"):
        load_answers(tmp_path / "answers")
    measured(Counting(side=32), (images[::-1], LABELS[::-1]), corruptions=["snow"], **options)
    found = load_answers(tmp_path / "answers")
    assert [one["labels"].tolist() for one in found.values()] == [LABELS[::-1].tolist()] * 3


def test_damaged_answers_are_measured_anew(folder, tmp_path):
    measured(Counting(), folder, answers=tmp_path)
    path = tmp_path / "c" / "fog-3.npz"
    path.write_bytes(path.read_bytes()[:100])
    net = Counting()
    _, _, said = measured(net, folder, answers=tmp_path)
    assert net.answered == COUNT and "1 of the files in" in said[0]


def test_there_is_no_confidence_in_probabilities(folder, tmp_path):
    net = Counting()
    for _ in range(2):
        _, summary, _ = measured(lambda x: net(x).softmax(1), folder, answers=tmp_path, name="p")
        assert "ECE_corr" not in summary and "E_corr_low" in summary
    assert np.isnan(load_answers(tmp_path)["fog", 1]["confidence"]).all()


def test_sets_made_of_the_same_images_go_on(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(5, 16, 16, 3), dtype=np.uint8)
    options = {"corruptions": ["contrast", "gaussian_noise"], "answers": tmp_path}

    def run(images, **more):
        net = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
        torch.manual_seed(0)
        nn.init.normal_(net[1].weight), nn.init.zeros_(net[1].bias)
        return measured(net, (images, [0, 1, 2, 0, 1]), **options, **more)

    first, _, _ = run(images)
    again, _, said = run(images.copy())
    assert not said
    np.testing.assert_array_equal(first.value, again.value)
    assert "10 of the files in" in run(images, seed=1)[2][0]  # clean images are the same
    assert "10 of the files in" in run(images, scale="imagenet")[2][0]
    assert "11 of the files in" in run(images[:, ::-1])[2][0]


def test_pictures_copied_over_others_are_measured_anew(tmp_path):
    random = np.random.default_rng(0)
    paths = [tmp_path / "sets" / "fog" / "1" / f"{i % 3}" / f"{i}.bmp" for i in range(9)]

    def write():
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(256, size=(4, 4, 3), dtype=np.uint8)).save(path)
            os.utime(path, (1e9, 1e9))

    def run():
        net = Counting()
        said = measured(net, tmp_path / "sets", severities=[1], answers=tmp_path / "kept")[2]
        return net.answered, len(said)

    write()
    assert [run(), run()] == [(9, 0), (0, 0)]
    write()
    assert run() == (9, 1)


STRENGTH = 1


def brighten(images):
    return np.clip(images.astype(int) + 20 * STRENGTH, 0, 255).astype(np.uint8)


def speckle(images, draws):
    return np.where(draws.uniform("speckle", images.shape[1:]) < STRENGTH / 10, 255, images).astype(np.uint8)


@pytest.mark.parametrize(
    "function", [lambda images, draws: brighten(images), speckle], ids=["helper", "chance"]
)
def test_a_change_of_what_a_corruption_of_ones_own_calls_is_noticed(tmp_path, monkeypatch, function):
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))
    corruption("mine", group="digital", constants=((),) * 5)(function)
    images = np.random.default_rng(0).integers(256, size=(COUNT, 16, 16, 3), dtype=np.uint8)

    def run(**options):
        net = Counting(side=16)
        table, _, said = measured(net, (images, LABELS), corruptions=["fog", "mine"], **options)
        return net.answered, said, table.value

    first = run(answers=tmp_path)[0]
    assert first == 11 * COUNT and run(answers=tmp_path)[:2] == (0, [])
    monkeypatch.setattr(sys.modules[__name__], "STRENGTH", 4)
    answered, said, values = run(answers=tmp_path)
    assert answered == 5 * COUNT and "5 of the files in" in said[0]
    np.testing.assert_array_equal(values, run()[2])


def test_how_a_corruption_of_ones_own_grows_with_the_images_is_part_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))
    images = np.full((COUNT, 40, 40, 3), 100, np.uint8)

    def brighter(images, draws, levels):
        return np.clip(images + levels, 0, 255).astype(np.uint8)

    def answered(resized):
        declare = corruption("mine", group="digital", constants=((8,),) * 5, resized=resized)
        declare(brighter)
        net = Counting(side=40)
        measured(net, (images, LABELS), corruptions=["mine"], answers=tmp_path)
        return net.answered

    def twice(factor, levels):
        return (2 * factor * levels,)

    assert [answered(lambda factor, levels: (factor * levels,)), answered(twice)] == [6 * COUNT, 5 * COUNT]
    assert answered(twice) == 0


# On the command line


SLOW = """
import time
from pathlib import Path
import torch
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Linear(48, 3)

    def forward(self, x):
        with open("batches", "a") as file:
            file.write(f"{len(x)}\\n")
        if Path("slow").exists():
            time.sleep(0.2)
        return self.last(x.flatten(1))
"""


@pytest.mark.usefixtures("one_thread")
def test_a_run_that_was_killed_goes_on(folder, tmp_path, monkeypatch):
    """Killed in a process of its own, it goes on in this one."""
    (tmp_path / "slow_nets.py").write_text(SLOW, encoding="utf-8")
    (tmp_path / "slow").touch()
    arguments = ["benchmark", "sets", "--net", "slow_nets:Slow", "--output"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def batches():
        path = tmp_path / "batches"
        found = [int(line) for line in path.read_text(encoding="utf-8").split()] if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    kept = tmp_path / "table.answers" / "c"
    command = [sys.executable, "-m", "common_corruptions", *arguments, "table.csv"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 100
        while len(list(kept.glob("fog-*.npz"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    before = batches()
    assert 4 * COUNT <= sum(before) - 4 < ALL and not (tmp_path / "table.csv").exists()
    (tmp_path / "slow").unlink()
    whole = len(list((tmp_path / "table.answers").rglob("[!.]*.npz")))
    for table, expected in (("table.csv", ALL - whole * COUNT), ("fresh.csv", ALL)):
        done = CliRunner().invoke(main, [*arguments, table])
        assert done.exit_code == 0 and "measured again" not in done.output, done.output
        assert sum(batches()) - 4 == expected
    table, fresh = ((tmp_path / name).read_text(encoding="utf-8") for name in ("table.csv", "fresh.csv"))
    assert table == fresh


def write_onnx(path, shift=0.0, **options):
    """A linear net as an ONNX file."""
    onnx = pytest.importorskip("onnx")
    weights = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
    bias = np.array([shift, 0, 0], np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["images"], ["values"]),
            onnx.helper.make_node("Gemm", ["values", "weights", "bias"], ["logits"]),
        ],
        "linear",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 3])],
        [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(bias, "bias")],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=opsets), path, **options)


def test_an_onnx_file_is_known_by_its_bytes(folder, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    arguments = ["benchmark", "sets", "--net", "net.onnx", "--output", "table.csv", "--only", "fog"]

    def run():
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "table.answers").rglob("*.npz")}

    write_onnx("net.onnx")
    first = run()
    assert len(first) == 6 and run() == first
    write_onnx("net.onnx", shift=1e-6)
    assert not set(run().items()) & set(first.items())


def test_the_weights_beside_an_onnx_file_are_part_of_it(tmp_path):
    pytest.importorskip("onnx")
    from common_corruptions.benchmarking.named_nets import digest_of_file

    external = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    write_onnx(tmp_path / "net.onnx", **external)
    before = digest_of_file(tmp_path / "net.onnx")
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert digest_of_file(tmp_path / "net.onnx") != before


def test_a_file_in_the_place_of_the_folder(folder, tmp_path):
    (tmp_path / "kept").write_text("", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match="kept is a file; give a folder for the answers"):
        measured(Counting(), folder, answers=tmp_path / "kept")
    assert os.path.getsize(tmp_path / "kept") == 0
