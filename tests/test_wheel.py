"""The wheel: what it holds, what it asks for, and that it corrupts images where torch is not installed."""

import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest

from common_corruptions import corrupt
from common_corruptions.needs import EXTRAS
from tests.benchmarks.test_imports import REFUSING
from tests.conftest import ROOT

INFO = "pushpull_robustness-0.1.0.dist-info/"
FROST = "common_corruptions/recipes/frost/"
# What `pushpull-robustness[common-corruptions]` does not bring.
ABSENT = [
    "torch",
    "torchvision",
    "pandas",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "matplotlib",
    "sklearn",
    "mlflow",
]


def files_of(folder: str) -> set[str]:
    """Files of the working tree that Git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", folder],
        cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", check=True,
    )  # fmt: skip
    return {path for path in listed.stdout.split("\0") if (ROOT / path).is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built from a copy: setuptools packs what an earlier build left in the tree too."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for path in files_of("."):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes((ROOT / path).read_bytes())
    command = "pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -w"
    subprocess.run([sys.executable, "-m", *command.split(), out, copy], check=True)
    (path,) = out.iterdir()
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    return Parser().parsestr(wheel.read(INFO + "METADATA").decode())


def test_it_holds_the_two_packages_and_nothing_else(wheel):
    packed = set(wheel.namelist())
    code = {name for name in packed if not name.startswith(INFO)}
    assert code == files_of("pushpull") | files_of("common_corruptions")
    assert code >= {"pushpull/py.typed", "common_corruptions/py.typed"}
    assert len([name for name in code if name.startswith(f"{FROST}frost")]) == 4


def test_licences(wheel, metadata):
    assert metadata["License-Expression"] == "MIT AND Apache-2.0"
    for path in ("LICENSE", f"{FROST}LICENSE", f"{FROST}NOTICE"):
        assert path in metadata.get_all("License-File")
        assert wheel.read(f"{INFO}licenses/{path}") == (ROOT / path).read_bytes()


def test_nothing_is_installed_that_was_not_asked_for(metadata):
    assert metadata["Name"] == "pushpull-robustness"
    for requirement in metadata.get_all("Requires-Dist"):
        assert "extra == " in requirement
    extras = set(metadata.get_all("Provides-Extra"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {extra for extra in extras if f"[{extra}]" not in readme} == {"dev", "pipeline"}  # of `make setup`


def test_what_is_said_to_install_is_what_the_extras_bring():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert sorted(EXTRAS["common-corruptions"].values()) == sorted(extras["common-corruptions"])
    own = {one for one in extras["benchmark"] if not one.startswith(project["name"])}
    assert set(EXTRAS["benchmark"].values()) == own | {*extras["common-corruptions"], *extras["layer"]}


def test_the_versions_of_python_are_those_that_are_tested(metadata):
    pattern = re.compile(r"Programming Language :: Python :: (3\.\d+)")
    stated = [found[1] for entry in metadata.get_all("Classifier") if (found := pattern.fullmatch(entry))]
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert stated == re.findall(r'"(3\.\d+)"', workflow)
    assert metadata["Requires-Python"] == f">={stated[0]}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"need Python {stated[0]} to {stated[-1]}" in readme
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"][
        "target-version"
    ] == "py" + stated[0].replace(".", "")


class TestWithoutTorch:
    """In a process where what the extra `common-corruptions` does not bring cannot be imported."""

    @pytest.fixture(scope="class")
    def unpacked(self, wheel, tmp_path_factory) -> Path:
        folder = tmp_path_factory.mktemp("site")
        wheel.extractall(folder)
        return folder

    def run(self, unpacked, folder, code, *arguments):
        # Isolated (-I): nothing but the wheel and what is installed.
        start = f"{REFUSING}\nabsent.update({ABSENT})\nsys.path.insert(0, {str(unpacked)!r})\n"
        command = [sys.executable, "-I", "-c", start + code, *map(str, arguments)]
        return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)

    def command(self, unpacked, folder, *arguments):
        code = "import runpy; runpy.run_module('common_corruptions', run_name='__main__')"
        return self.run(unpacked, folder, code, *arguments)

    def test_the_functions(self, unpacked, tmp_path):
        code = """
import common_corruptions, numpy as np
assert common_corruptions.__file__.startswith(sys.path[0])
images = np.arange(2 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 32, 32, 3)
np.save("frost.npy", common_corruptions.corrupt(images, "frost", 3))
np.save("rotate.npy", common_corruptions.perturb(images, "rotate"))
import common_corruptions.metrics, common_corruptions.generate.pictures
for name in ("benchmark", "Corrupt", "CorruptedDataset"):
    try:
        getattr(common_corruptions, name)
    except ModuleNotFoundError as error:
        print(error)
try:
    import pushpull
except ModuleNotFoundError as error:
    print(error)
"""
        done = self.run(unpacked, tmp_path, code)
        assert done.returncode == 0, done.stderr
        needs = (
            "{} needs torch, which is not installed: pip install {}, or, in the folder of the repository, {}"
        )
        names, extra = ("benchmark", "Corrupt", "CorruptedDataset"), "pip install '.[{}]'"
        packages = "onnx onnxruntime onnxscript pandas 'torch>=2.11'"
        expected = [needs.format(name, packages, extra.format("benchmark")) for name in names]
        expected.append(needs.format("pushpull", "'torch>=2.11'", extra.format("layer")))
        assert done.stdout.splitlines() == expected
        images = np.arange(2 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 32, 32, 3)
        np.testing.assert_array_equal(np.load(tmp_path / "frost.npy"), corrupt(images, "frost", 3))

    def test_the_commands(self, unpacked, tmp_path):
        images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
        np.save(tmp_path / "x.npy", images)
        for command, name in (("corrupt", "snow"), ("perturb", "tilt")):
            arguments = ("x.npy", command, "--only", name, "--workers", 1)
            done = self.command(unpacked, tmp_path, command, *arguments)
            assert done.stdout == f"1 files written to {command}\n", done.stderr
        np.testing.assert_array_equal(
            np.load(tmp_path / "corrupt" / "snow.npy")[:3], corrupt(images, "snow", 1)
        )
        done = self.command(unpacked, tmp_path, "benchmark", "corrupt", "--net", "nets:mine")
        assert done.returncode == 1
        assert re.fullmatch(
            r"Error: benchmark needs \w+, which is not installed: pip install onnx .*, or, in the folder of the "
            r"repository, pip install '\.\[benchmark\]'\n",
            done.stderr,
        )
