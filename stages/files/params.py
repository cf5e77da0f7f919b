"""What params.yaml may hold, checked at the start of every stage."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import click
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from common_corruptions.checks import check_name
from common_corruptions.recipes.names import (
    CORRUPTIONS,
    MAIN_CORRUPTIONS,
    MAIN_PERTURBATIONS,
    NOISE_VARIANTS,
    PERTURBATIONS,
)
from nets import list_nets
from stages.files.yaml_file import read_yaml

PARAMS = Path("params.yaml")

Positive = Annotated[int, Field(ge=1)]
Device = Literal["auto", "cpu", "cuda"]


class Section(BaseModel):
    """A mapping of params.yaml: no unknown key, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Data(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    path: str | None = None
    archives: str | None = None
    corrupted: Literal["generate", "download"] = "generate"
    corruptions: Literal["all", "main"] | list[str] = "all"
    perturbations: Literal["all", "main"] | list[str] = "all"
    perturbed_images: Positive | None = None
    seed: int = Field(0, ge=0)

    @field_validator("corruptions")
    @classmethod
    def known_corruptions(cls, names: str | list[str]) -> str | list[str]:
        return _known(names, CORRUPTIONS, "corruption")

    @field_validator("perturbations")
    @classmethod
    def known_perturbations(cls, names: str | list[str]) -> str | list[str]:
        return _known(names, (*PERTURBATIONS, *NOISE_VARIANTS), "perturbation")

    def corruption_names(self) -> tuple[str, ...]:
        """The chosen corruptions, in the order of the benchmark."""
        return _chosen(self.corruptions, CORRUPTIONS, MAIN_CORRUPTIONS)

    def perturbation_names(self) -> tuple[str, ...]:
        """The chosen perturbations, in the order of the benchmark."""
        every = (*PERTURBATIONS, *NOISE_VARIANTS)
        return _chosen(self.perturbations, every, MAIN_PERTURBATIONS, default=PERTURBATIONS)


def _known(names: str | list[str], known: tuple[str, ...], kind: str) -> str | list[str]:
    if not names:
        raise ValueError("must name at least one")
    for name in () if isinstance(names, str) else names:
        check_name(name, known, kind)
    return names


def _chosen(
    names: str | list[str],
    known: tuple[str, ...],
    main: tuple[str, ...],
    default: tuple[str, ...] | None = None,
) -> tuple[str, ...]:
    if names == "all":
        return default or known
    if names == "main":
        return main
    return tuple(name for name in known if name in names)


class Train(Section):
    epochs: Positive
    batch_size: Positive
    lr: float = Field(gt=0)
    momentum: float = Field(gt=0, lt=1)
    weight_decay: float = Field(ge=0)
    milestones: list[Positive]
    flip: Literal["auto"] | bool = "auto"
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    device: Device = "auto"

    @model_validator(mode="after")
    def ordered(self) -> "Train":
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, got {self.milestones}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds holds a seed twice: {self.seeds}")
        return self


class Evaluate(Section):
    batch_size: Positive
    device: Device = "auto"


class Official(Section):
    path: str | None = None


class Block(Section):
    """Options of `nets.create_net` shared by the nets that name this section as their `block`."""

    layers: Literal["first", "block1", "all"] | None = None
    alpha: float = Field(1.0, ge=0)
    scale: float = Field(2.0, gt=0)
    train_alpha: bool = False
    lpf_size: int | None = Field(None, ge=1, le=7)


class Net(Section):
    block: str
    arch: str
    train: dict[str, Any] = {}

    @field_validator("arch")
    @classmethod
    def known_arch(cls, name: str) -> str:
        if name not in list_nets():
            raise ValueError(
                f"unknown net {name!r}{_hint(name, list_nets())}; `python -m nets` lists them all"
            )
        return name


class Params(Section):
    """params.yaml: the fixed sections, and under `blocks` every section that a net names as its block."""

    data: Data
    train: Train
    evaluate: Evaluate
    official: Official
    nets: dict[str, Net] = Field(min_length=1)
    blocks: dict[str, Block]

    @field_validator("nets")
    @classmethod
    def file_names(cls, nets: dict[str, Net]) -> dict[str, Net]:
        for name in nets:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise ValueError(
                    f"{name!r} must be letters, digits, '.', '_' and '-': it becomes a file name"
                )
        return nets

    def training(self, net: str) -> Train:
        """The training section with the net's own overrides."""
        return Train(**{**self.train.model_dump(), **self.nets[net].train})

    def options(self, net: str) -> dict[str, Any]:
        """The keyword arguments of `nets.create_net` that the net's block gives."""
        block = self.blocks[self.nets[net].block].model_dump()
        block["pushpull"] = block.pop("layers")
        return block


FIXED = ("data", "train", "evaluate", "official", "nets", "paper")
BLOCKS = ("conv", "pushpull")


def load_params(path: Path = PARAMS) -> Params:
    """Read and check params.yaml.

    Raises:
        click.ClickException: no such file, not YAML, or the first thing wrong in it, by key and in one line.
    """
    try:
        raw = read_yaml(path)
    except FileNotFoundError:
        raise click.ClickException(f"no {path} here; run the stage at the top of the repository") from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if not isinstance(raw, dict):
        raise click.ClickException(f"{path} must hold sections, one of them `data`")
    params = _check(raw, "", _named_blocks(raw))
    if "paper" in raw:
        # A mistake in the full-scale values must not wait for the day they are used.
        paper = raw["paper"] if isinstance(raw["paper"], dict) else {}
        own = {key: value for key, value in raw.items() if key != "paper"}
        _check({**own, **paper}, "paper.", _named_blocks(raw) | _named_blocks(paper))
    return params


def _named_blocks(raw: dict[str, Any]) -> set[str]:
    """The sections that nets name as their block, as far as the file can be read."""
    nets = raw.get("nets")
    named = (
        (net.get("block") for net in nets.values() if isinstance(net, dict)) if isinstance(nets, dict) else ()
    )
    return {block for block in named if isinstance(block, str)}


def _check(raw: dict[str, Any], prefix: str, named: set[str]) -> Params:
    for key in raw:
        if key not in FIXED and key not in BLOCKS and key not in named:
            known = [*FIXED, *BLOCKS]
            raise click.ClickException(f"params.yaml: unknown key `{prefix}{key}`{_hint(key, known)}")
    nets = raw.get("nets")
    for name, net in nets.items() if isinstance(nets, dict) else ():
        block = net.get("block") if isinstance(net, dict) else None
        if isinstance(block, str) and (block not in raw or block in FIXED):
            sections = [key for key in raw if key not in FIXED]
            raise click.ClickException(
                f"params.yaml: `{prefix}nets.{name}.block` names a section `{block}` that does not exist"
                f"{_hint(block, sections)}"
            )
    sections = {key: value for key, value in raw.items() if key in FIXED and key != "paper"}
    blocks = {key: value for key, value in raw.items() if key not in FIXED}
    try:
        params = Params(**sections, blocks=blocks)
        for name in params.nets:
            _check_training(params, name)
    except ValidationError as error:
        raise click.ClickException(f"params.yaml: {_first(error, prefix)}") from None
    return params


def _check_training(params: Params, net: str) -> None:
    try:
        params.training(net)
    except ValidationError as error:
        raise click.ClickException(f"params.yaml: {_first(error, f'nets.{net}.train.')}") from None


def _first(error: ValidationError, prefix: str) -> str:
    """The first thing wrong, as `key`: what."""
    errors = error.errors()
    # A misspelt key is both unknown and missing; the unknown one tells more.
    found = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    # pydantic adds the member of a union to the path; those are no keys of the file.
    member = re.compile(r"[\[(]|^(bool|str|int|float|dict)$|^literal")
    path = [str(part) for part in found["loc"] if not member.search(str(part))]
    if path and path[0] == "blocks":
        path = path[1:]
    key = prefix + ".".join(path)
    if found["type"] == "extra_forbidden":
        model = {"data": Data, "train": Train, "evaluate": Evaluate, "official": Official, "nets": Net}.get(
            path[0], Block
        )
        if prefix.endswith(".train."):
            model = Train
        return f"unknown key `{key}`{_hint(path[-1], list(model.model_fields))}"
    if found["type"] == "missing":
        return f"`{key}` is missing"
    message = found["msg"].removeprefix("Value error, ")
    return f"`{key.rstrip('.')}`: {message}" + (
        "" if found["type"] == "value_error" else f", got {found['input']!r}"
    )


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, [str(one) for one in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(str(one) for one in known)}"
