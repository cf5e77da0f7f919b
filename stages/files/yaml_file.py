"""YAML as DVC reads and writes it: version 1.2, where `1e-05` is a number and `yes` is text."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError


def read_yaml(path: Path) -> Any:
    """Read a YAML file: mappings, lists and plain values.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not YAML; one line says where.
    """
    try:
        return YAML(typ="safe").load(path)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{path} is not YAML: {where}{error.problem or error.context}") from None
    except YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def yaml_text(content: Any) -> str:
    """Format mappings (in insertion order), lists and plain values as YAML, one value per line."""
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    text = io.StringIO()
    yaml.dump(content, text)
    return text.getvalue()
