"""Folders as people have them: the published flat ones and what the command line writes, without clean images."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from common_corruptions import benchmark
from common_corruptions.__main__ import main
from common_corruptions.benchmarking.baseline_table import as_baseline
from common_corruptions.generate import generate_corruptions, generate_perturbations
from common_corruptions.metrics.baseline import ALEXNET_ERRORS
from common_corruptions.sets.folders import split_names
from common_corruptions.statistics import expected_calibration_error

COUNT = 12
LABELS = (np.arange(COUNT) ** 2 % 3).astype(np.uint8)
RANDOM = np.random.default_rng(0)


def pictures(*shape):
    return RANDOM.integers(256, size=shape, dtype=np.uint8)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3))


def never(x):
    raise AssertionError("the net ran before the set was compared")


def logits(images):
    with torch.no_grad():
        return net()(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).numpy()


def measured(folder, of=None, **options):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        table, summary = benchmark(of or net(), folder, progress=False, **options)
    return table, summary, [str(one.message).removeprefix(f"{folder}: ") for one in record]


@pytest.fixture
def flat_c(tmp_path):
    """CIFAR-10-C as published: the sets and the labels beside one another."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    for name in ("fog", "gaussian_noise"):
        np.save(folder / f"{name}.npy", pictures(5 * COUNT, 8, 8, 3))
    np.save(folder / "labels.npy", np.tile(LABELS, 5))
    return folder


@pytest.fixture
def flat_p(tmp_path):
    """CIFAR-10-P as published: sequences, and no labels."""
    folder = tmp_path / "CIFAR-10-P"
    folder.mkdir()
    for name in ("gaussian_noise", "tilt", "gaussian_noise_2"):
        np.save(folder / f"{name}.npy", pictures(COUNT, 31, 8, 8, 3))
    return folder


def test_the_published_c(flat_c):
    table, summary, said = measured(flat_c, baseline="alexnet-cifar10")
    assert "there are no clean images, so no E_clean and no rCE" in said
    assert not {"E_clean", "rCE", "mFP", "ECE_clean", "E_clean_low"} & summary.keys()
    assert (summary["corruptions"], summary["perturbations"]) == (2, 0)
    assert len(table) == 10 and set(table.kind) == {"corruption"}
    errors = {}
    for name in ("fog", "gaussian_noise"):
        parts = np.split(np.load(flat_c / f"{name}.npy"), 5)
        errors[name] = [100 * np.mean(logits(part).argmax(1) != LABELS) for part in parts]
        found = table[table.name == name].set_index("severity").value
        np.testing.assert_allclose(found[[1, 2, 3, 4, 5]], errors[name])
    means = {name: np.mean(values) for name, values in errors.items()}
    assert summary["E_corr"] == pytest.approx(np.mean(list(means.values())))
    relative = [100 * means[name] / ALEXNET_ERRORS[name] for name in means]
    assert summary["mCE"] == pytest.approx(np.mean(relative))


def test_interval_and_calibration(flat_c):
    """The interval is that of a mean over images: near the normal one, by another way."""
    _, summary, _ = measured(flat_c)
    stacks = [
        np.load(flat_c / f"{name}.npy").reshape(5, COUNT, 8, 8, 3) for name in ("fog", "gaussian_noise")
    ]
    answers = np.stack([logits(part) for stack in stacks for part in stack])
    by_image = 100 * np.mean(answers.argmax(2) != LABELS, axis=0)
    half = 1.96 * by_image.std() / np.sqrt(COUNT)
    width = summary["E_corr_high"] - summary["E_corr_low"]
    assert width == pytest.approx(2 * half, rel=0.15)
    assert summary["E_corr_low"] < summary["E_corr"] < summary["E_corr_high"]
    assert summary["ECE_corr"] == pytest.approx(expected_calibration_error(answers, LABELS).mean(), rel=1e-4)


def test_no_calibration_of_probabilities_or_infinities(flat_c):
    module = net()
    _, summary, said = measured(flat_c, of=lambda x: module(x).softmax(1))
    assert "ECE_corr" not in summary and "E_corr_low" in summary
    assert "there is no ECE: the net returns probabilities; let it return their logarithm" in said
    _, summary, said = measured(flat_c, of=lambda x: module(x).softmax(1).mul(torch.tensor([1, 1, 0])).log())
    assert "ECE_corr" not in summary and "there is no ECE: a logit is not finite" in said


