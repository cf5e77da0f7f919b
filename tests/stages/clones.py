"""Clones of this repository, commands run in them, and the runs in their stores."""

import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import mlflow

from stages.files.yaml_file import read_yaml
from tests import forked_python
from tests.conftest import ROOT
from tests.stages.yaml_files import without_presets, write_yaml


def run(folder: Path, *command: str, check: bool = True, forked: bool = True) -> subprocess.CompletedProcess:
    """Run a command in a clone; unless `forked` is false, `python -m` and `dvc` are forks, as in `forked_python`."""
    done = subprocess.run(
        command, cwd=folder, env=environment(forked), capture_output=True, encoding="utf-8", check=False
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def environment(forked: bool = False) -> dict[str, str]:
    """Variables of a command in a clone, with the interpreter of the tests on its PATH."""
    outside = {
        key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "GIT_"))
    }
    identity = {
        f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    if forked:
        folders.insert(0, str(forked_python.commands()))
    return {**outside, **identity, "PATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}


def clone(folder: Path, change, store: Path | None = None, presets: Collection[str] = ()) -> Path:
    """A repository with the working tree's files and changed parameters, nothing run yet.

    Args:
        change: changes the parameters, given as a dict.
        store: an MLflow database that the clone gets a copy of.
        presets: which of the presets its parameters keep.
    """
    listed = run(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists() and not name.startswith("metrics/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    params = without_presets(read_yaml(ROOT / "params.yaml"), kept=presets)
    change(params)
    write_yaml(folder / "params.yaml", params)
    if store:
        shutil.copy(store, folder / "mlflow.db")
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "base")
    return folder


def runs(folder: Path):
    """Parent runs, and child runs by their parents' ids, in the store of a clone."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    parents = [one for one in found if one.data.tags["role"] == "experiment"]
    children = {parent.info.run_id: [] for parent in parents}
    for one in found:
        if one.data.tags["role"] == "net":
            children[one.data.tags["mlflow.parentRunId"]].append(one)
    return parents, children
