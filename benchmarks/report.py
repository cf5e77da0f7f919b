"""The machine a benchmark ran on and the code it ran, and its results written to a file at once."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from stages.files.writing import write_text
from training.device import processor

ROOT = Path(__file__).parents[1]


def machine(**more: Any) -> dict[str, Any]:
    """Processor, cores, system, Python and commit, and what the benchmark adds, as versions of its libraries."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": commit(ROOT),
        **more,
    }


def commit(folder: Path) -> str | None:
    """The commit of a clone, marked `-dirty` if any file but a result differs from it; None in a copy without Git."""
    if not (folder / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, stdout=subprocess.PIPE, encoding="utf-8", check=True
        )
        return done.stdout.strip()

    changed = git("--no-optional-locks", "status", "--porcelain", "--", ".", ":!benchmarks/results")
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def write_json(path: Path, **parts: Any) -> None:
    """Write the parts as one JSON object, whole or not at all."""
    write_text(path, json.dumps(parts, indent=2) + "\n")
