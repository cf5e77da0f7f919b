"""Reading params.yaml: every stage begins with it, and refuses a mistake in one line that names the key."""

import re
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from stages.files.schema import Block, Data, Evaluate, Net, Official, Params, Train, hint
from stages.files.yaml_file import read_yaml

PARAMS = Path("params.yaml")

SECTIONS = {"data": Data, "train": Train, "evaluate": Evaluate, "official": Official, "nets": Net}
PRESETS = ("paper", "authors")  # values that `make paper` and `make authors` copy over those above
FIXED = (*SECTIONS, *PRESETS)
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
    presets = {name: raw.pop(name, None) for name in PRESETS}
    params = _check(raw, "", _named_blocks(raw))
    for name, preset in presets.items():
        if isinstance(preset, dict):
            # A mistake in values that wait must not wait for the day they are used.
            _check({**raw, **preset}, f"{name}.", _named_blocks(raw) | _named_blocks(preset))
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
            raise click.ClickException(
                f"params.yaml: unknown key `{prefix}{key}`{hint(key, [*FIXED, *BLOCKS])}"
            )
    nets = raw.get("nets")
    for name, net in nets.items() if isinstance(nets, dict) else ():
        block = net.get("block") if isinstance(net, dict) else None
        if isinstance(block, str) and (block not in raw or block in FIXED):
            sections = [key for key in raw if key not in FIXED]
            raise click.ClickException(
                f"params.yaml: `{prefix}nets.{name}.block` names a section `{block}` that does not exist"
                f"{hint(block, sections)}"
            )
    try:
        params = Params(**raw)
    except ValidationError as error:
        raise click.ClickException(f"params.yaml: {_first(error, prefix)}") from None
    for name in params.nets:
        try:
            params.training(name)
        except ValidationError as error:
            where = f"{prefix}nets.{name}.train."
            raise click.ClickException(f"params.yaml: {_first(error, where, Train)}") from None
    return params


def _first(error: ValidationError, prefix: str, model: type | None = None) -> str:
    """The first thing wrong, as `key`: what; `model` is the section that was checked, if it was one alone."""
    errors = error.errors()
    # A misspelt key is both unknown and missing; the unknown one tells more.
    found = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    # pydantic adds the member of a union to the path; those are no keys of the file.
    member = re.compile(r"[\[(]|^(bool|str|int|float|dict)$|^literal")
    path = [str(part) for part in found["loc"] if not member.search(str(part))]
    key = (prefix + ".".join(path)).rstrip(".") or "nets"  # what concerns several sections names them itself
    if found["type"] == "extra_forbidden":
        model = model or SECTIONS.get(path[0], Block)
        return f"unknown key `{key}`{hint(path[-1], model.model_fields)}"
    if found["type"] == "missing":
        return f"`{key}` is missing"
    message = found["msg"].removeprefix("Value error, ")
    return f"`{key}`: {message}" + ("" if found["type"] == "value_error" else f", got {found['input']!r}")
