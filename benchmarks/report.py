"""The machine a benchmark ran on, and its results written to a file at once."""

import json
import os
import platform
from pathlib import Path
from typing import Any

from stages.files.writing import write_text
from training.device import processor


def machine(**more: Any) -> dict[str, Any]:
    """Processor, cores, system and Python, and what the benchmark adds, as versions of the libraries it used."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **more,
    }


def write_json(path: Path, **parts: Any) -> None:
    """Write the parts as one JSON object, whole or not at all."""
    write_text(path, json.dumps(parts, indent=2) + "\n")
