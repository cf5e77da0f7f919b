"""Schema of params.yaml: the values that each section may hold, and what they mean for a net."""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from common_corruptions.checks import check_name
from common_corruptions.recipes.names import (
    CORRUPTIONS,
    MAIN_CORRUPTIONS,
    MAIN_PERTURBATIONS,
    NOISE_VARIANTS,
    PERTURBATIONS,
)
from common_corruptions.recipes.registry import check_corruption
from nets.families import families

Positive = Annotated[int, Field(ge=1)]
Device = Literal["auto", "cpu", "cuda"]

# Table of a study -> the measurement that it is made from.
MEASURED_BY = {"table1": "noise", "table4": "noise", "table5": "corruption"}

WHOLE = {"all": CORRUPTIONS, "main": MAIN_CORRUPTIONS}


class Section(BaseModel):
    """A section of params.yaml; unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Data(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    path: str | None = None
    archives: str | None = None
    corrupted: Literal["generate", "download"] = "generate"
    corruptions: Literal["all", "main"] | list[str] = "all"
    perturbations: Literal["all", "main"] | list[str] = "all"
    corrupted_images: Positive | None = None
    perturbed_images: Positive | None = None
    seed: int = Field(0, ge=0)

    @field_validator("corruptions")
    @classmethod
    def known_corruptions(cls, names: str | list[str]) -> str | list[str]:
        if not names:
            raise ValueError("must name at least one")
        for name in () if isinstance(names, str) else names:
            if name not in WHOLE:
                check_corruption(name)
        if not isinstance(names, str) and not {*WHOLE, *CORRUPTIONS} & {*names}:
            raise ValueError(
                "names none of the benchmark's corruptions, which E and mCE average; add `all` or one"
            )
        return names

    @field_validator("perturbations")
    @classmethod
    def known_perturbations(cls, names: str | list[str]) -> str | list[str]:
        if not names:
            raise ValueError("must name at least one")
        for name in () if isinstance(names, str) else names:
            check_name(name, (*PERTURBATIONS, *NOISE_VARIANTS), "perturbation")
        return names

    @model_validator(mode="after")
    def whole_if_published(self) -> "Data":
        if self.corrupted == "download" and self.corrupted_images is not None:
            raise ValueError("`corrupted_images` needs `corrupted: generate`; published sets hold all images")
        return self

    def decisive(self) -> dict[str, Any]:
        """The settings that determine the images: all except the folders of this machine."""
        return self.model_dump(exclude={"path", "archives"})

    def corruption_names(self) -> tuple[str, ...]:
        """The chosen corruptions: the benchmark's in its order, then those added to them."""
        return self.averaged_corruptions() + self.added_corruptions()

    def averaged_corruptions(self) -> tuple[str, ...]:
        """The chosen corruptions of the benchmark; E, mCE and every other mean are over these."""
        listed = {self.corruptions} if isinstance(self.corruptions, str) else {*self.corruptions}
        chosen = {*listed}.union(*(WHOLE[name] for name in WHOLE if name in listed))
        return tuple(name for name in CORRUPTIONS if name in chosen)

    def added_corruptions(self) -> tuple[str, ...]:
        """The chosen corruptions outside the benchmark, in the listed order: measured and shown, but in no mean."""
        listed = () if isinstance(self.corruptions, str) else dict.fromkeys(self.corruptions)
        return tuple(name for name in listed if name not in WHOLE and name not in CORRUPTIONS)

    def perturbation_names(self) -> tuple[str, ...]:
        """The chosen perturbations, in the order of the benchmark."""
        if isinstance(self.perturbations, str):
            return PERTURBATIONS if self.perturbations == "all" else MAIN_PERTURBATIONS
        return tuple(name for name in (*PERTURBATIONS, *NOISE_VARIANTS) if name in self.perturbations)


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
    augment: Literal["none", "trivial", "augmix"] = "none"
    device: Device = "auto"

    @model_validator(mode="after")
    def ordered(self) -> "Train":
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, got {self.milestones}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds has duplicates: {self.seeds}")
        return self


class Evaluate(Section):
    batch_size: Positive
    device: Device = "auto"


class Official(Section):
    path: str | None = None


class Block(Section):
    """Options of `nets.create_net` shared by the nets that name this section as their `block`.

    `own` holds further options of an architecture, such as the wavelength of a custom front end.
    """

    layers: Literal["first", "block1", "all"] | None = None
    alpha: Annotated[float, Field(ge=0)] | Literal["uniform"] = 1.0
    scale: float = Field(2.0, gt=0)
    train_alpha: bool = False
    lpf_size: int | None = Field(None, ge=1, le=7)
    pull: Literal["upsampled", "complementary"] = "upsampled"
    average_size: int = Field(0, ge=0)
    own: dict[str, Any] = {}


