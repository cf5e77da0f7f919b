"""The machine a benchmark ran on and the code it ran, and its results written to a file at once."""

import json
import os
import platform
from pathlib import Path
from typing import Any

from stages.files import workspace
from stages.files.writing import write_text
from training.device import processor


def machine(**more: Any) -> dict[str, Any]:
    """Processor, cores, system, Python and commit, and what the benchmark adds, as versions of its libraries."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": commit(),
        **more,
    }


def commit() -> str | None:
    """The commit of this clone, marked `-dirty` if any file but a result differs from it; None in a copy without Git.

    Raises:
        click.ClickException: as `workspace.git`.
    """
    return workspace.marked(workspace.commit()[:7], ".", ":!benchmarks/results") or None


def write_json(path: Path, **parts: Any) -> None:
    """Write the parts as one JSON object, whole or not at all."""
    write_text(path, json.dumps(parts, indent=2) + "\n")
