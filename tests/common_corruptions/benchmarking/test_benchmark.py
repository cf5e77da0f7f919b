"""The benchmark on a folder: what it measures, what it refuses before that, and what it says beside the figures."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from common_corruptions import benchmark
from common_corruptions.evaluation.answers import count_images, predict_corruptions, rank_perturbations
from common_corruptions.metrics.baseline import ALEXNET_CLEAN_ERROR, ALEXNET_ERRORS
from common_corruptions.recipes.names import CORRUPTIONS, FRAMES, MAIN_CORRUPTIONS, PERTURBATIONS, SEVERITIES
from common_corruptions.summary import PUBLISHED_ALEXNET, Baseline, summarise

COUNT = 12
LABELS = (np.arange(COUNT) ** 2 % 3).astype(np.uint8)  # not the same when rolled or reversed
NOTHING = Baseline({"fog": 20.0, "snow": 30.0}, 10.0, "another net")


def pictures(*shape):
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


@pytest.fixture
def folder(tmp_path):
    """A set of two corruptions and three perturbations of twelve images."""
    folder = tmp_path / "tiny"
    save(folder / "clean" / "test_images.npy", pictures(COUNT, 4, 4, 3))
    save(folder / "clean" / "test_labels.npy", LABELS)
    for name in ("fog", "snow"):
        save(folder / "c" / f"{name}.npy", pictures(5 * COUNT, 4, 4, 3))
    save(folder / "c" / "labels.npy", np.tile(LABELS, 5))
    for name in ("gaussian_noise", "tilt", "motion_blur"):
        save(folder / "p" / f"{name}.npy", pictures(COUNT, FRAMES[name], 4, 4, 3))
    return folder


def small_net(channels=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * channels, 3))


def never(x):
    raise AssertionError("the net ran before the set was compared")


def measured(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return benchmark(*args, progress=False, **options)


def said(folder, **options):
    with pytest.warns(UserWarning, match=re.escape(str(folder))) as record:
        _, summary = benchmark(small_net(), folder, progress=False, **options)
    return [str(one.message).removeprefix(f"{folder}: ") for one in record], summary


def test_every_measurement_and_what_they_come_to(folder):
    table, summary = measured(small_net().train(), folder, baseline=NOTHING)
    errors = table[table.kind == "corruption"].set_index(["name", "severity"]).value
    assert set(errors.index) == {("clean", 0), *((name, s) for name in ("fog", "snow") for s in SEVERITIES)}

    def error(images, labels):
        inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return 100 * np.mean(small_net()(inputs).argmax(1).numpy() != labels)

    stacked = np.load(folder / "c" / "fog.npy")
    for severity in SEVERITIES:
        part = stacked[(severity - 1) * COUNT : severity * COUNT]
        assert errors["fog", severity] == pytest.approx(error(part, LABELS))
    means = errors.groupby("name").mean()
    assert summary["E_corr"] == pytest.approx((means["fog"] + means["snow"]) / 2)
    assert summary["mCE"] == pytest.approx(100 * (means["fog"] / 20 + means["snow"] / 30) / 2)
    flips = table[(table.metric == "flip_probability") & (table.protocol == "hendrycks")].value
    assert summary["mFP"] == pytest.approx(100 * flips.mean())


def test_sets_of_the_first_images(folder, tmp_path):
    """Clean images count as far as corrupted ones do, and the part is said."""
    first = COUNT - 4
    for path in sorted((folder / "c").glob("*.npy")):
        whole = np.load(path)
        by_severity = whole.reshape(len(SEVERITIES), COUNT, *whole.shape[1:])
        np.save(path, by_severity[:, :first].reshape(-1, *whole.shape[1:]))
    warned, _ = said(folder, baseline=NOTHING)
    assert f"the corrupted images cover the first {first} of the {COUNT} test images" in warned
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table, _ = benchmark(small_net(), folder, baseline=NOTHING, progress=False)
    inputs = torch.from_numpy(np.load(folder / "clean" / "test_images.npy")[:first])
    wrong = small_net()(inputs.permute(0, 3, 1, 2).float() / 255).argmax(1).numpy() != LABELS[:first]
    assert table.set_index("name").value["clean"] == pytest.approx(100 * wrong.mean())


# Modes


class Frozen(nn.Module):
    """Batch normalisation that notes the modes it was called in."""

    def __init__(self):
        super().__init__()
        self.norm, self.dropout, self.head = nn.BatchNorm2d(3), nn.Dropout(0.5), small_net()
        self.seen = set()

    def forward(self, x):
        self.seen |= {part.training for part in self.modules()}
        return self.head(self.dropout(self.norm(x)))


@pytest.mark.parametrize(
    "training", [("",), ("norm",), ("dropout", "head.1"), ("", "dropout", "head", "head.0"), ()]
)
def test_all_is_in_eval_mode_meanwhile_and_every_mode_is_restored(folder, training):
    net = Frozen()
    for name, part in net.named_modules():
        part.training = name in training
    before = {name: value.clone() for name, value in net.state_dict().items()}
    measured(net, folder)
    assert net.seen == {False}
    assert {name for name, part in net.named_modules() if part.training} == set(training)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_modes_are_restored_when_the_net_fails(folder):
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Linear(5, 5)).train()
    net[0].eval()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        measured(net, folder)
    assert [part.training for part in net.modules()] == [True, False, True]


# What does not fit the clean images is refused before the net runs


def roll(array):
    return np.roll(array, 1)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("c/labels.npy", roll, "c/labels.npy does not repeat the labels of the clean test images"),
        ("c/labels.npy", lambda labels: labels[::-1], "c/labels.npy does not repeat"),
        ("c/labels.npy", lambda labels: labels[:COUNT], "c/labels.npy does not repeat"),
        ("c/labels.npy", lambda labels: np.sort(labels), "c/labels.npy does not repeat"),
        ("c/labels.npy", lambda labels: labels[:, None], "c/labels.npy must hold labels"),
        ("c/snow.npy", lambda stack: stack[:-COUNT], r"c/snow.npy holds uint8 \(48, 4, 4, 3\); .* \(60, 4, 4, 3\)"),
        ("c/snow.npy", lambda stack: stack[:, :, :3], r"c/snow.npy holds uint8 \(60, 4, 3, 3\)"),
        ("c/snow.npy", lambda stack: stack[..., :1], r"c/snow.npy holds uint8 \(60, 4, 4, 1\)"),
        ("c/snow.npy", lambda stack: stack / np.float32(255), "c/snow.npy holds float32"),
        ("p/tilt.npy", lambda frames: frames[:5], r"p/tilt.npy has .* 5 images \(4, 4, 3\), .* 12 \(4"),
        ("p/tilt.npy", lambda frames: frames[:, :, :3], r"p/tilt.npy has .* images \(3, 4, 3\), .* \(4, 4, 3\)"),
        ("p/tilt.npy", lambda frames: frames.swapaxes(0, 1), r"p/tilt.npy has sequences of 31 images"),
        ("p/tilt.npy", lambda frames: frames[:, 0], "p/tilt.npy must hold sequences"),
        ("p/tilt.npy", lambda frames: frames[:, :1], "p/tilt.npy must hold sequences of 2 frames or more"),
        ("p/tilt.npy", lambda frames: frames / 255, "p/tilt.npy must hold sequences"),
        ("clean/test_labels.npy", lambda labels: labels[:-1], "12 test images, but 11 labels"),
        ("clean/test_labels.npy", lambda labels: labels / 1, "test_labels.npy must hold labels"),
        ("clean/test_labels.npy", lambda labels: labels - np.int8(1), "test_labels.npy must hold labels"),
        ("clean/test_labels.npy", lambda labels: np.eye(3)[labels], "test_labels.npy must hold labels"),
        ("clean/test_images.npy", lambda images: images[:0], "test_images.npy must hold images"),
        ("clean/test_images.npy", lambda images: images / 255, "test_images.npy must hold images"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(folder, file, change, message):
    array = np.load(folder / file)
    save(folder / file, change(array if file != "clean/test_labels.npy" else array.astype(np.int8)))
    with pytest.raises(ValueError, match=message):
        measured(never, folder)


def test_all_sequences_of_fewer_images_are_refused_unless_their_labels_say_which(folder):
    for name in ("gaussian_noise", "tilt", "motion_blur"):
        save(folder / "p" / f"{name}.npy", np.load(folder / "p" / f"{name}.npy")[:5])
    with pytest.raises(ValueError, match=r"noise\.npy has sequences of 5 images .* 12 \(4, 4, 3\)"):
        measured(never, folder)
    save(folder / "p" / "labels.npy", LABELS[:5])
    lines, _ = said(folder)
    assert "the sequences cover the first 5 of the 12 test images" in lines
    save(folder / "p" / "labels.npy", LABELS[1:6])
    with pytest.raises(ValueError, match=r"p/labels.npy does not repeat"):
        measured(never, folder)


def test_no_fewer_sequences_than_are_asked_for_or_than_there_are_labels(folder):
    with pytest.raises(ValueError, match="p has 12 sequences per file, not the 13 requested"):
        next(rank_perturbations(never, folder, ["tilt"], 13))
    save(folder / "p" / "labels.npy", LABELS)  # of a test set that has no more images than these
    assert len(list(rank_perturbations(small_net(), folder, ["tilt"], 13))) == 1
    save(folder / "p" / "tilt.npy", np.load(folder / "p" / "tilt.npy")[:5])
    for count in (3, None):
        with pytest.raises(ValueError, match=r"tilt\.npy has sequences of 5 images"):
            next(rank_perturbations(never, folder, ["tilt"], count))


@pytest.mark.parametrize("first", [5, COUNT])
@pytest.mark.parametrize("names", [["fog", "snow"], []])
def test_as_many_images_are_counted_as_a_net_is_given(folder, names, first):
    """Of a set whose first images alone are corrupted, no more clean ones than those."""
    for name in ("fog", "snow"):
        save(folder / "c" / f"{name}.npy", pictures(5 * first, 4, 4, 3))
    save(folder / "c" / "labels.npy", np.tile(LABELS[:first], 5))
    given, net = [], small_net()

    def counting(x):
        given.append(len(x))
        return net(x)

    list(predict_corruptions(counting, folder, names))
    list(rank_perturbations(counting, folder, ["tilt", "motion_blur"], 3))
    assert count_images(folder, names, ["tilt", "motion_blur"], 3) == sum(given)
    assert sum(given) == (11 * first if names else COUNT) + 3 * (31 + 21)


@pytest.mark.parametrize("file", ["clean/test_images", "clean/test_labels", "c/fog", "c/labels", "p/tilt"])
def test_a_damaged_file_is_one_line_that_names_it(folder, file):
    path = folder / f"{file}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} is not an .npy file of numbers"):
        measured(never, folder)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({}, "clean"),
        ({"corruptions": ["fog"], "perturbations": []}, "fog, severity 3"),
        ({"corruptions": [], "perturbations": ["tilt"]}, "tilt"),
    ],
)
def test_where_a_net_answers_with_nan_is_told(folder, options, place):
    sets = {
        "clean": np.load(folder / "clean" / "test_images.npy"),
        "tilt": np.load(folder / "p" / "tilt.npy")[-1],
    }
    sets["fog, severity 3"] = np.load(folder / "c" / "fog.npy")[2 * COUNT :]

    def net(x):
        images = (x * 255).round().byte().permute(0, 2, 3, 1)
        broken = (images == torch.from_numpy(sets[place][0])).all()
        return x.mean((2, 3)).where(~broken, torch.nan)

    with pytest.raises(ValueError, match=f"^the net's logits contain NaN on {place}$"):
        measured(net, folder, batch_size=1, **options)


def test_where_a_net_overflows_is_told(folder):
    """All its answers would be the first class."""
    with pytest.raises(
        ValueError, match=r"^the net's logits are infinite for several classes of one image on clean$"
    ):
        measured(lambda x: (x.mean((2, 3)) * 1e6 + 1e6).half(), folder)


def test_a_baseline_that_lacks_a_corruption_is_refused_at_once(folder):
    with pytest.raises(ValueError, match="no baseline error for snow"):
        measured(never, folder, baseline=Baseline({"fog": 20.0}, 10.0, "another net"))
    with pytest.raises(ValueError, match="baseline_clean is -1"):
        measured(never, folder, baseline=Baseline({"fog": 20.0, "snow": 30.0}, -1.0, "another net"))


def test_grey_images_are_not_spread_by_a_mean_of_three(folder):
    for path in folder.rglob("*.npy"):
        array = np.load(path)
        save(path, array[..., :1] if array.ndim > 1 else array)
    with pytest.raises(ValueError, match="mean must have one number for each of the 1 channels"):
        measured(never, folder, mean=[0.5] * 3, std=[0.25] * 3)
    _, summary = measured(small_net(1), folder, mean=[0.5], std=[0.25])
    assert 0 <= summary["E_clean"] <= 100


# What the figures are of


def test_means_over_a_part_are_counted_and_what_is_missing_is_named(folder):
    lines, summary = said(folder, baseline=NOTHING)
    assert (summary["corruptions"], summary["perturbations"]) == (2, 3)
    assert {"mCE", "rCE", "mFP"} <= summary.keys() and not {"mCE_15", "rCE_15"} & summary.keys()
    absent = ", ".join(name for name in CORRUPTIONS if name not in ("fog", "snow"))
    still = ", ".join(name for name in PERTURBATIONS if name not in ("gaussian_noise", "tilt", "motion_blur"))
    assert lines == [
        "E_corr, mCE and rCE are over 2 of the 19 corruptions, and there is no mCE_15 and no rCE_15; missing: "
        + absent,
        f"mFP is over 3 of the 14 perturbations; missing: {still}",
    ]


def test_files_of_unknown_names_are_named(folder):
    save(folder / "c" / "fogg.npy", pictures(5 * COUNT, 4, 4, 3))
    save(folder / "p" / "tilted.npy", pictures(COUNT, 31, 4, 4, 3))
    save(folder / "p" / "shot_noise_2.npy", pictures(COUNT, 31, 4, 4, 3))  # of the published set
    lines, summary = said(folder)
    assert (summary["corruptions"], summary["perturbations"]) == (2, 3)
    assert (
        "2 files or folders not named like a corruption or perturbation are left out: c/fogg.npy, p/tilted.npy"
        in lines
    )


def test_what_rce_leaves_out_is_named(folder):
    lines, _ = said(folder, baseline=Baseline({"fog": 20.0, "snow": 9.0}, 9.0, "another net"))
    assert "rCE leaves out snow, which do not raise the error of another net" in lines


def test_a_whole_set_gives_every_figure_and_no_warning(folder):
    for name in CORRUPTIONS:
        save(folder / "c" / f"{name}.npy", pictures(5 * COUNT, 4, 4, 3))
    for name in PERTURBATIONS:
        save(folder / "p" / f"{name}.npy", pictures(COUNT, FRAMES[name], 4, 4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        baseline = replace(PUBLISHED_ALEXNET, sides=None)  # the images here are 4 x 4
        table, summary = benchmark(small_net(), folder, baseline=baseline, progress=False)
    assert (summary["corruptions"], summary["perturbations"]) == (19, 14)
    error = table[table.kind == "corruption"].groupby("name").value.mean()
    for suffix, names in (("", CORRUPTIONS), ("_15", MAIN_CORRUPTIONS)):
        baseline = pd.Series(ALEXNET_ERRORS)[[*names]]
        assert summary[f"mCE{suffix}"] == pytest.approx((100 * error[[*names]] / baseline).mean())
        rise = (error[[*names]] - error["clean"]) / (baseline - ALEXNET_CLEAN_ERROR)
        assert summary[f"rCE{suffix}"] == pytest.approx(100 * rise.mean())


def test_there_is_no_figure_over_the_main_15_from_14():
    errors = [("clean", 0, 5.0), *((name, s, 40.0) for name in MAIN_CORRUPTIONS for s in SEVERITIES)]
    assert {"mCE_15", "rCE_15"} <= summarise(errors, [], PUBLISHED_ALEXNET).keys()
    fewer = summarise([row for row in errors if row[0] != "fog"], [], PUBLISHED_ALEXNET)
    assert {"mCE", "rCE"} <= fewer.keys() and not {"mCE_15", "rCE_15"} & fewer.keys()
