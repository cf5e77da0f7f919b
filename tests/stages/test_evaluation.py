"""The two evaluation stages: what they measure and the answers they keep."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from common_corruptions.evaluation.answers import (
    perturbation_metrics,
    predict_corruptions,
    rank_perturbations,
)
from common_corruptions.metrics import classification_error
from nets.registry import create_net
from stages import evaluate_corruption, evaluate_noise, evaluate_perturbation
from stages.files import models
from stages.files.predictions import Logits, load_frames, load_logits, save_logits
from stages.files.trained import Trained
from stages.files.yaml_file import read_yaml
from tests.conftest import ROOT
from tests.stages.yaml_files import without_presets, write_yaml

OPTIONS = {"pushpull": None, "num_classes": 6}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The file of a net of two seeds."""
    weights = {}
    for seed in (3, 5):
        torch.manual_seed(seed)
        weights[seed] = create_net("resnet14", **OPTIONS).state_dict()
    path = tmp_path_factory.mktemp("trained") / "small.pt"
    Trained("resnet14", OPTIONS, [0.5] * 3, [0.25] * 3, weights).save(path)
    return path


@pytest.fixture
def workspace(tmp_path, monkeypatch, one_thread, trained):
    """A folder with a tiny set and a net of two seeds, and params.yaml for them."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name, shape in {
        "clean/test_images": (12,), "c/fog": (60,), "c/contrast": (60,), "p/translate": (5, 16), "p/shot_noise": (5, 31)
    }.items():  # fmt: skip
        path = tmp_path / "datasets" / "tiny" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, random.integers(256, size=(*shape, 16, 16, 3), dtype=np.uint8))
    np.save(tmp_path / "datasets/tiny/clean/test_labels.npy", (np.arange(12) % 6).astype(np.uint8))
    (tmp_path / "models").mkdir()
    shutil.copy(trained, tmp_path / "models")
    raw = without_presets(read_yaml(ROOT / "params.yaml"))
    raw["data"] |= {
        "name": "tiny",
        "corruptions": ["fog", "contrast"],
        "perturbations": ["translate", "shot_noise"],
        "perturbed_images": 4,
    }
    raw["evaluate"] |= {"batch_size": 7, "device": "cpu"}
    write_yaml(tmp_path / "params.yaml", raw)
    return tmp_path


def invoke(stage):
    return CliRunner().invoke(stage.main, ["small"])


def stop_in_call(monkeypatch, number, module, name, calls=None):
    """Ctrl-C in that call of a module's function; the list of those before it, as they are made."""
    calls, function = [] if calls is None else calls, getattr(module, name)
    function = getattr(function, "uninterrupted", function)

    def call_or_stop(*args, **options):
        if len(calls) + 1 == number:
            raise KeyboardInterrupt
        calls.append(name)
        return function(*args, **options)

    call_or_stop.uninterrupted = function
    monkeypatch.setattr(module, name, call_or_stop)
    return calls


def test_errors_and_the_logits_behind_them(workspace):
    done = invoke(evaluate_corruption)
    assert done.exit_code == 0, (done.output, done.exception)
    table = pd.read_csv(workspace / "metrics" / "tiny" / "corruption" / "small.csv")
    logits = load_logits(workspace / "predictions" / "tiny" / "corruption" / "small.npz")
    trained = models.load(workspace / "models" / "small.pt")
    assert logits.sets == [("clean", 0), *((name, s) for name in ("fog", "contrast") for s in range(1, 6))]
    assert list(logits.by_seed) == list(table.seed.unique()) == [3, 5]
    for seed, answers in logits.by_seed.items():
        assert answers.dtype == np.float32 and answers.shape == (11, 12, 6)
        expected = [
            (name, severity, classification_error(predicted, logits.labels))
            for name, severity, predicted in predict_corruptions(
                trained.net(seed), workspace / "datasets" / "tiny", ["fog", "contrast"],
                mean=trained.mean, std=trained.std, batch_size=7,
            )
        ]  # fmt: skip
        own = table[table.seed == seed]
        found = list(own[["corruption", "severity"]].itertuples(index=False, name=None))
        assert found == [(name, severity) for name, severity, _ in expected]
        np.testing.assert_allclose(own.error, [error for *_, error in expected], rtol=1e-6)
        wrong = (answers.argmax(2) != logits.labels).mean(1)
        np.testing.assert_allclose(own.error, 100 * wrong, rtol=1e-6)


