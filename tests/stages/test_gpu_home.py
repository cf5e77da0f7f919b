"""What a GPU machine sent back, in the pipeline's tables, report and MLflow runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks.gpu import home
from benchmarks.gpu.answers import save_answers
from common_corruptions.metrics import flip_probability
from common_corruptions.recipes.names import (
    CORRUPTIONS,
    FRAMES,
    NOISE_PERTURBATIONS,
    PERTURBATIONS,
    SEVERITIES,
)
from stages import report
from stages.tracking import runs
from tests.archives.miniatures import jpeg_arrays
from tests.conftest import ROOT

CARD = "NVIDIA H100 80GB HBM3"
COUNT = 30  # test images
SETS = [("clean", 0), *((name, severity) for name in CORRUPTIONS for severity in SEVERITIES)]


def sent_back(folder: Path, labels: np.ndarray, seeds=(0, 1), others=(("alexnet", 0),), card=CARD) -> None:
    """The files of two nets over some seeds and of others, from answers drawn at random."""
    rng = np.random.default_rng(seeds[0])
    folder.mkdir()
    answers, errors, flips, curves, runs = {}, [], [], [], []
    for net, seed in [*((net, seed) for seed in seeds for net in ("resnet20", "resnet20-pp")), *others]:
        right = rng.random((len(SETS), COUNT)) < np.linspace(0.9, 0.4, len(SETS))[:, None]
        classes = np.where(right, labels, (labels + 1) % 3).astype(np.uint8)
        wrong = 100 * (classes != labels).mean(1)
        errors += [(net, seed, *place, error) for place, error in zip(SETS, wrong, strict=True)]
        own = {"corruption": classes}
        for name in PERTURBATIONS:
            frames = rng.integers(0, 3, (COUNT, FRAMES[name])).astype(np.uint8)
            own[name] = frames
            for protocol in ("hendrycks", "official"):
                value = flip_probability(frames, noise=name in NOISE_PERTURBATIONS, protocol=protocol)
                flips.append((net, seed, name, protocol, "flip_probability", value))
                flips.append((net, seed, name, protocol, "zipf_distance", 0.5))
        if net != "alexnet":
            answers[net, seed] = own
        curves += [(net, seed, epoch, 0.1, 1.0, 50.0, wrong[0]) for epoch in (1, 2)]
        runs.append(
            {"net": net, "seed": seed, "seconds": 60.0, "images_per_second": 1000.0, "test_error": wrong[0]}
        )
    runs.append({"net": "resnet20", "seed": 2, "skipped": "no time"})
    columns = ["net", "seed", "corruption", "severity", "error"]
    pd.DataFrame(errors, columns=columns).to_csv(folder / "corruption.csv", index=False)
    columns = ["net", "seed", "perturbation", "protocol", "metric", "value"]
    pd.DataFrame(flips, columns=columns).to_csv(folder / "perturbation.csv", index=False)
    columns = ["net", "seed", "epoch", "lr", "train_loss", "train_error", "test_error"]
    pd.DataFrame(curves, columns=columns).to_csv(folder / "history.csv", index=False)
    save_answers(folder / "answers.npz", labels, SETS, answers)
    parts = {
        "machine": {"status": "stopped at its limit", "images": {"train": COUNT, "test": COUNT}},
        "recipe": {"status": "done", "device": card, "way": "fp32 nchw graph", "runs": runs},
    }
    (folder / "results.json").write_text(
        json.dumps({"data": "cifar10-jpeg", "dry_run": False, "parts": parts}), encoding="utf-8"
    )


@pytest.fixture
def repository(local, tmp_path) -> Path:
    (tmp_path / "data").mkdir(exist_ok=True)
    shutil.copytree(ROOT / "data", tmp_path / "data", dirs_exist_ok=True)
    (tmp_path / "jpeg").mkdir()
    np.savez(tmp_path / "jpeg" / "cifar10-jpeg.npz", **jpeg_arrays(COUNT)[0])
    labels = home.read_jpeg_set(tmp_path / "jpeg" / "cifar10-jpeg.npz")["test"][1]
    sent_back(tmp_path / "sent", labels)
    return tmp_path


@pytest.fixture
def no_page(monkeypatch) -> None:
    """Without the page and its pictures, which take longer to draw than all the rest and are seen by one test alone."""
    leave_out_page(monkeypatch)


def leave_out_page(monkeypatch) -> None:
    monkeypatch.setattr(report.main, "callback", lambda: None)
    monkeypatch.setattr(home, "draw_pictures", lambda place, name: None)


def test_tables_report_and_runs_are_those_of_the_pipeline(repository, local, monkeypatch):
    before = (repository / "params.yaml").read_text(encoding="utf-8")
    done = CliRunner().invoke(home.main, ["sent", "--data", "jpeg"])
    assert done.exit_code == 0, (done.output, done.exception)
    folder = repository / "metrics" / "cifar10-jpeg-200"
    summary = pd.read_csv(folder / "summary.csv").set_index(["net", "seed"])
    sent = pd.read_csv(repository / "sent" / "corruption.csv")
    mean = sent[(sent.net == "resnet20-pp") & (sent.seed == 1) & (sent.corruption != "clean")].error.mean()
    assert summary.loc[("resnet20-pp", 1)].E_corr == pytest.approx(mean)
    assert summary.loc[("alexnet", 0)].mCE == pytest.approx(100)
    difference = pd.read_csv(folder / "tables" / "difference.csv")
    assert difference.images.max() == COUNT  # from the answers
    assert not (folder / "tables" / "calibration.csv").exists()  # which needs logits
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "lossy JPEG copy of CIFAR-10" in page
    assert CARD in (folder / "gpu.md").read_text(encoding="utf-8")
    assert "lossy JPEG copies" in (folder / "tables.md").read_text(encoding="utf-8")
    experiment = runs.find_experiment(local, "cifar10-jpeg-200")
    found = local.search_runs([experiment], "tags.role = 'net'")
    assert len(found) == 5
    assert {run.data.tags["device"] for run in found} == {CARD}
    assert {run.data.metrics["train/seconds"] for run in found} == {60.0}
    assert (repository / "params.yaml").read_text(encoding="utf-8") == before
    speeds = json.loads(
        (repository / "benchmarks/results/gpu-nvidia-h100-80gb-hbm3.json").read_text(encoding="utf-8")
    )
    assert speeds["parts"]["recipe"]["device"] == CARD
    leave_out_page(monkeypatch)
    again = CliRunner().invoke(home.main, ["sent", "--data", "jpeg"])
    assert again.exit_code == 0, again.output
    same = local.search_runs([experiment], "tags.role = 'net'")
    assert {run.info.run_id for run in same} == {run.info.run_id for run in found}


def test_what_is_missing_or_a_dry_run_is_one_line(repository):
    results = json.loads((repository / "sent" / "results.json").read_text(encoding="utf-8"))
    (repository / "sent" / "results.json").write_text(
        json.dumps({**results, "dry_run": True}), encoding="utf-8"
    )
    done = CliRunner().invoke(home.main, ["sent", "--data", "jpeg"])
    assert done.exit_code == 1 and "holds a dry run" in done.output
    (repository / "sent" / "results.json").write_text(json.dumps({**results, "parts": {}}), encoding="utf-8")
    done = CliRunner().invoke(home.main, ["sent", "--data", "jpeg"])
    assert done.exit_code == 1 and "does not tell device, runs, way" in done.output
    (repository / "sent" / "history.csv").unlink()
    done = CliRunner().invoke(home.main, ["sent", "--data", "jpeg"])
    assert done.exit_code == 1 and "names no device" in done.output
    (repository / "sent" / "results.json").unlink()
    done = CliRunner().invoke(home.main, ["sent", "--data", "jpeg"])
    assert done.exit_code == 1 and "lacks results.json" in done.output


def test_a_call_without_trainings_brings_its_speeds_home_alone(repository):
    (repository / "sent" / "history.csv").unlink()
    done = CliRunner().invoke(home.main, ["sent", "--data", "jpeg"])
    assert done.exit_code == 0 and "lacks history.csv" in done.output
    assert (repository / "benchmarks/results/gpu-nvidia-h100-80gb-hbm3.json").exists()
    assert not (repository / "metrics" / "cifar10-jpeg-200" / "summary.csv").exists()


def change(path: Path, **parts: dict) -> None:
    """Change what parts have found in a results.json."""
    results = json.loads(path.read_text(encoding="utf-8"))
    results["parts"] = {
        name: results["parts"].get(name, {}) | parts.get(name, {}) for name in results["parts"] | parts
    }
    path.write_text(json.dumps(results), encoding="utf-8")


def test_a_later_call_takes_the_place_of_what_it_measured_and_of_nothing_else(repository, local, no_page):
    """Its nets have runs of their own beside those of before; speeds that it did not measure stay on file."""
    change(
        repository / "sent" / "results.json",
        smoke={"status": "done", "tests": 170, "passed": 170, "skipped": 0, "exit": 0},
    )
    assert CliRunner().invoke(home.main, ["sent", "--data", "jpeg"]).exit_code == 0
    labels = np.load(repository / "sent" / "answers.npz")["labels"]
    sent_back(repository / "later", labels, seeds=(0,), others=())
    runs_now = [
        {"net": net, "seed": 0, "seconds": 50.0, "images_per_second": 1200.0, "test_error": 1.0}
        for net in ("resnet20", "resnet20-pp")
    ]
    change(
        repository / "later" / "results.json",
        recipe={"runs": runs_now},
        smoke={"status": "not run: no time left"},
    )
    done = CliRunner().invoke(home.main, ["later", "--data", "jpeg"])
    assert done.exit_code == 0, (done.output, done.exception)
    speeds = json.loads(
        (repository / "benchmarks/results/gpu-nvidia-h100-80gb-hbm3.json").read_text(encoding="utf-8")
    )["parts"]
    assert speeds["smoke"]["passed"] == 170 and speeds["recipe"]["runs"] == runs_now
    assert not (repository / "metrics" / "cifar10-jpeg-200" / "corruption" / "alexnet.csv").exists()
    found = local.search_runs(
        [runs.find_experiment(local, "cifar10-jpeg-200")], "tags.net = 'resnet20' and tags.seed = '0'"
    )
    assert {run.data.metrics["train/seconds"] for run in found} == {60.0, 50.0}


def test_seeds_that_were_trained_and_not_measured_are_named_and_left_out(repository, local, no_page):
    for kind in ("corruption", "perturbation"):
        rows = pd.read_csv(repository / "sent" / f"{kind}.csv")
        rows[~((rows.net == "resnet20-pp") & (rows.seed == 1))].to_csv(
            repository / "sent" / f"{kind}.csv", index=False
        )
    done = CliRunner().invoke(home.main, ["sent", "--data", "jpeg"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "resnet20-pp, seed 1: trained, not measured" in done.output
    history = pd.read_csv(repository / "metrics/cifar10-jpeg-200/history/resnet20-pp.csv")
    assert set(history.seed) == {0}


def test_calls_of_other_seeds_come_home_together(repository, local, no_page):
    """Nets, answers and curves are those of all; each run names the card that trained it."""
    labels = np.load(repository / "sent" / "answers.npz")["labels"]
    sent_back(repository / "more", labels, seeds=(2,), others=(), card="NVIDIA H200")
    done = CliRunner().invoke(home.main, ["sent", "more", "--data", "jpeg"])
    assert done.exit_code == 0, (done.output, done.exception)
    folder = repository / "metrics" / "cifar10-jpeg-200"
    assert set(pd.read_csv(folder / "summary.csv").query("net == 'resnet20-pp'").seed) == {0, 1, 2}
    (row,) = (
        pd.read_csv(folder / "tables" / "difference.csv")
        .query("measure == 'error' and condition == 'mean'")
        .itertuples()
    )
    assert row.seeds == 3 and row.images == COUNT  # the answers of all three
    found = local.search_runs([runs.find_experiment(local, "cifar10-jpeg-200")], "tags.role = 'net'")
    cards = {(run.data.tags["net"], run.data.tags["seed"]): run.data.tags["device"] for run in found}
    assert cards["resnet20", "2"] == "NVIDIA H200" and cards["resnet20", "1"] == CARD


@pytest.mark.parametrize(
    ("seeds", "changes", "said"),
    [
        ((1,), {}, "resnet20 of seed 1 is in"),
        ((2,), {"way": "bf16 nhwc graph"}, "differ: way"),
        ((2,), None, "other test images"),
    ],
    ids=["a seed twice", "another way", "other images"],
)
def test_calls_that_do_not_go_together_are_refused_in_a_line(repository, seeds, changes, said):
    labels = np.load(repository / "sent" / "answers.npz")["labels"]
    sent_back(
        repository / "more", labels if changes is not None else (labels + 1) % 3, seeds=seeds, others=()
    )
    results = json.loads((repository / "more" / "results.json").read_text(encoding="utf-8"))
    results["parts"]["recipe"] |= changes or {}
    (repository / "more" / "results.json").write_text(json.dumps(results), encoding="utf-8")
    done = CliRunner().invoke(home.main, ["sent", "more", "--data", "jpeg"])
    assert done.exit_code == 1 and said in done.output
    assert not (repository / "metrics" / "cifar10-jpeg-200").exists()
