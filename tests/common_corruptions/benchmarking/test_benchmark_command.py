"""`python -m common_corruptions benchmark`: a net by its name, a table and a summary, one line for what is wrong."""

import errno
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from common_corruptions import benchmark
from common_corruptions.__main__ import main
from common_corruptions.evaluation.onnx_runtime import export
from tests.conftest import ROOT

COUNT = 12
LABELS = (np.arange(COUNT) ** 2 % 3).astype(np.uint8)
NETS = """
import torch
from torch import nn

def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))

def several():
    net = linear()
    return lambda x: {"features": x.flatten(1), "logits": net(x).detach()}

def picture():
    return lambda x: x

def broken():
    raise KeyError("weights")

def nothing():
    pass

def failing():
    net = linear()

    def forward(x):
        names = {}
        return net(x)[:, names["fog"]]

    return forward

def short():
    return nn.Sequential(nn.Flatten(), nn.Linear(7, 3))

net = linear()
constant = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a module of nets and the flat sets of two corruptions."""
    random = np.random.default_rng(0)
    (tmp_path / "some_nets.py").write_text(NETS, encoding="utf-8")
    (tmp_path / "wrong_syntax.py").write_text("def linear(:", encoding="utf-8")
    flat = tmp_path / "sets"
    flat.mkdir()
    for name in ("fog", "gaussian_noise"):
        np.save(flat / f"{name}.npy", random.integers(256, size=(5 * COUNT, 4, 4, 3), dtype=np.uint8))
    np.save(flat / "labels.npy", np.tile(LABELS, 5))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_nets", raising=False)
    return flat


def run(*arguments):
    return CliRunner().invoke(main, ["benchmark", *map(str, arguments)])


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


def figure(output, name):
    return float(re.search(rf"^{name} +([\d.]+)$", output, re.M)[1])


@pytest.fixture
def expected(folder):
    with pytest.warns(UserWarning, match="over [12] of the 19 corruptions"):
        return benchmark(linear(), folder, baseline="alexnet-cifar10", progress=False)


def test_as_a_user_runs_it(folder, expected):
    """In a process of its own, whose current folder holds the module."""
    table, summary = expected
    command = [sys.executable, "-m", "common_corruptions", "benchmark", "sets", "--net", "some_nets:linear"]
    done = subprocess.run(
        [*command, "--baseline", "alexnet-cifar10", "--output", "table.csv"],
        cwd=folder.parent,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    for name in ("E_corr", "mCE", "E_corr_low", "ECE_corr"):
        assert figure(done.stdout, name) == pytest.approx(summary[name], abs=0.006)
    row = re.search(r"^fog +(.*)$", done.stdout, re.M)[1].split()
    errors = table[table.name == "fog"].value
    np.testing.assert_allclose([float(cell) for cell in row], [*errors, errors.mean()], atol=0.051)
    assert "120/120" in done.stderr and "warning: sets: there are no clean images" in done.stderr
    written = pd.read_csv(folder.parent / "table.csv")
    assert list(written.columns) == list(table.columns)
    np.testing.assert_allclose(written["value"], table["value"])


def test_names_alone_and_normalised_images(folder):
    done = run(
        folder, "--net", "some_nets:linear", "--only", "fog", "--mean", "0.5,0.4,0.3", "--std", "0.2,0.2,0.3"
    )
    assert done.exit_code == 0, done.output
    assert "gaussian_noise " not in done.stdout and figure(done.stdout, "corruptions") == 1
    options = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3], "corruptions": ["fog"], "progress": False}
    with pytest.warns(UserWarning, match="over [12] of the 19 corruptions"):
        _, summary = benchmark(linear(), folder, **options)
    assert figure(done.stdout, "E_corr") == pytest.approx(summary["E_corr"], abs=0.006)


def test_a_table_of_ones_own_is_the_baseline(folder):
    """A net normalised by the table that was written of it has mCE 100."""
    (folder.parent / "errors.csv").write_text(
        "name,error\nclean,10\nfog,50\ngaussian_noise,25\n", encoding="utf-8"
    )
    done = run(folder, "--net", "some_nets:linear", "--baseline", folder.parent / "errors.csv")
    assert done.exit_code == 0, done.output
    with pytest.warns(UserWarning, match="over [12] of the 19 corruptions"):
        table, _ = benchmark(linear(), folder, progress=False)
    errors = table.groupby("name").value.mean()
    expected = (100 * errors["fog"] / 50 + 100 * errors["gaussian_noise"] / 25) / 2
    assert figure(done.stdout, "mCE") == pytest.approx(expected, abs=0.006)