def test_flips_and_the_predictions_behind_them(workspace):
    done = invoke(evaluate_perturbation)
    assert done.exit_code == 0, (done.output, done.exception)
    table = pd.read_csv(workspace / "metrics" / "tiny" / "perturbation" / "small.csv")
    frames = load_frames(workspace / "predictions" / "tiny" / "perturbation" / "small.npz")
    trained = models.load(workspace / "models" / "small.pt")
    names = ["shot_noise", "translate"]
    assert {seed: set(own) for seed, own in frames.items()} == {3: set(names), 5: set(names)}
    assert frames[3]["translate"].shape == (4, 16) and frames[3]["translate"].dtype == np.uint8
    values = table.set_index(["seed", "perturbation", "protocol", "metric"]).value
    for seed in (3, 5):
        ranked = rank_perturbations(
            trained.net(seed), workspace / "datasets" / "tiny", names, 4,
            mean=trained.mean, std=trained.std, batch_size=7,
        )  # fmt: skip
        for name, protocol, metric, value in (row for one in ranked for row in perturbation_metrics(*one)):
            assert values[seed, name, protocol, metric] == pytest.approx(value, rel=1e-6)
        noise = frames[seed]["shot_noise"]
        assert values[seed, "shot_noise", "hendrycks", "flip_probability"] == pytest.approx(
            (noise[:, 1:] != noise[:, :1]).mean()
        )


def test_evaluated_again_the_files_are_the_same(workspace):
    for stage, kind in ((evaluate_corruption, "corruption"), (evaluate_perturbation, "perturbation")):
        path = workspace / "predictions" / "tiny" / kind / "small.npz"
        invoke(stage)
        first = path.read_bytes()
        path.unlink()
        invoke(stage)
        assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("stage", "measure"),
    [
        (evaluate_corruption, "answer_corruptions"),
        (evaluate_perturbation, "answer_perturbations"),
        (evaluate_noise, "measure_noise"),
    ],
)
def test_stopped_it_goes_on_after_the_last_seed(workspace, monkeypatch, stage, measure):
    assert invoke(stage).exit_code == 0
    outputs = [
        path for kind in ("metrics", "predictions") for path in sorted((workspace / kind).rglob("*.*"))
    ]
    whole = [path.read_bytes() for path in outputs]
    for path in outputs:
        path.unlink()
    stop_in_call(monkeypatch, 2, stage, measure)
    assert invoke(stage).exit_code == 130 and not any(path.exists() for path in outputs)
    calls = stop_in_call(monkeypatch, 2, stage, measure)
    assert invoke(stage).exit_code == 0 and len(calls) == 1
    assert [path.read_bytes() for path in outputs] == whole
    assert not list((workspace / ".dvc/tmp/pushpull").glob("*/"))


def test_what_was_kept_is_of_the_same_weights(workspace, monkeypatch):
    stop_in_call(monkeypatch, 2, evaluate_corruption, "answer_corruptions")
    assert invoke(evaluate_corruption).exit_code == 130
    trained = models.load(workspace / "models" / "small.pt")
    trained.weights[3]["conv1.weight"] *= 2
    trained.save(workspace / "models" / "small.pt")
    calls = stop_in_call(monkeypatch, 3, evaluate_corruption, "answer_corruptions")
    assert invoke(evaluate_corruption).exit_code == 0 and len(calls) == 2


def test_what_was_kept_is_of_the_same_images(workspace, monkeypatch):
    stop_in_call(monkeypatch, 2, evaluate_corruption, "answer_corruptions")
    assert invoke(evaluate_corruption).exit_code == 130
    path = workspace / "datasets" / "tiny" / "c" / "fog.npy"
    kept = path.stat()
    np.save(path, 255 - np.load(path))  # as many bytes
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns + 1))
    calls = stop_in_call(monkeypatch, 3, evaluate_corruption, "answer_corruptions")
    assert invoke(evaluate_corruption).exit_code == 0 and len(calls) == 2