def test_the_published_p(flat_p):
    table, summary, said = measured(flat_p)
    assert (summary["corruptions"], summary["perturbations"]) == (0, 2)
    assert set(table.name) == {"gaussian_noise", "tilt"} and set(table.kind) == {"perturbation"}
    frames = np.load(flat_p / "tilt.npy")
    classes = logits(frames.reshape(-1, 8, 8, 3)).reshape(COUNT, 31, 3).argmax(2)
    flips = table[(table.name == "tilt") & (table.metric == "flip_probability")].value
    np.testing.assert_allclose(flips, np.mean(classes[:, 1:] != classes[:, :-1]))
    assert not any("clean" in line for line in said)


def test_what_the_command_line_writes(tmp_path):
    """Its two folders, beside one another or each alone."""
    np.save(tmp_path / "images.npy", pictures(COUNT, 32, 32, 3))
    np.save(tmp_path / "labels.npy", LABELS)
    for command, part, name in (("corrupt", "c", "contrast"), ("perturb", "p", "brightness")):
        given = [
            command,
            tmp_path / "images.npy",
            tmp_path / "out" / part,
            "--labels",
            tmp_path / "labels.npy",
        ]
        done = CliRunner().invoke(main, [*map(str, given), "--only", name, "--workers", "1"])
        assert done.exit_code == 0, done.output

    def of(x):
        return x.flatten(1)[:, :3]

    both, _, _ = measured(tmp_path / "out", of)
    c, _, said = measured(tmp_path / "out" / "c", of)
    p, _, _ = measured(tmp_path / "out" / "p", of)
    both, c, p = (one.astype(object).fillna("") for one in (both, c, p))
    pd.testing.assert_frame_equal(both, pd.concat([c, p], ignore_index=True))
    assert not any("not named like" in line for line in said)


@pytest.fixture
def made_here(tmp_path):
    """Clean images, and sets made of the first of them."""
    folder = tmp_path / "made"
    (folder / "clean").mkdir(parents=True)
    images = np.random.default_rng(1).integers(256, size=(COUNT, 32, 32, 3), dtype=np.uint8)
    np.save(folder / "clean" / "test_images.npy", images)
    np.save(folder / "clean" / "test_labels.npy", LABELS)
    options = {"workers": 1, "progress": False}
    generate_corruptions(images[:8], LABELS[:8], folder / "c", corruptions=["contrast"], **options)
    generate_perturbations(images[:8], LABELS[:8], folder / "p", perturbations=["brightness"], **options)
    return folder


@pytest.mark.parametrize(("part", "name"), [("c", "contrast"), ("p", "brightness")])
def test_sets_made_of_other_images_than_the_clean_ones_are_refused(made_here, part, name):
    def of(x):
        return x.flatten(1)[:, :3]

    measured(made_here, of, batch_size=COUNT)
    path = made_here / "clean" / "test_images.npy"
    images = np.load(path)
    images[8:] = 0  # of which nothing was made
    np.save(path, images)
    measured(made_here, of)
    images[7] ^= 1
    np.save(path, images)
    names = {"corruptions": [], "perturbations": []}
    names["corruptions" if part == "c" else "perturbations"] = [name]
    with pytest.raises(
        ValueError, match=rf"{part}/{name}\.npy was made from other images than the clean ones"
    ):
        measured(made_here, never, **names)
    record = made_here / part / "generated.json"
    record.unlink()  # as in a published folder
    measured(made_here, of, **names)
    record.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"generated\.json is damaged"):
        measured(made_here, never, **names)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("labels", lambda labels: labels[:COUNT], r"labels.npy must repeat the same labels five times"),
        ("labels", np.sort, r"labels.npy must repeat the same labels five times"),
        ("labels", lambda labels: labels[:-1], r"labels.npy must repeat the same labels five times"),
        (
            "fog",
            lambda stack: stack[:-5],
            r"fog.npy has 55 images, but labels.npy is for 60",
        ),
        ("fog", lambda stack: stack / 255, r"fog.npy must hold uint8 \(5 N, H, W, C\), not float64"),
        ("fog", lambda stack: stack[None], r"fog.npy must hold uint8 \(5 N, H, W, C\), not uint8 \(1, 60"),
        (
            "fog",
            lambda stack: stack[:, :4],
            r"fog.npy has images of shape \(4, 8, 3\), the other files \(8, 8, 3\)",
        ),
    ],
)
def test_corrupted_files_that_do_not_fit(flat_c, file, change, message):
    path = flat_c / f"{file}.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(ValueError, match=message):
        measured(flat_c, never)