@pytest.mark.usefixtures("one_onnx_registry")
def test_an_onnx_file_and_a_named_output(folder, expected):
    pytest.importorskip("onnxruntime")
    (folder.parent / "net.onnx").write_bytes(export(linear().eval(), (3, 4, 4)))
    for arguments in (["--net", "net.onnx"], ["--net", "some_nets:several", "--logits", "logits"]):
        done = run(folder, *arguments)
        assert done.exit_code == 0, done.output
        assert figure(done.stdout, "E_corr") == pytest.approx(expected[1]["E_corr"], abs=0.006)


def test_a_net_that_stands_in_a_module(folder, expected):
    done = run(folder, "--net", "some_nets:net")
    assert done.exit_code == 0, done.output
    assert figure(done.stdout, "E_corr") == pytest.approx(expected[1]["E_corr"], abs=0.006)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("failing", r"the net raises KeyError: 'fog' \(\S+some_nets\.py:{line}\)"),
        ("short", r"the net raises RuntimeError: .*mat1 and mat2 shapes .* \(\S+linear\.py:\d+\)"),
    ],
)
def test_what_a_net_raises_is_said_to_be_of_the_net(folder, net, message):
    line = NETS.splitlines().index('        return net(x)[:, names["fog"]]') + 1
    done = run(folder, "--net", f"some_nets:{net}")
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert re.search(rf"^Error: {message.format(line=line)}$", done.stderr, re.M), done.stderr


def test_what_the_package_itself_raises_is_not_said_to_be_of_the_net(folder, monkeypatch):
    monkeypatch.setattr("common_corruptions.benchmarking.text.as_text", lambda *_: {}["absent"])
    assert isinstance(run(folder, "--net", "some_nets:linear").exception, KeyError)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("dividing", "dividing cannot be imported: ZeroDivisionError: division by zero"),
        ("wrong_syntax", "wrong_syntax cannot be imported: SyntaxError: "),
        ("leaving", "leaving cannot be imported: SystemExit: 3"),
        (
            "./some_nets.py",
            "./some_nets.py cannot be imported: give the name of the module, without .py: some_nets",
        ),
        ("corruptions/mine.py", "give the name of the module, without .py: corruptions.mine"),
        ("..", ".. cannot be imported: "),
        ("absent", "absent cannot be imported: ModuleNotFoundError: No module named 'absent'"),
    ],
)
def test_a_module_that_cannot_be_imported(folder, module, message):
    (folder.parent / "dividing.py").write_text("1 / 0", encoding="utf-8")
    (folder.parent / "leaving.py").write_text("raise SystemExit(3)", encoding="utf-8")
    done = CliRunner().invoke(main, ["--import", module, "list"])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert f"Error: --import {message}" in done.stderr or message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_of_torchvision(folder, expected, monkeypatch):
    api = pytest.importorskip("torchvision.models._api")
    given = []

    def tiny_linear(*, weights=None):
        given.append(weights)
        return linear()

    monkeypatch.setitem(api.BUILTIN_MODELS, "tiny_linear", tiny_linear)
    done = run(folder, "--net", "torchvision:tiny_linear")
    assert done.exit_code == 0, done.output
    assert given == ["DEFAULT"]
    assert figure(done.stdout, "E_corr") == pytest.approx(expected[1]["E_corr"], abs=0.006)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            "resnet20",
            "'resnet20' is not a net; give module:net, module:function, file.onnx or torchvision:model",
        ),
        ("no_such_module:net", "no_such_module cannot be imported: ModuleNotFoundError: No module named"),
        ("some_nets:resnet", "some_nets:resnet cannot be imported: AttributeError"),
        ("wrong_syntax:linear", "wrong_syntax cannot be imported: SyntaxError"),
        ("some_nets.py:net", "give the name of the module, without .py: some_nets\n"),
        ("./some_nets.py:net", "give the name of the module, without .py: some_nets\n"),
        ("some_nets:constant", "some_nets:constant is neither a net nor a function, but a int"),
        ("some_nets:broken", "some_nets:broken, called without arguments to build the net, fails: KeyError"),
        ("some_nets:nothing", "some_nets:nothing returns a NoneType, not a net"),
        (
            "some_nets:picture",
            "the net returned torch.float32 of shape (12, 3, 4, 4) for 12 images; expected logits",
        ),
        ("some_nets:several", "select them, such as by logits='features'"),
        ("absent.onnx", "there is no file absent.onnx"),
        ("wrong_syntax.onnx", "wrong_syntax.onnx is not a model that ONNX Runtime reads"),
        ("torchvision:resnet51", "torchvision has no model 'resnet51'"),
    ],
)
def test_no_net(folder, net, message):
    (folder.parent / "wrong_syntax.onnx").write_text("no model", encoding="utf-8")
    done = run(folder, "--net", net)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert message in done.stderr and done.stdout == ""