def test_what_was_kept_and_cannot_be_read_is_measured_anew(workspace, monkeypatch):
    stop_in_call(monkeypatch, 2, evaluate_corruption, "answer_corruptions")
    assert invoke(evaluate_corruption).exit_code == 130
    (kept,) = (workspace / ".dvc/tmp/pushpull").glob("*/3.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    calls = stop_in_call(monkeypatch, 3, evaluate_corruption, "answer_corruptions")
    done = invoke(evaluate_corruption)
    assert done.exit_code == 0 and len(calls) == 2
    assert "3.npz: " in done.output and "measuring again" in done.output


@pytest.mark.parametrize(
    ("stage", "pipeline"),
    [
        (evaluate_corruption, "dvc.yaml"),
        (evaluate_perturbation, "dvc.yaml"),
        (evaluate_corruption, "studies/dvc.yaml"),
        (evaluate_perturbation, "studies/dvc.yaml"),
        (evaluate_noise, "studies/dvc.yaml"),
    ],
)
def test_what_a_stage_reads_of_the_parameters_makes_it_run_again(workspace, undeclared, stage, pipeline):
    missing = undeclared(stage, pipeline)
    assert invoke(stage).exit_code == 0
    assert missing == set()


@pytest.mark.parametrize("stage", [evaluate_corruption, evaluate_perturbation])
def test_a_set_that_is_not_there_is_one_line(workspace, stage):
    for path in workspace.glob("datasets/tiny/[cp]/*.npy"):
        path.unlink()
    done = invoke(stage)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].endswith("`dvc repro corrupt` makes the sets")
    assert not (workspace / "metrics").exists() and not (workspace / "predictions").exists()


@pytest.mark.parametrize(
    ("stage", "place"),
    [(evaluate_corruption, "clean"), (evaluate_perturbation, "shot_noise"), (evaluate_noise, "clean")],
)
def test_a_net_that_answers_with_nan_is_not_the_fault_of_the_sets(workspace, stage, place):
    trained = models.load(workspace / "models" / "small.pt")
    next(reversed(trained.weights[5].values())).fill_(np.nan)
    trained.save(workspace / "models" / "small.pt")
    done = invoke(stage)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    line = done.stderr.splitlines()[-1]
    assert f"small, seed 5: the net's logits contain NaN on {place}" in line
    assert line.endswith("`dvc repro -f -s train@small` retrains it") and "corrupt" not in line
    assert not (workspace / "metrics").exists() and not (workspace / "predictions").exists()


def test_labels_that_the_net_does_not_have_are_no_fault_of_the_sets_either(workspace):
    np.save(workspace / "datasets/tiny/clean/test_labels.npy", np.full(12, 7, np.uint8))
    line = invoke(evaluate_corruption).stderr.splitlines()[-1]
    assert line.endswith("seed 3: label 7 for logits of 6 classes; `dvc repro -f -s train@small` retrains it")


def test_images_too_small_for_the_noise_are_no_fault_of_the_net(workspace):
    np.save(workspace / "datasets/tiny/clean/test_images.npy", np.zeros((12, 8, 8, 3), np.uint8))
    done = invoke(evaluate_noise)
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: no noise is added to the images of tiny: images must have 16 to 1024 pixels a side, not 8 x 8 "
        "(height x width)\n"
    )


def test_logits_of_more_classes_than_a_byte_holds_come_back(tmp_path):
    random = np.random.default_rng(0)
    logits = Logits(
        np.arange(4), [("clean", 0), ("fog", 5)], {7: random.normal(size=(2, 4, 300)).astype(np.float32)}
    )
    save_logits(tmp_path / "net.npz", logits)
    back = load_logits(tmp_path / "net.npz")
    assert back.sets == logits.sets
    np.testing.assert_array_equal(back.labels, logits.labels)
    np.testing.assert_array_equal(back.by_seed[7], logits.by_seed[7])
