"""The stage that measures the authors' checkpoints under our protocol."""

import shutil

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from archives.form import save_clean
from archives.sources import from_folder
from common_corruptions.evaluation import answers, onnx_runtime
from common_corruptions.generate import generate_corruptions, generate_perturbations
from nets import create_net, export_official
from nets.official import official_name
from stages import official
from stages.files.datasets import load_split
from stages.files.yaml_file import read_yaml
from tests.conftest import ROOT
from tests.stages.test_evaluation import stop_in_call
from tests.stages.yaml_files import without_presets, write_yaml


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A working folder with params.yaml, changed by a dict of sections."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "data", tmp_path / "data")
    raw = without_presets(read_yaml(ROOT / "params.yaml"))
    raw["data"] |= {"name": "cifar10", "corruptions": ["brightness"], "perturbations": ["translate"]}

    def write(path):
        raw["official"]["path"] = path
        write_yaml(tmp_path / "params.yaml", raw)

    write(None)
    return tmp_path, write


def test_without_a_path_the_tables_are_empty(workspace):
    folder, _ = workspace
    done = CliRunner().invoke(official.main)
    assert done.exit_code == 0, done.output
    for name in ("corruption", "perturbation"):
        assert pd.read_csv(folder / "metrics" / "cifar10" / "official" / f"{name}.csv").empty


def test_a_folder_without_checkpoints_is_an_error(workspace):
    folder, write = workspace
    write(str(folder))
    done = CliRunner().invoke(official.main)
    assert done.exit_code == 1
    assert "no <net>/checkpoint.pth.tar below" in done.output


def test_a_set_that_is_not_there_is_no_fault_of_a_checkpoint(workspace):
    folder, write = workspace
    (folder / "nets" / "resnet20").mkdir(parents=True)
    (folder / "nets" / "resnet20" / "checkpoint.pth.tar").touch()
    write("nets")
    done = CliRunner().invoke(official.main)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    line = done.stderr.splitlines()[-1]
    assert line.endswith("`dvc repro corrupt` makes the sets") and "checkpoint" not in line


def test_authors_net_is_measured(workspace, shared, undeclared):
    folder, write = workspace
    missing = undeclared(official)
    (folder / "checkpoints").mkdir()
    shutil.copytree(
        shared / "reference" / "official" / "resnet-20-pp", folder / "checkpoints" / "resnet-20-pp"
    )
    write(str(folder / "checkpoints"))
    save_clean(folder / "datasets" / "cifar10" / "clean", from_folder(shared / "data" / "cifar10-subset"))
    test = load_split("cifar10", "test")
    generate_corruptions(
        test.images, test.labels, folder / "datasets/cifar10/c", corruptions=["brightness"], progress=False
    )
    generate_perturbations(
        test.images[:10],
        test.labels[:10],
        folder / "datasets/cifar10/p",
        perturbations=["translate"],
        progress=False,
    )
    done = CliRunner().invoke(official.main)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(folder / "metrics" / "cifar10" / "official" / "corruption.csv")
    assert set(table.net) == {"resnet-20-pp (authors' weights)"}
    errors = table.groupby("corruption").error.mean()
    assert errors["clean"] == pytest.approx(8.29, abs=2.5)  # paper, table 3
    assert errors["brightness"] == pytest.approx(10.34, abs=3)  # paper, table 2
    assert table.severity.tolist() == [0, 1, 2, 3, 4, 5]
    assert missing == set()


def test_a_checkpoint_is_of_the_net_that_its_name_says(tmp_path):
    path = tmp_path / "checkpoint.pth.tar"
    export_official(create_net("resnet20", pushpull="first"), path, epoch=1, best_prec1=10)
    for name in ("resnet-20-pp", "mine"):
        assert official_name(official.load(name, path)) == "resnet20-pp"
    for name in ("resnet-56-pp", "resnet-20", "resnet20", "densenet-40-12-pp"):
        called = name.replace("t-", "t").replace("0-1", "0_1")
        message = rf"pth\.tar is called {called}, but its tensors are of resnet20-pp; rename it"
        with pytest.raises(click.ClickException, match=message):
            official.load(name, path)


def test_stopped_it_goes_on_where_it_was(workspace, monkeypatch):
    folder, write = workspace
    write("nets")
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    save_clean(
        folder / "datasets/cifar10/clean", {split: (images, np.arange(6)) for split in ("train", "test")}
    )
    for kind, array in (
        ("c/brightness", np.tile(images, (5, 1, 1, 1))),
        ("p/translate", np.stack([images] * 16, 1)),
    ):
        (folder / "datasets/cifar10" / kind).parent.mkdir()
        np.save(folder / "datasets/cifar10" / f"{kind}.npy", array)
    np.save(folder / "datasets/cifar10/p/labels.npy", np.arange(6))
    for name, layers in (("resnet-20", None), ("resnet-20-pp", "first")):
        path = folder / "nets" / name / "checkpoint.pth.tar"
        path.parent.mkdir(parents=True)
        export_official(create_net("resnet20", pushpull=layers), path, epoch=1, best_prec1=10)
    order = ["answer_corruptions", "answer_perturbations"]

    def stop_in(number):
        calls = []
        for name in order:
            stop_in_call(monkeypatch, number, answers, name, calls)
        return CliRunner().invoke(official.main).exit_code, calls

    def tables():
        return [path.read_bytes() for path in sorted((folder / "metrics").rglob("*.csv"))]

    assert stop_in(5) == (0, 2 * order)
    whole = tables()
    assert stop_in(4)[0] == 130
    assert stop_in(5) == (0, order[1:])
    assert tables() == whole
    assert not list((folder / ".dvc/tmp/pushpull").glob("*/"))


@pytest.mark.usefixtures("one_onnx_registry")
def test_it_is_exported_once_and_other_logits_are_a_line(workspace, shared, monkeypatch):
    folder, write = workspace
    (folder / "checkpoints").mkdir()
    shutil.copytree(
        shared / "reference" / "official" / "resnet-20-pp", folder / "checkpoints" / "resnet-20-pp"
    )
    write(str(folder / "checkpoints"))
    clean = from_folder(shared / "data" / "cifar10-subset")
    few = {split: (images[:60], labels[:60]) for split, (images, labels) in clean.items()}
    save_clean(folder / "datasets" / "cifar10" / "clean", few)
    test = load_split("cifar10", "test")
    frames = np.repeat(test.images[:4, None], 16, axis=1)
    for name, array in {"c/brightness": np.tile(test.images, (5, 1, 1, 1)), "p/translate": frames}.items():
        (folder / "datasets" / "cifar10" / name).parent.mkdir()
        np.save(folder / "datasets" / "cifar10" / f"{name}.npy", array)
    np.save(folder / "datasets" / "cifar10" / "p" / "labels.npy", test.labels[:4])
    exports = []
    monkeypatch.setattr(onnx_runtime, "WORTH_EXPORTING", 6 * len(test.images) + 64)
    monkeypatch.setattr(
        onnx_runtime, "export", lambda *args, to=onnx_runtime.export: exports.append(to(*args)) or exports[-1]
    )
    done = CliRunner().invoke(official.main)
    assert done.exit_code == 0, done.output
    (exported,) = exports
    monkeypatch.setattr(onnx_runtime, "export", lambda *args: exported)
    run = onnx_runtime._run
    monkeypatch.setattr(onnx_runtime, "_run", lambda *args: run(*args) + 0.1)
    done = CliRunner().invoke(official.main)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "checkpoint.pth.tar: the logits of ONNX Runtime and torch differ" in done.output