def test_sequences_that_do_not_fit(flat_p):
    np.save(flat_p / "tilt.npy", np.load(flat_p / "tilt.npy")[:-1])
    with pytest.raises(
        ValueError, match=r"tilt.npy has sequences of 11 images .* or the other files have 12"
    ):
        measured(flat_p, never)
    np.save(flat_p / "tilt.npy", pictures(COUNT, 1, 8, 8, 3))
    with pytest.raises(ValueError, match=r"tilt.npy must hold sequences of 2 frames or more"):
        measured(flat_p, never)


def test_corruptions_without_labels_and_folders_without_sets(flat_c, tmp_path):
    (flat_c / "labels.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels.npy is missing; .* five severities"):
        measured(flat_c, never)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"nothing to measure in {re.escape(str(folder))}"):
            measured(folder, never)


# A subset


def test_names_asked_for_are_measured_alone(flat_c, flat_p):
    table, summary, said = measured(flat_c, corruptions=["fog"])
    assert set(table.name) == {"fog"} and summary["corruptions"] == 1
    assert any("over 1 of the 19 corruptions" in line for line in said)
    table, summary, _ = measured(flat_p, perturbations=["gaussian_noise_2"])
    assert set(table.name) == {"gaussian_noise_2"} and "mFP" not in summary
    assert summary["perturbations"] == 0


def test_names_asked_for_that_are_not_there(flat_c):
    with pytest.raises(FileNotFoundError, match=r"has no snow.npy for the corruption"):
        measured(flat_c, never, corruptions=["fog", "snow"])
    with pytest.raises(FileNotFoundError, match=r"has no gaussian_noise.npy for the perturbation"):
        measured(flat_c, never, perturbations=["gaussian_noise"])
    with pytest.raises(ValueError, match="unknown corruption 'fogg'; did you mean 'fog'"):
        measured(flat_c, never, corruptions=["fogg"])
    with pytest.raises(ValueError, match="unknown perturbation 'tilted'; did you mean 'tilt'"):
        measured(flat_c, never, perturbations=["tilted"])
    with pytest.raises(TypeError, match=r"such as \['fog'\], not one string"):
        measured(flat_c, never, corruptions="fog")
    with pytest.raises(FileNotFoundError, match="to measure in"):
        measured(flat_c, never, corruptions=[])


def test_a_name_of_both_kinds_is_split_by_what_the_folder_has(flat_c, flat_p, tmp_path):
    assert split_names(flat_c, ["gaussian_noise", "fog"]) == (["gaussian_noise", "fog"], [])
    assert split_names(flat_p, ["gaussian_noise", "gaussian_noise_2"]) == (
        [],
        ["gaussian_noise", "gaussian_noise_2"],
    )
    flat_c.rename(tmp_path / "c")
    flat_p.rename(tmp_path / "p")
    assert split_names(tmp_path, ["tilt", "gaussian_noise"]) == (
        ["gaussian_noise"],
        ["tilt", "gaussian_noise"],
    )


# Baselines


def test_a_baseline_is_named_or_given_and_never_guessed(flat_c):
    named_so = flat_c.rename(flat_c.parent / "cifar10")
    _, summary, _ = measured(named_so)
    assert "mCE" not in summary
    errors = {"fog": 20.0, "gaussian_noise": 40.0, "clean": 10.0}
    table, summary, _ = measured(named_so, baseline=errors)
    means = table.groupby("name").value.mean()
    assert summary["mCE"] == pytest.approx(100 * (means["fog"] / 20 + means["gaussian_noise"] / 40) / 2)
    path = named_so.parent / "errors.csv"
    pd.Series(errors, name="error").rename_axis("name").to_csv(path)
    assert measured(named_so, baseline=path)[1]["mCE"] == summary["mCE"]


