"""A corruption of one's own through the stages: made, drawn, measured, in every table, and in no mean."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from nets.registry import create_net
from stages import corrupt, evaluate_corruption
from stages.files.trained import Trained
from stages.page import sections
from stages.page.figures import error_bars
from tests.stages import aggregated

NETS = {"small": None, "small-pp": "first"}


@pytest.fixture
def measured(tmp_path, monkeypatch, posterize, one_thread):
    """The folder metrics/tiny after stages corrupt, evaluate_corruption and aggregate, of two untrained LeNets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    random = np.random.default_rng(0)
    clean = tmp_path / "datasets" / "tiny" / "clean"
    clean.mkdir(parents=True)
    images = random.integers(256, size=(12, 32, 32, 3), dtype=np.uint8)
    for split in ("train", "test"):
        np.save(clean / f"{split}_images.npy", images)
        np.save(clean / f"{split}_labels.npy", (np.arange(12) % 6).astype(np.uint8))
    aggregated.write_params(
        tmp_path,
        data={
            "name": "tiny",
            "corruptions": ["posterize", "fog", "contrast"],
            "perturbations": ["translate"],
            "perturbed_images": 2,
        },
        evaluate={"batch_size": 12, "device": "cpu"},
        nets={
            net: {"block": "pushpull" if front else "conv", "arch": "lenet_b"} for net, front in NETS.items()
        },
    )
    for seed, (net, front) in enumerate(NETS.items()):
        torch.manual_seed(seed)
        options = {"pushpull": front, "num_classes": 6}
        weights = {own: create_net("lenet_b", **options).state_dict() for own in (0, 1)}
        Trained("lenet_b", options, [0.5] * 3, [0.25] * 3, weights).save(tmp_path / "models" / f"{net}.pt")
    for stage, *arguments in ((corrupt,), *((evaluate_corruption, net) for net in NETS)):
        done = CliRunner().invoke(stage.main, arguments)
        assert done.exit_code == 0, (done.output, done.exception)
    folder = tmp_path / "metrics" / "tiny"
    aggregated.write_official(folder)
    aggregated.run(tmp_path)
    return folder


def test_it_is_made_drawn_measured_and_tabled_and_in_no_mean(measured, tmp_path):
    images = np.load(tmp_path / "datasets/tiny/clean/test_images.npy")
    np.testing.assert_array_equal(
        np.load(tmp_path / "datasets/tiny/c/posterize.npy")[-12:], images // 64 * 64
    )
    assert (measured / "corruptions.png").exists()

    table = pd.read_csv(measured / "corruption.csv")
    assert len(table) == 2 * 2 * (1 + 3 * 5)
    errors = table.groupby(["net", "corruption"]).error.mean().unstack()
    summary = json.loads((measured / "summary.json").read_text(encoding="utf-8"))
    for net in NETS:
        assert summary[net]["E_corr"] == pytest.approx(errors.loc[net, ["contrast", "fog"]].mean(), abs=1e-3)

    (table2,) = aggregated.display(measured / "tables" / "table2.md").values()
    assert table2.corruption.tolist() == ["clean", "fog", "contrast", "mean of 2", "posterize"]
    assert table2.group.tolist() == ["", "weather", "digital", "", "digital"]
    for net in NETS:
        shown = float(aggregated.plain(table2[net].iloc[-1]).split(" ±")[0])
        assert shown == pytest.approx(errors.loc[net, "posterize"], abs=0.005)

    differences = aggregated.display(measured / "tables" / "difference.md")
    rows = differences["Error, small-pp - small"].set_index("corruption")
    assert rows.index.tolist() == ["clean", "fog", "contrast", "mean of 2", "posterize"]
    change = errors.loc["small-pp"] - errors.loc["small"]
    shown = rows.difference.map(aggregated.plain).astype(float)
    assert shown["posterize"] == pytest.approx(change["posterize"], abs=0.005)
    assert shown["mean of 2"] == pytest.approx(change[["fog", "contrast"]].mean(), abs=0.005)
    assert " of 2" in differences["Overview"].iloc[0]["lower over seeds and images"]

    (calibration,) = aggregated.display(measured / "tables" / "calibration.md").values()
    assert calibration.columns.tolist() == [
        "net", "clean", "mean of 2", "weather", "digital", "posterize"
    ]  # fmt: skip
    confusion = pd.read_csv(measured / "tables" / "confusion" / "small.csv").groupby("set")["count"].sum()
    assert confusion.to_dict() == {"clean": 2 * 12, "corrupted": 2 * 12 * 2 * 5}
    page = (measured / "tables.md").read_text(encoding="utf-8")
    assert "2 corruptions at 5 severities" in page
    assert "Added to the benchmark's, generated from the test images and in no mean: posterize." in page


def test_the_page_and_figure_7_show_it_in_its_group(posterize, tmp_path):
    rows = [
        ("small", 0, name, severity, 10.0)
        for name in ("contrast", "posterize", "fog")
        for severity in range(1, 6)
    ]
    table = pd.DataFrame(
        [("small", 0, "clean", 0, 5.0), *rows], columns=["net", "seed", "corruption", "severity", "error"]
    )
    kinds = sections.kinds()
    assert kinds["posterize"] == "digital"
    heat = sections.heat(table, "corruption", "error", ["clean", *kinds], kinds)
    assert [row["name"] for row in heat["rows"]] == ["clean", "fog", "contrast", "posterize"]
    drawn = {}
    for names in (("contrast", "fog"), ("contrast", "fog", "posterize")):
        path = tmp_path / f"{len(names)}.png"
        error_bars(path, table[table.corruption.isin(["clean", *names])], [["small"]])
        drawn[names] = path.read_bytes()
    assert len(set(drawn.values())) == 2
