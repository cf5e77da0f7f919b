"""Which code decides the outputs of a stage: what dvc.yaml lists among its dependencies, and no other account."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.files.yaml_file import read_yaml

ROOT = Path(__file__).parents[2]


def stages_of(root: Path, pipeline: str = "dvc.yaml") -> dict[str, dict[str, Any]]:
    """Every stage of a pipeline by name; of one for each net, what is done for a net.

    Raises:
        OSError, ValueError: as `read_yaml`.
    """
    stages = read_yaml(root / pipeline)["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


def code_of(root: Path, stage: str, family: str, pipeline: str = "dvc.yaml") -> list[Path]:
    """The modules that a stage depends on, in the order of dvc.yaml, those of a folder by name.

    Args:
        root: folder of the repository.
        stage: a name in the pipeline, without `@<net>`.
        family: of the net, which `${item.family}` stands for.
        pipeline: the file, below `root`.

    Raises:
        KeyError: no such stage.
        OSError: a module is listed that is not there.
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
    """Sixteen hexadecimal digits that name unfinished work, others where anything differs that decides it.

    Args:
        decides: parameters and the like, as JSON has them.
        stage, family, pipeline: whose code decides, as for `code_of`.
        files: whose contents do.
    """
    found = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for path in [*code_of(ROOT, stage, family, pipeline), *files]:
        with open(path, "rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]
