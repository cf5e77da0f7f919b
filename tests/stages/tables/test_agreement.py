"""The authors' weights beside what their authors published, on answers whose statistics are known."""

import numpy as np
import pandas as pd
import pytest

from common_corruptions.recipes.names import CORRUPTIONS, NOISE_PERTURBATIONS, PERTURBATIONS
from common_corruptions.statistics import paired_bootstrap
from stages.tables import paper
from stages.tables.agreement import agreement, compare
from stages.tables.answers import Answers, Scores, flip_shares
from stages.tables.cells import Lineup
from tests.conftest import ROOT

PLAIN, PUSHPULL = "resnet-20 (authors' weights)", "resnet-20-pp (authors' weights)"
LINEUP = Lineup({}, {}, {}, {PLAIN: "resnet20", PUSHPULL: "resnet20-pp"})
IMAGES = 400


@pytest.fixture(scope="module")
def errors() -> dict[str, Scores]:
    """Errors of images that are hard or easy under every corruption alike."""
    random = np.random.default_rng(0)
    hard = random.random(IMAGES)
    scores = {}
    for net, shift in ((PLAIN, 0.3), (PUSHPULL, 0.2)):
        wrong = {
            name: 100.0 * (random.random(IMAGES) < hard * (1 - shift)) for name in ("clean", *CORRUPTIONS)
        }
        wrong["mean"] = np.mean([wrong[name] for name in CORRUPTIONS], axis=0)
        scores[net] = Scores([0], {name: values[None] for name, values in wrong.items()})
    return scores


@pytest.fixture
def table(errors, monkeypatch, load):
    monkeypatch.chdir(ROOT)
    random = np.random.default_rng(1)
    frames = {name: random.integers(0, 3, (20, 6), np.uint8) for name in PERTURBATIONS}
    official = {net: flip_shares({0: frames}, [0], official=True) for net in errors}
    answers = Answers(errors, {}, official, pd.DataFrame(), {}, IMAGES, [])
    params = load(data={"name": "cifar10-authors"}, nets=None, official={"path": "somewhere"})
    return agreement(params, LINEUP, answers)


def test_measured_beside_what_was_released(table, errors):
    rows = table.tidy.set_index(["net", "measure", "condition"])
    released = pd.read_csv(ROOT / "data/published/released-c.csv").groupby(["net", "corruption"]).error.mean()
    for net, twin in LINEUP.authors.items():
        for name in CORRUPTIONS:
            row = rows.loc[net, "error", name]
            assert row.published == pytest.approx(released[twin, name])
            assert row.measured == pytest.approx(errors[net].by_condition[name].mean())
            assert row.difference == pytest.approx(row.measured - row.published)
    assert rows.loc[(PLAIN, "error", "mean"), "published"] == pytest.approx(30.29, abs=0.005)  # table 2
    assert rows.loc[(PLAIN, "error", "clean"), "published"] == 7.56  # table 3
    # The authors compare noises with the previous frame too.
    noise = rows.loc[(PLAIN, "flip_probability", NOISE_PERTURBATIONS[0]), "measured"]
    assert noise == pytest.approx(200 / 3, abs=12)
    assert rows.loc[(PLAIN, "flip_probability", "mean"), "published"] == pytest.approx(
        100 * paper.released_perturbations().query(
            "net == 'resnet20' and metric == 'flip_probability' and perturbation != 'mean'"
        ).value.mean()
    )  # fmt: skip


def test_an_image_counts_once_in_the_standard_error_of_e(table, errors):
    """Errors under 19 corruptions are no 19 times as many images: E is as uncertain as the images' mean errors."""
    rows = table.tidy.set_index(["net", "measure", "condition"])
    values = errors[PLAIN].by_condition["mean"][0]
    drawn = [
        np.random.default_rng(seed).permutation(np.resize(values, 10_000))[:IMAGES].mean()
        for seed in range(2000)
    ]
    found = rows.loc[(PLAIN, "error", "mean"), "standard_error"]
    assert found == pytest.approx(np.std(drawn), rel=0.06)
    assert found > 2 * np.sqrt(
        np.mean([errors[PLAIN].by_condition[n].var() for n in CORRUPTIONS]) / IMAGES / 19
    )


def test_pairs_have_the_interval_of_the_paired_bootstrap(table, errors):
    rows = table.tidy.set_index(["net", "measure", "condition"])
    row = rows.loc[f"{PUSHPULL} - {PLAIN}", "error", "mean"]
    paired = errors[PUSHPULL].by_condition["mean"] - errors[PLAIN].by_condition["mean"]
    expected = paired_bootstrap(paired[None])
    assert row.measured == pytest.approx(expected.mean[0])
    assert row.published == pytest.approx(29.38 - 30.29, abs=0.01)
    assert row[["low_images", "high_images"]].tolist() == pytest.approx(
        [expected.low_images[0], expected.high_images[0]], abs=0.2
    )
    assert set(table.display) == {
        "Nets", "Push-pull minus baseline", *(f"Error, {net}" for net in (*errors, f"{PUSHPULL} - {PLAIN}")),
    }  # fmt: skip
    assert table.display["Nets"].quantity.tolist() == ["E clean", "E", "mFP, official protocol"] * 2


def test_all_10000_images_leave_no_sampling_error():
    *_, error, ratio, count = compare(np.arange(10_000) % 2 * 100.0, 49.0)
    assert (error, count) == (0, 10_000) and np.isnan(ratio)


def test_nothing_is_published_for_another_set(errors, load, monkeypatch):
    monkeypatch.chdir(ROOT)
    answers = Answers(errors, {}, {}, pd.DataFrame(), {}, IMAGES, [])
    assert agreement(load(data={"name": "digits"}), LINEUP, answers) is None
