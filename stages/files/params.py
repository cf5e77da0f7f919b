"""Read and validate params.yaml: every stage starts with it and reports a mistake in one line that names the key."""

import re
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from stages.files.schema import Block, Data, Evaluate, Net, Official, Params, Study, Train, hint
from stages.files.yaml_file import read_yaml

PARAMS = Path("params.yaml")

TOP = Path()

SECTIONS = {"data": Data, "train": Train, "evaluate": Evaluate, "official": Official, "nets": Net}
PRESETS = ("paper", "jpeg", "authors")  # values that `make paper`, `make jpeg` ... copy over the SECTIONS
FIXED = (*SECTIONS, *PRESETS)
BLOCKS = ("conv", "pushpull", "pushpull2024", "lowpass")
# Options of a block that have no effect without the layer.
LAYER_OPTIONS = ("alpha", "scale", "train_alpha", "pull", "average_size")


in_pipeline = click.option(
    "--pipeline",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=TOP,
    help="Folder of another pipeline, such as studies: its nets, and models/ and metrics/ below it.",
)


def load_params(path: Path = PARAMS, pipeline: Path = TOP) -> Params:
    """Read and check params.yaml.

    Args:
        path: the file.
        pipeline: folder of another pipeline; the section `study` of its params.yaml replaces the nets and overrides
            the training section of `path`.

    Raises:
        click.ClickException: no such file, not YAML, or an invalid value; one line names the first wrong key.
    """
    raw = _read(path)
    presets = {name: raw.pop(name, None) for name in PRESETS}
    params = _check(raw, "", _named_blocks(raw))
    for name, preset in presets.items():
        if isinstance(preset, dict):
            # Report a mistake in a preset now, not only when the preset is used.
            _check({**raw, **preset}, f"{name}.", _named_blocks(raw) | _named_blocks(preset))
    return params if pipeline == TOP else _study(raw, pipeline / PARAMS.name)


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = read_yaml(path)
    except FileNotFoundError:
        raise click.ClickException(f"no {path} here; run the stage at the top of the repository") from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if not isinstance(raw, dict):
        raise click.ClickException(f"{path} must hold sections, one of them `data`")
    return raw


def _study(raw: dict[str, Any], path: Path) -> Params:
    """The sections of params.yaml with the nets and the training of the study in the file `path`."""
    section = _read(path).get("study")
    if not (isinstance(section, dict) and section.get("nets")):
        raise click.ClickException(f"no study is chosen in {path}; run `make table4`, for example")
    try:
        study = Study(**section)
    except ValidationError as error:
        raise click.ClickException(f"{path}: {_first(error, 'study.', Study)}") from None
    if not study.tables and not study.comparisons:
        raise click.ClickException(
            f"{path}: `study` names neither `tables` nor `comparisons`: nothing to write"
        )
    for table, baseline in study.comparisons.items():
        if baseline not in study.nets:
            raise click.ClickException(
                f"{path}: `study.comparisons.{table}`: no net {baseline!r} in `study.nets`{hint(baseline, study.nets)}"
            )
    merged = {**raw, "nets": study.nets, "train": {**raw["train"], **study.train}}
    params = _check(merged, "study.", _named_blocks(raw) | _named_blocks(merged), path)
    return params.model_copy(update={"study": study})


def _named_blocks(raw: dict[str, Any]) -> set[str]:
    """The sections that nets name as their block; malformed entries are ignored."""
    nets = raw.get("nets")
    named = (
        (net.get("block") for net in nets.values() if isinstance(net, dict)) if isinstance(nets, dict) else ()
    )
    return {block for block in named if isinstance(block, str)}


def _check(raw: dict[str, Any], prefix: str, named: set[str], file: Path = PARAMS) -> Params:
    for key in raw:
        if key not in FIXED and key not in BLOCKS and key not in named:
            raise click.ClickException(f"{file}: unknown key `{prefix}{key}`{hint(key, [*FIXED, *BLOCKS])}")
    nets = raw.get("nets")
    for name, net in nets.items() if isinstance(nets, dict) else ():
        block = net.get("block") if isinstance(net, dict) else None
        if isinstance(block, str) and (block not in raw or block in FIXED):
            sections = [key for key in raw if key not in FIXED]
            raise click.ClickException(
                f"{file}: `{prefix}nets.{name}.block` names a section `{block}` that does not exist"
                f"{hint(block, sections)}"
            )
    try:
        params = Params(**raw)
    except ValidationError as error:
        raise click.ClickException(f"{file}: {_first(error, prefix)}") from None
    for name, block in params.blocks.items():
        if problem := _conflict(block):
            raise click.ClickException(f"{file}: `{prefix}{name}`: {problem}")
    for name, net in params.nets.items():
        if "." in name:
            raise click.ClickException(
                f"{file}: `{prefix}nets.{name}`: DVC treats a dot as a key separator and would not find the net; "
                f"call it {name.replace('.', '_')}"
            )
        for part, model, merge in (("train", Train, params.training), ("options", Block, params.block)):
            try:
                merge(name)
            except ValidationError as error:
                where = f"{prefix}nets.{name}.{part}."
                raise click.ClickException(f"{file}: {_first(error, where, model)}") from None
        if problem := _conflict(params.block(name)):
            raise click.ClickException(f"{file}: `{prefix}nets.{name}.options`: {problem}")
        unused = [key for key in LAYER_OPTIONS if key in net.options]
        if unused and params.block(name).layers is None:
            raise click.ClickException(
                f"{file}: `{prefix}nets.{name}.options.{unused[0]}`: the net has no push-pull layer, since neither "
                f"its block `{net.block}` nor its own options name `layers`"
            )
    return params


def _conflict(block: Block) -> str | None:
    """Describe a conflict between the options of a block, each valid by itself; None if there is none."""
    if block.alpha == "uniform" and not block.train_alpha:
        return "`alpha: uniform` only initialises a learned alpha; set `train_alpha: true`"
    if block.average_size and (block.pull == "upsampled" or block.average_size % 2 == 0):
        return "`average_size` must be 0 or odd, and 0 unless `pull: complementary`"
    if block.pull == "complementary" and block.scale != 2.0:
        return "`scale` needs `pull: upsampled`; the complementary kernel has the size of the push kernel"
    placed = [
        name for name in (*Block.model_fields, "pushpull", "num_classes", "in_channels") if name in block.own
    ]
    return (
        f"`own.{placed[0]}` is not an option of an architecture's own; it is set elsewhere"
        if placed
        else None
    )


def _first(error: ValidationError, prefix: str, model: type | None = None) -> str:
    """The first error, as `key`: message; `model` is the section that was checked, if it was a single one."""
    errors = error.errors()
    # A misspelt key is reported as unknown and as missing; the former is more helpful.
    found = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    # pydantic adds the member of a union to the path; these are not keys of the file.
    member = re.compile(r"[\[(]|^(constrained-)?(bool|str|int|float|dict)$|^literal")
    path = [str(part) for part in found["loc"] if not member.search(str(part))]
    key = (prefix + ".".join(path)).rstrip(".") or "nets"  # an error about several sections names them itself
    if found["type"] == "extra_forbidden":
        model = model or SECTIONS.get(path[0], Block)
        return f"unknown key `{key}`{hint(path[-1], model.model_fields)}"
    if found["type"] == "missing":
        return f"`{key}` is missing"
    message = found["msg"].removeprefix("Value error, ")
    return f"`{key}`: {message}" + ("" if found["type"] == "value_error" else f", got {found['input']!r}")
