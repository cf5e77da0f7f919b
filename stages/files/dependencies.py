"""Which code determines the outputs of a stage: dvc.yaml, which lists its dependencies, is the only source."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.files.yaml_file import read_yaml

ROOT = Path(__file__).parents[2]


def stages_of(root: Path, pipeline: str = "dvc.yaml") -> dict[str, dict[str, Any]]:
    """Every stage of a pipeline by name; for a `foreach` stage, its `do` section.

    Raises:
        OSError, ValueError: as `read_yaml`.
    """
    stages = read_yaml(root / pipeline)["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


def code_of(root: Path, stage: str, family: str, pipeline: str = "dvc.yaml") -> list[Path]:
    """The modules that a stage depends on, in the order of dvc.yaml; modules of a folder are sorted by name.

    Args:
        root: folder of the repository.
        stage: a name in the pipeline, without `@<net>`.
        family: family of the net, the value of `${item.family}`.
        pipeline: the file of the pipeline, relative to `root`.

    Raises:
        KeyError: no such stage.
        OSError: a listed module does not exist.
    """
    modules = []
    for dependency in stages_of(root, pipeline)[stage]["deps"]:
        path = root / dependency.replace("${item.family}", family)
        modules += [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
    return [module.resolve(strict=True) for module in modules]


def digest(
    decides: Mapping[str, Any],
    stage: str,
    family: str,
    files: Iterable[Path] = (),
    pipeline: str = "dvc.yaml",
) -> str:
    """Digest (16 hexadecimal digits) of everything that determines a result; it names unfinished work.

    Args:
        decides: parameters and similar values, serialisable as JSON.
        stage, family, pipeline: which code to include, as for `code_of`.
        files: files whose contents to include.
    """
    found = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for path in [*code_of(ROOT, stage, family, pipeline), *files]:
        with open(path, "rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]