@pytest.mark.parametrize("option", ["--output", "--answers"])
def test_where_nothing_can_be_written_is_told_before_anything_is_measured(folder, monkeypatch, option):
    """Of root's tests, a folder without the right to write would be none."""

    def refuse(dir):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))

    def never(*_, **__):
        raise AssertionError("the net ran")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("common_corruptions.benchmarking.benchmark.measure_errors", never)
    path = folder.parent / ("table.csv" if option == "--output" else "new/answers")
    done = run(folder, "--net", "some_nets:linear", option, path)
    assert done.exit_code == 1
    assert f"Error: cannot write to {folder.parent}: Permission denied" in done.stderr
    assert not (folder.parent / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "fog,snow"], "has no snow.npy"),
        (["--only", "fogg"], "unknown corruption 'fogg'; did you mean 'fog'?"),
        (["--only", "tilt"], "has no tilt.npy"),
        (["--only", "fog,"], "--only takes comma-separated names"),
        (["--baseline", "alexnet"], "unknown baseline 'alexnet'; choose alexnet-cifar10"),
        (["--mean", "0.5,0.5,0.5"], "mean and std belong together"),
        (["--mean", "half", "--std", "1"], "'half' is not one number for each channel"),
        (["--output", "nowhere/table.csv"], "--output: there is no folder nowhere"),
    ],
)
def test_other_mistakes_are_a_line(folder, arguments, message):
    done = run(folder, "--net", "some_nets:linear", *arguments)
    assert done.exit_code in (1, 2) and isinstance(done.exception, SystemExit)
    assert message in done.stderr and not (folder.parent / "nowhere").exists()


def test_the_recipe_of_the_documentation(folder, monkeypatch):
    """Its lines of Python and of the shell, in a folder with sets by the names that they have."""
    text = (
        (ROOT / "docs" / "common_corruptions.md")
        .read_text(encoding="utf-8")
        .split("## A published folder")[1]
    )
    text = text.split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (command,) = re.findall(r"^    python -m common_corruptions benchmark (.*)$", text, re.M)
    folder.rename("CIFAR-10-C")
    sequences = folder.parent / "CIFAR-10-P"
    sequences.mkdir()
    for name in ("tilt", "rotate", "scale"):
        frames = np.random.default_rng(1).integers(256, size=(COUNT, 31, 4, 4, 3), dtype=np.uint8)
        np.save(sequences / f"{name}.npy", frames)
    names = {"net": linear(), "mean": [0.5] * 3, "std": [0.25] * 3}
    with pytest.warns(UserWarning, match="there are no clean images, so no E_clean and no rCE"):
        exec(code, names)
    assert {"E_corr", "E_corr_low", "E_corr_high", "ECE_corr", "mCE"} <= names["summary"].keys()
    assert not {"E_clean", "rCE"} & names["summary"].keys()
    assert set(names["flips"].name) == {"tilt", "rotate"} and 0 <= names["means"]["mFP"] <= 100
    (folder.parent / "my_nets.py").write_text("from some_nets import linear as resnet20\n", encoding="utf-8")
    done = run(*command.split())
    assert done.exit_code == 0, done.output
    table = pd.read_csv(folder.parent / "table.csv")
    assert list(table.name.unique()) == ["gaussian_noise", "fog"]
    again = run(*command.replace("alexnet-cifar10", "table.csv").split())
    assert again.exit_code == 0 and figure(again.stdout, "mCE") == 100