def test_a_table_of_ones_own_measurement_is_a_baseline(flat_c, tmp_path):
    """Normalised by its own errors a net has mCE 100, and rCE 100."""
    (tmp_path / "clean").mkdir()
    np.save(tmp_path / "clean" / "test_images.npy", pictures(COUNT, 8, 8, 3))
    np.save(tmp_path / "clean" / "test_labels.npy", LABELS)
    flat_c.rename(tmp_path / "c")
    right = net()
    clean = logits(np.load(tmp_path / "clean" / "test_images.npy"))

    def of(x):  # right about the clean images, whatever else
        found = right(x)
        known = len(x) == COUNT and np.allclose(found.detach(), clean, atol=1e-5)
        return torch.eye(3)[LABELS.astype(int)] if known else found

    table, _, _ = measured(tmp_path, of)
    table.to_csv(tmp_path / "table.csv")
    _, summary, _ = measured(tmp_path, of, baseline=str(tmp_path / "table.csv"))
    assert summary["E_clean"] == 0 and summary["mCE"] == summary["rCE"] == pytest.approx(100)


def test_the_clean_error_of_a_baseline_is_for_rce_alone(flat_c, tmp_path):
    errors = {"fog": 20.0, "gaussian_noise": 40.0}
    _, summary, _ = measured(flat_c, baseline=errors)
    assert summary["mCE"] == measured(flat_c, baseline=errors | {"clean": 5.0})[1]["mCE"]
    (tmp_path / "clean").mkdir()
    np.save(tmp_path / "clean" / "test_images.npy", pictures(COUNT, 8, 8, 3))
    np.save(tmp_path / "clean" / "test_labels.npy", LABELS)
    flat_c.rename(tmp_path / "c")
    _, without, said = measured(tmp_path, baseline=errors)
    assert "there is no rCE: the baseline given lacks the error on clean images, named clean" in said
    _, whole, _ = measured(tmp_path, baseline=errors | {"clean": 5.0})
    assert without["mCE"] == whole["mCE"] and whole.keys() - without.keys() == {"rCE"}


@pytest.mark.parametrize(
    ("name", "size", "of"),
    [
        ("alexnet-cifar10", 224, "of CIFAR-10-C, 32 x 32"),
        ("alexnet-cifar10", 64, "of CIFAR-10-C, 32 x 32"),
        ("alexnet-imagenet", 64, "larger than 64 x 64"),
        ("alexnet-cifar10", 32, None),
        ("alexnet-imagenet", 65, None),
    ],
)
def test_a_published_baseline_is_for_images_of_its_size(flat_c, name, size, of):
    (flat_c / "gaussian_noise.npy").unlink()
    np.save(flat_c / "fog.npy", np.zeros((5 * COUNT, size, size, 3), np.uint8))
    _, _, said = measured(flat_c, lambda x: x.flatten(1)[:, :3], baseline=name)
    lines = [line for line in said if "mCE and rCE are meaningless" in line]
    assert len(lines) == (of is not None)
    assert all(f"are for images {of}, but these are {size} x {size}: " in line for line in lines)
    _, _, said = measured(flat_c, lambda x: x.flatten(1)[:, :3], baseline={"fog": 20.0})
    assert not any("are meaningless" in line for line in said)


@pytest.mark.parametrize(
    ("name", "size", "channels", "scale", "kind"),
    [
        ("alexnet-cifar10", 32, 3, "imagenet", "32 x 32, corrupted at the scale imagenet"),
        ("alexnet-cifar10", 32, 1, "cifar", "32 x 32, grey"),
        ("alexnet-imagenet", 80, 3, "cifar", "80 x 80, corrupted at the scale cifar"),
        ("alexnet-cifar10", 32, 3, "cifar", None),
        ("alexnet-imagenet", 80, 3, "imagenet", None),
    ],
)
def test_a_published_baseline_is_for_images_in_colour_at_its_scale(name, size, channels, scale, kind):
    data = (pictures(COUNT, size, size, channels), LABELS)
    options = {"corruptions": ["contrast"], "scale": scale, "baseline": name}
    _, _, said = measured(data, lambda x: x.flatten(1)[:, :3], **options)
    lines = [line for line in said if "mCE and rCE are meaningless" in line]
    assert len(lines) == (kind is not None)
    assert all(f"but these are {kind}: " in line for line in lines)


