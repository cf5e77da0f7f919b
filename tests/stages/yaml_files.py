"""YAML files for the tests."""

from pathlib import Path
from typing import Any

from stages.files.yaml_file import yaml_text


def write_yaml(path: Path, content: Any) -> None:
    path.write_text(yaml_text(content), encoding="utf-8")
