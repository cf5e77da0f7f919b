"""A corruption of one's own: declared, refused, found, made into sets, drawn and measured."""

import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from common_corruptions import CORRUPTIONS, benchmark, corrupt, corruption
from common_corruptions.__main__ import main
from common_corruptions.generate import generate_corruptions
from common_corruptions.generate.pictures import corruption_sheet
from common_corruptions.recipes import registry
from common_corruptions.recipes.names import CORRUPTION_GROUPS, SEVERITIES
from common_corruptions.summary import PUBLISHED_ALEXNET
from tests.conftest import ROOT

BITS = (6, 5, 4, 3, 2)
PAGE = (ROOT / "docs" / "common_corruptions.md").read_text(encoding="utf-8")
GUIDE = PAGE.split("## A corruption of your own")[1].split("\n## ")[0]
MODULE, USE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[:2]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What a test declares is gone after it."""
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 32, 24, 3), np.uint8)


def posterize(images, draws, bits):
    return images & np.uint8(256 - 2 ** (8 - bits))


def declare(function=posterize, name="posterize", group="digital", constants=tuple((n,) for n in BITS)):
    return corruption(name, group=group, constants=constants)(function)


def test_the_function_is_called_with_the_constants_of_the_severity(images):
    assert declare() is posterize  # still a plain function
    for severity, bits in zip(SEVERITIES, BITS, strict=True):
        step = 2 ** (8 - bits)
        np.testing.assert_array_equal(corrupt(images, "posterize", severity), images // step * step)


def test_draws_belong_to_the_image_and_not_to_the_block(images):
    @corruption("dust", group="noise", constants=((1,), (2,), (3,), (4,), (5,)))
    def dust(images, draws, amount):
        return np.where(draws.uniform("dust", images.shape[1:]) < amount / 50, 255, images).astype(np.uint8)

    whole = corrupt(images, "dust", 5, seed=3)
    parts = [corrupt(images[:7], "dust", 5, seed=3), corrupt(images[7:], "dust", 5, seed=3, start=7)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    changed = (whole != images).any(3).mean()
    assert changed == pytest.approx(1 - 0.9**3, abs=0.01)  # 0.1 of the values, of three channels
    assert (corrupt(images, "dust", 5, seed=4) != whole).any()


def test_a_label_is_used_once(images):
    """Two noises of one label were the same noise."""

    def twice(images, draws, amount):
        noise = draws.normal("noise", images.shape[1:]) + draws.normal("noise", images.shape[1:])
        return np.clip(images + amount * noise, 0, 255).astype(np.uint8)

    declare(twice, "twice", "noise")
    with pytest.raises(ValueError, match="label 'noise' was already used for a draw"):
        corrupt(images, "twice")
    declare(
        lambda images, draws, amount: draws.words("a", images.shape[1:]).astype(np.uint8), "once", "noise"
    )
    np.testing.assert_array_equal(corrupt(images, "once"), corrupt(images, "once"))  # each call begins anew


def test_the_19_are_declared_in_their_modules_and_no_other():
    found = registry.declared_in(registry.FOLDER)
    groups = {name: group for group, names in CORRUPTION_GROUPS.items() for name in names}
    assert {name: place.group for name, place in found.items()} == groups
    assert {name: registry.recipe(name).group for name in CORRUPTIONS} == groups
    assert registry.grouped() == CORRUPTION_GROUPS and registry.added() == {}


def test_an_unknown_name_is_answered_with_the_nearest_and_with_how_one_is_added(images):
    with pytest.raises(
        ValueError, match=r"unknown corruption 'posterize'; choose from gaussian_noise, .*@corruption"
    ):
        corrupt(images, "posterize")
    declare()
    with pytest.raises(ValueError, match=r"'posterise'; did you mean 'posterize'.*recipes/corruptions"):
        corrupt(images, "posterise")


def test_two_functions_of_one_name_are_refused():
    declare()
    declare()  # its module again

    def other(images, draws, bits):
        return images

    with pytest.raises(
        ValueError, match=r"two corruptions are named 'posterize': .*\.posterize and .*\.other"
    ):
        declare(other)
    with pytest.raises(ValueError, match="two corruptions are named 'fog'"):
        declare(other, "fog")


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"constants": ((6,), (5,), (4,), (3,))}, "five tuples, one for each severity"),
        ({"constants": (6, 5, 4, 3, 2)}, "five tuples, one for each severity"),
        (
            {"constants": ((6,), (5,), (4,), (3,), (2, 1))},
            r"of severity 5, \(2, 1\), do not fit its arguments",
        ),
        ({"constants": ((),) * 5}, "missing a required argument: 'bits'"),
        ({"group": "art"}, "one of noise, blur, weather, digital, not 'art'"),
        ({"name": "Posterize"}, "lower-case letters"),
        ({"name": "../posterize"}, "lower-case letters"),
        ({"name": "labels"}, "a corruption cannot be named 'labels'"),
        ({"name": "all"}, "a corruption cannot be named 'all'"),
    ],
)
def test_a_mistake_in_the_declaration_is_told(mistake, message):
    before = dict(registry._declared)
    with pytest.raises(ValueError, match=message):
        declare(**mistake)
    assert registry._declared == before


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda images: images / 255, r"must return uint8 \(40, 32, 24, 3\), like its input, not float64"),
        (lambda images: images[..., :1], r"not uint8 \(40, 32, 24, 1\)"),
        (lambda images: images[0], "not uint8"),
        (lambda images: None, "not NoneType"),
        (lambda images: np.add(images, 1, out=images), "read-only"),
    ],
)
def test_what_a_function_must_not_return_or_do(images, made, message):
    declare(lambda images, draws, bits: made(images))
    before = images[:28].copy()
    with pytest.raises(ValueError, match=message.replace("40", "28")):
        corrupt(images[:28], "posterize")
    np.testing.assert_array_equal(images[:28], before)


def test_a_module_of_the_folder_is_found_without_an_import(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("raise SystemExit\n" + MODULE, encoding="utf-8")
    found = registry.declared_in(tmp_path)
    assert {name: place.group for name, place in found.items()} == {
        "posterize": "digital",
        "grating": "noise",
    }
    assert {place.path.name for place in found.values()} == {"mine.py"}
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    assert registry.grouped()["digital"] == (*CORRUPTION_GROUPS["digital"], "posterize")
    with pytest.raises(ValueError, match=r"mine\.py already declares a corruption 'posterize'"):
        declare()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a": MODULE, "b": MODULE},
            r"two corruptions are named 'posterize': a\.py, line 6, and b\.py, line 6",
        ),
        ({"a": MODULE.replace('"posterize"', "NAME")}, r"a\.py, line 6: name and group must be literals"),
        (
            {"a": MODULE.replace('group="noise"', "**options")},
            r"a\.py, line 12: name and group must be literals",
        ),
        ({"a": "def posterize(:"}, r"a\.py is not Python"),
    ],
)
def test_a_folder_that_cannot_be_read(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        registry.declared_in(tmp_path)


def test_a_set_in_worker_processes_and_its_recipe_in_the_record(tmp_path, monkeypatch, images):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "module_of_mine.py"
    path.write_text(MODULE, encoding="utf-8")
    module = __import__("module_of_mine")
    monkeypatch.delitem(sys.modules, "module_of_mine")
    monkeypatch.setitem(sys.modules, "module_of_mine", module)
    names = ["contrast", "posterize", "grating"]

    def generate(workers):
        return generate_corruptions(
            images, None, tmp_path / "c", corruptions=names, workers=workers, progress=False
        )

    assert generate(2) == names
    for name in names:
        expected = np.concatenate([corrupt(images, name, severity) for severity in SEVERITIES])
        np.testing.assert_array_equal(np.load(tmp_path / "c" / f"{name}.npy"), expected)
    assert generate(1) == []
    corruption("posterize", group="digital", constants=((7,), (5,), (4,), (3,), (2,)))(module.posterize)
    assert generate(1) == ["posterize"]
    np.testing.assert_array_equal(np.load(tmp_path / "c" / "posterize.npy")[:40], images // 2 * 2)


def test_a_change_of_what_it_calls_makes_it_again(tmp_path, monkeypatch, images):
    def negative(images, draws, bits):
        return table()[images]

    def generate():
        return generate_corruptions(
            images, None, tmp_path, corruptions=["posterize"], workers=1, progress=False
        )

    table = functools.partial(np.arange, 255, -1, -1, dtype=np.uint8)
    declare(negative)
    assert generate() == ["posterize"]
    assert generate() == []
    table = functools.partial(np.arange, 256, dtype=np.uint8)
    assert generate() == ["posterize"]
    np.testing.assert_array_equal(np.load(tmp_path / "posterize.npy")[:40], images)


RAISING = """
from common_corruptions import corruption

