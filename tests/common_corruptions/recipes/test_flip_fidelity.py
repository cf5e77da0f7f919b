"""Nets trained by the paper's authors flip on perturbations made here as they do on the published CIFAR-10-P."""

import json

import numpy as np
import pytest

from benchmarks.authors import classes_of, load_nets, read_test_images
from benchmarks.fidelity import compare
from benchmarks.flip_fidelity import (
    NETS,
    RESULTS,
    flips,
    measure,
    read_published,
    stretches,
)
from benchmarks.reference_perturbations import REFERENCE
from common_corruptions import PERTURBATIONS, perturb
from common_corruptions.generate import RECIPES_VERSION
from common_corruptions.recipes.random import Draws


@pytest.mark.slow
def test_flip_probabilities_are_the_published_ones(shared, one_thread):
    """Of one net on half of the images; the result on file is of all."""
    nets = NETS[:1]
    images, _ = read_test_images(shared / "data" / "cifar10-subset")
    found = measure(images[::2], shared / "reference" / "official", nets, pairs=1)
    table = compare(found, read_published(nets))
    mean = table.xs("mean", level="perturbation")
    assert (mean["difference"].abs() <= 3 * mean["standard_error"]).all(), mean
    rest = table.drop(index="mean", level="perturbation")
    pooled = (rest["paired_error"] ** 2).groupby("perturbation").transform("mean") ** 0.5  # of rare flips
    assert (rest["paired_difference"].abs() <= 4 * pooled).all(), rest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rotate", "shear", "spatter"])
def test_a_net_flips_as_on_the_plain_recipe(shared, one_thread, name):
    """On the same images and draws, whole sequences: a third more or less of shear's flips would be 4 standard errors.

    The plain recipe gives the published outputs to the level (`test_perturbations`).
    """
    images = read_test_images(shared / "data" / "cifar10-subset")[0][::3]
    layers = Draws(0, ("perturbation", name), 0, len(images)).normal("drops", (32, 32), 0.6, 0.265)
    drawn = [(layer.astype(np.float64),) for layer in layers] if name == "spatter" else [()] * len(images)
    ours = perturb(images, name)
    plain = np.stack(
        [REFERENCE[name](image, None, *layer) for image, layer in zip(images, drawn, strict=True)]
    )
    other = (ours != plain).any(axis=(2, 3, 4))
    around = other.copy()  # and the frames beside these; the others flip alike
    around[:, 1:] |= other[:, :-1]
    around[:, :-1] |= other[:, 1:]
    on_ours = np.zeros(other.shape, int)
    on_plain = on_ours.copy()
    if other.any():
        net = load_nets(shared / "reference" / "official", NETS[:1])[NETS[0]]
        on_ours[around] = classes_of(net, ours[around])
        on_plain[around] = on_ours[around]
        on_plain[other] = classes_of(net, plain[other])
    # Beside a frame that was left out are frames alike, so that its flips cancel.
    difference = flips(on_ours) - flips(on_plain)
    assert abs(difference.mean()) <= 3 * difference.std() / np.sqrt(len(images))


def test_the_result_on_file_is_of_these_recipes_and_near_the_published_one():
    """A standard error of nine flips is itself a guess, so that of a perturbation is pooled over the nets."""
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    pooled = {
        name: np.sqrt(
            np.mean([rows[name]["paired_error"] ** 2 for rows in result["flip_probability"].values()])
        )
        for name in PERTURBATIONS
    }
    assert result["setting"]["recipes"] == RECIPES_VERSION["perturbation"]
    assert tuple(result["flip_probability"]) == NETS
    published = read_published()
    for net, rows in result["flip_probability"].items():
        assert tuple(rows) == (*PERTURBATIONS, "mean")
        mean = rows.pop("mean")
        assert abs(mean["difference"]) <= 3 * mean["standard_error"]
        for name, row in rows.items():
            assert row["published"] == pytest.approx(published.loc[name, net], abs=1e-5)
            assert row["difference"] == pytest.approx(row["here"] - row["published"], abs=2e-5)
            assert abs(row["paired_difference"]) <= 4 * pooled[name], (net, name)


def test_stretches_cover_all_pairs_alike():
    frames = np.tile(np.arange(31), (12, 1))
    parts = stretches(frames, 5)
    assert parts.shape == (12, 6)
    assert (np.diff(parts, axis=1) == 1).all()
    assert np.bincount(parts[:, 1:].ravel()).tolist() == [0] + 30 * [2]
