"""YAML files for the tests."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from stages.files.yaml_file import yaml_text

PRESETS = {"paper", "jpeg", "authors"}


def write_yaml(path: Path, content: Any) -> None:
    path.write_text(yaml_text(content), encoding="utf-8")


def without_presets(params: dict, kept: Collection[str] = ()) -> dict:
    """The repository's parameters without its presets, three quarters of what a stage or DVC would read."""
    return {name: section for name, section in params.items() if name not in PRESETS - set(kept)}
