"""The paper's studies beside its grid of nets. Each is a list of DVC experiments that train and measure one net each.

`table4`: scale and alpha of ResNet-14 (section 4.3). `table5`: learned alpha (section 4.4). `mnist`: LeNet A to D and
PA to PD (section 4.1). An experiment is the pipeline of params.yaml with one net put in or changed, run as far as the
stage that measures it.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from nets.families import families
from stages.files.dependencies import code_of
from stages.files.params import PARAMS, load_params
from stages.files.schema import Block, Params

# The paper's grid in table 4.
SCALES = (1.0, 1.5, 2.0)
ALPHAS = (0.5, 1.0, 1.5)

# Section 4.1.1. The batch size is not printed; 128 is that of section 4.2.2.
LENET_ON_MNIST = {
    "epochs": 90,
    "batch_size": 128,
    "lr": 0.1,
    "milestones": [30, 60],
    "weight_decay": 0.0005,
}
# A set of a few thousand images, such as the digits, is seen in smaller steps and batches, on the same thirds.
LENET_ON_LITTLE = {"epochs": 30, "batch_size": 32, "lr": 0.02, "milestones": [10, 20], "weight_decay": 0.0005}


@dataclass(frozen=True)
class Cell:
    """One net of a study: its name and entry under `nets`, and where its options in `pushpull` are not the paper's.

    Without push-pull layers `pushpull` is None.
    """

    label: str
    net: str
    arch: str
    pushpull: Mapping[str, float | bool] | None = None
    train: Mapping[str, Any] = field(default_factory=dict)

    def overrides(self) -> list[str]:
        """As `dvc exp run -S` takes them."""
        entry = {
            "block": "conv" if self.pushpull is None else "pushpull",
            "arch": self.arch,
            "family": families()[self.arch],
        }
        if self.train:
            entry["train"] = dict(self.train)
        changes = [f"++nets.{self.net}={_literal(entry)}"]
        if self.pushpull is not None:
            options = Block(layers="first", **self.pushpull).model_dump(exclude={"lpf_size"})
            changes += [f"pushpull.{key}={_literal(value)}" for key, value in options.items()]
        return changes


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        name: as in `make <name>`, and how its experiments' names begin.
        published_on: the data set of the paper's figures.
        prepare: the stage of the data it needs.
        stage: the stage, of dvc.yaml or studies/dvc.yaml, that measures a net.
        results: the folder of metrics/<data>/ with one file a net which that stage writes.
    """

    name: str
    published_on: str
    prepare: str
    stage: str
    results: str

    @property
    def target(self) -> str:
        return f"studies/dvc.yaml:{self.stage}" if self.stage == "evaluate_noise" else self.stage


STUDIES = {
    study.name: study
    for study in (
        Study("table4", "cifar10", "fetch", "evaluate_noise", "noise"),
        Study("table5", "cifar10", "corrupt", "evaluate_corruption", "corruption"),
        Study("mnist", "mnist", "fetch", "evaluate_noise", "noise"),
    )
}


def cells(study: Study, data_name: str) -> list[Cell]:
    """The nets of a study, in the order of its table."""
    if study.name == "table4":
        grid = [
            Cell(f"s{scale:g}-a{alpha:g}", "resnet14-pp", "resnet14", {"scale": scale, "alpha": alpha})
            for scale in SCALES
            for alpha in ALPHAS
        ]
        return [Cell("baseline", "resnet14", "resnet14"), *grid]
    if study.name == "table5":
        return [
            cell
            for arch in ("resnet20", "resnet56")
            for cell in (
                Cell(arch, arch, arch),
                Cell(f"{arch}-pp", f"{arch}-pp", arch, {}),
                Cell(f"{arch}-pp-learned", f"{arch}-pp", arch, {"train_alpha": True}),
            )
        ]
    train = LENET_ON_MNIST if data_name == "mnist" else LENET_ON_LITTLE
    return [
        cell
        for letter in "abcd"
        for cell in (
            Cell(f"lenet_{letter}", f"lenet_{letter}", f"lenet_{letter}", train=train),
            Cell(f"lenet_{letter}-pp", f"lenet_{letter}-pp", f"lenet_{letter}", {}, train),
        )
    ]


@dataclass(frozen=True)
class Experiment:
    """A cell on a data set: the DVC experiment of that name, the overrides that make it, and its whole parameters."""

    name: str
    cell: Cell
    overrides: list[str]
    target: str
    params: Params


def experiments(study: Study, data: str | None, extra: Sequence[str] = ()) -> list[Experiment]:
    """The experiments of a study, each named for what decides its result.

    The name ends with a digest of the parameters and of the code that the stages depend on: an experiment of that name,
    of whatever commit, need not be run again.

    Args:
        study: which.
        data: None for the data set and the size of params.yaml as it stands; the paper's data set for full size.
        extra: overrides from the user, as `dvc exp run -S` takes them; they win.

    Raises:
        click.ClickException: another data set, or overrides that do not fit params.yaml.
    """
    size = size_overrides(study, data)
    found = []
    for cell in cells(study, resolve([*size, *extra]).data.name):
        overrides = [*size, *cell.overrides(), *extra]
        params = resolve(overrides)
        code = code_digest(study, families()[cell.arch])
        digest = hashlib.sha256(f"{result_key(params, cell.net)} {code}".encode()).hexdigest()[:7]
        if study.stage == "evaluate_noise":
            overrides.append(f"studies/params.yaml:noise=[{cell.net}]")
        name = f"{study.name}-{params.data.name}-{cell.label}-{digest}"
        found.append(Experiment(name, cell, overrides, f"{study.target}@{cell.net}", params))
    return found


def size_overrides(study: Study, data: str | None) -> list[str]:
    """The overrides that choose data set and size."""
    if data == study.published_on:
        sections = [f"{section}=${{paper.{section}}}" for section in ("data", "train", "evaluate")]
        return [f"paper.data.name={data}", *sections]
    here = load_params().data.name
    if data not in (None, here):
        raise click.ClickException(
            f"{study.name} runs on {study.published_on} at full size, or on the {here} of params.yaml, not on {data!r}"
        )
    return []


def resolve(overrides: Sequence[str]) -> Params:
    """params.yaml with the overrides, as `dvc exp run -S` would leave it.

    Raises:
        click.ClickException: an override that does not fit, or the first thing wrong in what it makes.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PARAMS.name
        path.write_text(PARAMS.read_text(encoding="utf-8"), encoding="utf-8")
        try:
            apply_overrides(path, list(overrides))
        except DvcException as error:
            raise click.ClickException(" ".join(str(error).split())) from None
        return load_params(path)


def result_key(params: Params, net: str) -> str:
    """The parameters that decide what is measured of a net, as text."""
    decides = params.model_dump(include={"data", "evaluate"})
    decides |= {"arch": params.nets[net].arch, "options": params.options(net)}
    decides["train"] = params.training(net).model_dump()
    return json.dumps(decides, sort_keys=True)


def code_digest(study: Study, family: str) -> str:
    """Digest of the code that the stages of the study depend on, for nets of a family."""
    digest = hashlib.sha256()
    for stage in dict.fromkeys(("fetch", study.prepare, "train", study.stage)):
        for file in code_of(Path.cwd(), stage, family):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _literal(value: Any) -> str:
    """A value as the override grammar writes it; floats keep their point, so that equal values are equal text."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_literal, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