@corruption("raising", group="digital", constants=((1,),) * 5)
def raising(images, draws, divisor):
    return deeper(images)

def deeper(images):
    return images // {}["divisor"]
"""


def test_what_it_raises_is_said_to_be_its_own(tmp_path, images, monkeypatch):
    (tmp_path / "some_corruptions.py").write_text(RAISING, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("some_corruptions")
    said = rf"the corruption raising raises KeyError: 'divisor' \({re.escape(module.__file__)}:6\)"
    with pytest.raises(ValueError, match=said) as caught:
        corrupt(images, "raising")
    assert isinstance(caught.value.__cause__, KeyError)
    np.save("images.npy", images)
    for label in range(2):
        (tmp_path / "clean" / str(label)).mkdir(parents=True)
        Image.fromarray(images[label]).save(tmp_path / "clean" / str(label) / "a.png")
    (tmp_path / "nets_beside_it.py").write_text(
        "def net():\n    return lambda x: x[:, :2, 0, 0]\n", encoding="utf-8"
    )
    for command in (
        ["corrupt", "images.npy", "c", "--only", "raising", "--workers", "2"],
        ["benchmark", "clean", "--net", "nets_beside_it:net", "--only", "raising"],
    ):
        done = CliRunner().invoke(main, ["--import", "some_corruptions", *command])
        assert done.exit_code == 1
        assert re.search(rf"^Error: {said}$", done.stderr, re.M), done.stderr


def test_what_its_resizing_raises_is_said_to_be_its_own(images):
    def shrinking(factor, bits):
        return (bits / 0,)

    constants = tuple((n,) for n in BITS)
    corruption("posterize", group="digital", constants=constants, resized=shrinking)(posterize)
    with pytest.raises(
        ValueError, match=r"posterize raises ZeroDivisionError: .*test_own_corruption\.py:\d+\)"
    ):
        corrupt(images[:, :24, :24], "posterize")


def test_workers_cannot_import_what_stands_in_a_function(tmp_path, images):
    declare(lambda images, draws, bits: images)
    options = {"corruptions": ["posterize"], "progress": False}
    with pytest.raises(
        ValueError,
        match=r"as worker processes do, does not declare .*; declare it at the top level.*workers=1",
    ):
        generate_corruptions(images.repeat(200, 0), None, tmp_path / "c", workers=2, **options)
    assert generate_corruptions(images, None, tmp_path / "c", workers=1, **options) == ["posterize"]


def test_the_picture_shows_it_in_its_group(images):
    declare()
    stack = np.stack([images[0]] * 5)

    def size(*names):
        return corruption_sheet(dict.fromkeys(names, stack), images[0]).size

    assert size("contrast", "posterize") == size("contrast", "saturate") != size("contrast", "unknown")


def test_the_benchmark_measures_it_and_leaves_it_out_of_its_means(tmp_path, images):
    declare()
    labels = np.arange(40) % 4
    (tmp_path / "clean").mkdir()
    np.save(tmp_path / "clean" / "test_images.npy", images)
    np.save(tmp_path / "clean" / "test_labels.npy", labels)
    names = ["fog", "posterize"]
    generate_corruptions(images, labels, tmp_path / "c", corruptions=names, workers=1, progress=False)

    def net(batch):  # errs by what it sees of the lowest bits
        return batch.flatten(1)[:, :4] * 255 % 16

    with pytest.warns(UserWarning, match="leave out corruptions that are not the benchmark's: posterize"):
        table, summary = benchmark(net, tmp_path, baseline=PUBLISHED_ALEXNET, progress=False)
    errors = table.groupby("name").value.mean()
    assert set(table.name) == {"clean", "fog", "posterize"} and errors["posterize"] != errors["fog"]
    assert summary["corruptions"] == 1
    assert summary["E_corr"] == pytest.approx(errors["fog"])
    assert summary["mCE"] == pytest.approx(100 * errors["fog"] / PUBLISHED_ALEXNET.errors["fog"])


def test_the_example_of_the_documentation(tmp_path, images):
    """In a process of its own, as its reader runs it."""
    (tmp_path / "my_corruptions.py").write_text(MODULE, encoding="utf-8")
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "use.py").write_text(
        "import numpy as np\n\nif __name__ == '__main__':\n"
        "    images, labels = np.load('images.npy'), np.arange(40)\n"
        + "".join(f"    {line}\n" for line in [*USE.splitlines(), "np.save('waves.npy', waves)"]),
        encoding="utf-8",
    )

    def run(*arguments: str) -> str:
        environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE,
            encoding="utf-8",
        ).stdout  # fmt: skip

    run("use.py")
    made = {path.stem: np.load(path) for path in Path(tmp_path, "my-set", "c").glob("*.npy")}
    assert set(made) == {"labels", "fog", "posterize", "grating"}
    np.testing.assert_array_equal(made["posterize"][-40:], images // 64 * 64)
    waves = np.load(tmp_path / "waves.npy")
    np.testing.assert_array_equal(made["grating"][40:80], waves)
    inside = (images >= 20) & (images <= 235)
    change = (waves.astype(int) - images)[inside]
    assert np.abs(change).max() <= 20 and change.std() == pytest.approx(20 / np.sqrt(2), abs=1)
    (command,) = re.findall(r"^    python -m (common_corruptions .*)$", GUIDE, re.M)
    assert "2 files written" in run("-m", *command.split())
    np.testing.assert_array_equal(np.load(tmp_path / "my-set-c" / "grating.npy"), made["grating"])
    listed = run("-m", "common_corruptions", "--import", "my_corruptions", "list")
    assert "saturate* posterize+" in listed and "speckle_noise* grating+" in listed
    assert "+" not in run("-m", "common_corruptions", "list")