class Net(Section):
    """A net: `block`, the section with its options; `arch`; `family`, the module that dvc.yaml names; overrides.

    `options` override those of the block, those in `own` one by one; `train` overrides the training section.
    """

    block: str
    arch: str
    family: str | None = None
    options: dict[str, Any] = {}
    train: dict[str, Any] = {}

    @property
    def own(self) -> str:
        """The net's own options as tables show them: `alpha=2, scale=1.5`; empty if it has none."""
        named = {key: value for key, value in self.options.items() if key != "own"}
        return ", ".join(f"{key}={value}" for key, value in {**named, **self.options.get("own", {})}.items())

    @field_validator("arch")
    @classmethod
    def known_arch(cls, name: str) -> str:
        if name not in families():
            raise ValueError(f"unknown net {name!r}{hint(name, families())}; `python -m nets` lists them all")
        return name

    @field_validator("train")
    @classmethod
    def trained_where_all_are(cls, train: dict[str, Any]) -> dict[str, Any]:
        if "device" in train:
            raise ValueError("`device` is shared by all nets; set `train.device`")
        return train

    @model_validator(mode="after")
    def of_its_family(self) -> "Net":
        if self.family not in (None, families()[self.arch]):
            raise ValueError(
                f"{self.arch} is in nets/{families()[self.arch]}.py, so its family is "
                f"{families()[self.arch]!r}, not {self.family!r}"
            )
        return self


class Study(Section):
    """The nets of a study, from studies/params.yaml, and how studies/dvc.yaml measures them.

    `tables` maps each table of the paper that the study reproduces to its measurement; `comparisons` maps each table
    that compares nets to the baseline of the differences. `train` overrides the training section.
    """

    tables: dict[Literal["table1", "table4", "table5"], Literal["noise", "corruption"]] = {}
    comparisons: dict[Literal["frontends"], str] = {}
    nets: dict[str, Any] = Field(min_length=1)
    noise: dict[str, Any] = {}
    corruption: dict[str, Any] = {}
    perturbation: dict[str, Any] = {}
    train: dict[str, Any]

    @field_validator("tables")
    @classmethod
    def from_what_they_show(cls, tables: dict[str, str]) -> dict[str, str]:
        for table, kind in tables.items():
            if kind != MEASURED_BY[table]:
                raise ValueError(f"{table} shows the measurement `{MEASURED_BY[table]}`, not `{kind}`")
        return tables


class Params(Section):
    """params.yaml: the fixed sections; every other section is a block that nets may name.

    With `study` these are the parameters of that study: its nets and training replace those of the file.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Block]

    data: Data
    train: Train
    evaluate: Evaluate
    official: Official
    nets: dict[str, Net]
    study: Study | None = Field(None, exclude=True)

    @field_validator("nets")
    @classmethod
    def file_names(cls, nets: dict[str, Net]) -> dict[str, Net]:
        for name in nets:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise ValueError(
                    f"{name!r} must be letters, digits, '.', '_' and '-': it becomes a file name"
                )
        return nets

    @model_validator(mode="after")
    def something_to_measure(self) -> "Params":
        if not self.nets and self.official.path is None:
            raise ValueError(
                "nets is empty and official.path is not set, so there is nothing to measure; "
                "add a net, or the folder of the authors' <net>/checkpoint.pth.tar"
            )
        return self

    @property
    def blocks(self) -> dict[str, Block]:
        """Every section that a net may name as its block."""
        return self.__pydantic_extra__

    def block(self, net: str) -> Block:
        """The block of a net, with the net's own options."""
        chosen = self.nets[net]
        shared = self.blocks[chosen.block].model_dump()
        merged = shared | chosen.options
        if isinstance(merged["own"], dict):  # of any other type it is refused
            merged["own"] = shared["own"] | merged["own"]
        return Block(**merged)

    def training(self, net: str) -> Train:
        """The training section with the net's own overrides."""
        return Train(**{**self.train.model_dump(), **self.nets[net].train})

    def options(self, net: str) -> dict[str, Any]:
        """The keyword arguments of `nets.create_net`, from the net's block and its own options."""
        block = self.block(net).model_dump()
        block["pushpull"] = block.pop("layers")
        return block | block.pop("own")


def hint(name: str, known: Iterable[Any]) -> str:
    """The end of an error message: the closest of the known names, or all of them."""
    known = [str(one) for one in known]
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
