"""Nets trained by the paper's authors err on corruptions made here as they do on the published CIFAR-10-C."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.authors import read_test_images
from benchmarks.fidelity import NETS, RESULTS, compare, measure, nested, read_published
from common_corruptions import CORRUPTIONS
from common_corruptions.generate import RECIPES_VERSION


def assert_near(rows: pd.DataFrame) -> None:
    """A few standard errors, of the difference from which the choice of images cancels, or of the mean."""
    mean = rows.loc["mean"]
    assert abs(mean["difference"]) <= 3 * mean["standard_error"], mean
    rest = rows.drop(index="mean")
    assert (rest["paired_difference"].abs() <= 4 * rest["paired_error"]).all(), rest


@pytest.mark.slow
def test_errors_are_the_published_ones(shared, one_thread):
    """Of one net on half of the images at one severity; the result on file is of two on all at all five."""
    some = {"nets": NETS[:1], "severities": (3,)}
    images, labels = read_test_images(shared / "data" / "cifar10-subset")
    found = measure(images[::2], labels[::2], shared / "reference" / "official", **some)
    assert_near(compare(found, read_published(**some)).loc[NETS[0]])


def test_the_result_on_file_is_of_these_recipes_and_near_the_published_one():
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert result["setting"]["recipes"] == RECIPES_VERSION["corruption"]
    assert tuple(result["error"]) == NETS
    published = read_published()
    for net, rows in result["error"].items():
        table = pd.DataFrame(rows).T
        assert tuple(table.index) == (*CORRUPTIONS, "mean")
        np.testing.assert_allclose(table["published"].drop("mean"), published[net], atol=1e-3)
        assert_near(table)


def test_what_images_share_cancels_from_the_paired_difference():
    """Hard images err more under both; a corruption that errs a fifth less than published is told from that."""
    random = np.random.default_rng(0)
    published = pd.DataFrame({"net": [40.0, 20.0, 20.0]}, index=["a", "b", "c"])
    hardness = random.gamma(2.0, 0.6, 400)  # of mean 1.2: harder than all images are
    rows = {"a": 1.0, "b": 1.0, "c": 0.8}
    found = pd.DataFrame(
        {"net": np.concatenate([published.loc[name, "net"] * rows[name] * hardness for name in rows])},
        index=pd.MultiIndex.from_product([list(rows), range(400)], names=["corruption", "image"]),
    )
    found["net"] += random.normal(0, 2, len(found))
    table = compare(found, published).loc["net"]
    assert (table["difference"][["a", "b"]] > 2).all()
    assert table.loc["a", "here"] == pytest.approx(40 * hardness.mean(), abs=0.5)
    assert (table["paired_error"][["a", "b", "c"]] < 0.3).all()
    assert table.loc["c", "paired_difference"] < -10 * table.loc["c", "paired_error"]
    assert set(nested(compare(found, published), 3)["net"]["mean"]) == {
        "here", "published", "difference", "standard_error"
    }  # fmt: skip
