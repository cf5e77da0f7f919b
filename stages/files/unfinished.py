"""Partial results of an interrupted measurement: the next run resumes after the last net and seed measured."""

import functools
import importlib.metadata
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
import numpy as np

from stages.files import workspace
from stages.files.datasets import DATASETS
from stages.files.dependencies import digest
from stages.files.devices import evaluation_device
from stages.files.schema import Params
from stages.files.writing import write_arrays
from training.device import describe

ROWS = "table/rows"  # cannot be the name of a corruption

T = TypeVar("T")
Rows = list[tuple]  # of a stage's table
Answers = dict[str, np.ndarray]  # name -> the predictions behind the rows
Found = tuple[Rows, Answers]


@contextmanager
def measured_once(
    stage: str, params: Params, weights: Sequence[Path], family: str = "", pipeline: str = "dvc.yaml"
) -> Iterator[Callable[[str, Callable[[T], Found], T], Found]]:
    """Yield a function `once(name, measure, what)`, which returns `measure(what)` of this or an interrupted run.

    Results are kept until the block ends without an error. A run reuses them only if everything that determines them is
    the same: parameters, code that the pipeline lists, versions, device, content of the weights, and size and
    modification time of the image files, which are too large to be read for this. If another process measures the
    same, wait for it.

    Args:
        stage: a name in the pipeline, without `@<net>`.
        weights: files of the nets.
        family: family of the net, as for `code_of`.
    """
    folder = workspace.scratch() / f"{stage}-{_name(params, stage, family, weights, pipeline)}"
    with workspace.lock(folder.name):
        folder.mkdir(exist_ok=True)
        yield functools.partial(_once, folder)
        shutil.rmtree(folder)


def _name(params: Params, stage: str, family: str, weights: Sequence[Path], pipeline: str) -> str:
    files = sorted((DATASETS / params.data.name).glob("*/*.npy"))
    decides = {
        "data": params.data.decisive(),
        "evaluate": params.evaluate.model_dump(exclude={"device"}),
        "device": describe(evaluation_device(params)),
        "versions": [importlib.metadata.version(name) for name in ("numpy", "onnxruntime", "torch")],
        "nets": [path.stem for path in weights],
        "images": [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files],
    }
    return digest(decides, stage, family, weights, pipeline)


def _once(folder: Path, name: str, measure: Callable[[T], Found], what: T) -> Found:
    path = folder / f"{name}.npz"
    try:
        with np.load(path) as file:
            rows = [tuple(row) for row in json.loads(file[ROWS].item())]
            return rows, {key: file[key] for key in file.files if key != ROWS}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        click.echo(f"{path}: {error}; measuring again")
    rows, answers = measure(what)
    write_arrays(path, {ROWS: np.array(json.dumps(rows)), **answers})
    return rows, answers