@pytest.mark.parametrize(
    ("baseline", "error", "message"),
    [
        ("alexnet", ValueError, "unknown baseline 'alexnet'; choose alexnet-cifar10, alexnet-imagenet, or a"),
        ("nowhere.csv", FileNotFoundError, "nowhere.csv"),
        ({"fog": 20, "clean": 10}, ValueError, "no baseline error for gaussian_noise"),
        ({"fog": "much", "clean": 10}, TypeError, "has an error for fog that is not a number: 'much'"),
        ({"fog": 200, "clean": 10}, ValueError, "has no error in percent, 0 to 100, for fog"),
        ({"fog": 0.3, "clean": 0.1}, ValueError, "has no error above 1: give percent"),
        (15.0, TypeError, "baseline must be a name, a dict or the path of a CSV file, not a float"),
    ],
)
def test_no_baseline(flat_c, baseline, error, message):
    with pytest.raises(error, match=message):
        measured(flat_c, never, baseline=baseline)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("name,error\nfog,50%\ngaussian_noise,40\n", "error"),
        ("name,metric,value\nfog,error,50%\ngaussian_noise,error,40\n", "value"),
    ],
)
def test_a_table_whose_errors_are_no_numbers(flat_c, tmp_path, text, column):
    path = tmp_path / "baseline.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(
        TypeError, match=rf"a value in column {column} of .*baseline\.csv is not a number: '50%'"
    ):
        measured(flat_c, never, baseline=path)
    path.write_text(text.replace("50%", "50"), encoding="utf-8")
    assert as_baseline(path).errors == {"fog": 50.0, "gaussian_noise": 40.0}


def by_severity(changes):
    """A table as `benchmark` gives it, with other values at some severities of fog; None for no row."""
    values = {1: 10, 2: 20, 3: 30, 4: 40, 5: 50} | changes
    rows = [f"corruption,fog,{s},,error,{value}" for s, value in values.items() if value is not None]
    return "\n".join(["kind,name,severity,protocol,metric,value", "corruption,clean,0,,error,10", *rows, ""])


def test_the_severities_of_a_baseline_are_averaged(tmp_path):
    (tmp_path / "errors.csv").write_text(by_severity({5: 60}), encoding="utf-8")
    found = as_baseline(tmp_path / "errors.csv")
    assert found.errors == {"fog": 32.0} and found.clean == 10.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a CSV table"),
        ("a,b\n1,2\n", "has the columns a, b; expected name and error"),
        (by_severity({5: ""}), "errors.csv has a row without an error in percent, 0 to 100, for fog"),
        (
            by_severity({2: 150}),
            "has a row without an error in percent, 0 to 100, for fog",
        ),  # whose mean is one
        (
            by_severity({5: None}),
            "has the severities 1, 2, 3, 4 for fog; a baseline needs each of 1 to 5",
        ),
        ("name,severity,error\nfog,1,20\n", "has the severities 1 for fog; a baseline"),
        ("name,severity,error\nfog,low,20\n", "has the severities nan for fog; a baseline"),
        ("name,severity,error\nfog,,20\n", "has the severities nan for fog; a baseline"),
        (
            by_severity({}) + by_severity({}).split("\n", 2)[2],
            "has the severities 1, 1, 2, 2, 3, 3, 4, 4, 5, 5 for fog",
        ),
        (
            "name,severity,error\nclean,0,10\nclean,0,12\n",
            "has 2 errors for clean; there must be one",
        ),
        ("name,error\nfog,20\nfog,30\n", "has 2 errors for fog; there must be one"),
        ("name,error\nfog,20\nsnow,\n", "has a row without an error in percent, 0 to 100, for snow"),
        ("name,error\nfog,20\n,30\n", "has an error without a name"),
    ],
)
def test_no_baseline_in_a_file(flat_c, tmp_path, text, message):
    (tmp_path / "errors.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        measured(flat_c, never, baseline=tmp_path / "errors.csv")
