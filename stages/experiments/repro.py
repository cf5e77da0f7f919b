"""`make repro`: the whole pipeline, once at a time in a clone, and the addresses of its results in MLflow.

Where nothing has changed since the last time, it says so at once: MLflow, which takes seconds to open, is left alone.
"""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import click
from filelock import Timeout

from stages.files import workspace
from stages.files.interruption import call, naming_refused_files
from stages.files.params import load_params
from stages.files.writing import write_text
from stages.tracking import address, links, runs

DVC = [sys.executable, "-m", "dvc", "repro"]


@click.command()
@naming_refused_files("goes on from there")
def main() -> None:
    """Run `dvc repro`, give MLflow the results that DVC found in Git, and print where to see them."""
    params = load_params()
    runs.identity()  # Git may refuse, and that is better known before the work
    note = workspace.scratch() / "repro.json"
    started = 1000 * time.time()
    try:
        with workspace.lock("repro").acquire(blocking=False):
            dry = subprocess.run(
                [*DVC, "--dry"], capture_output=True, encoding="utf-8", errors="replace", check=False
            )
            if "up to date" in dry.stdout:
                click.echo("Data and pipelines are up to date.")
                given = note.read_text(encoding="utf-8") if note.exists() else None
                # A server may lack what it could not take.
                if given == results() and not address.server_uri():
                    return
            elif status := call(DVC):
                sys.exit(status)
            else:
                say_what_differs()
            experiment = runs.open_experiment(params)
            parent = experiment.client.get_run(experiment.parent)
            if not parent.data.metrics:
                from stages.tracking import mirror  # with pandas, for which nobody waits who needs none

                mirror.mirror_files(params)
            elif parent.info.end_time < started:  # otherwise `aggregate` ran and printed them
                links.show(experiment.client, params.data.name, experiment.parent)
            write_text(note, results())
    except Timeout:
        raise click.ClickException(
            "another `make repro` is running in this clone; wait for its end"
        ) from None


def results() -> str:
    """What MLflow's store was given: the experiment's tags, the digest of dvc.lock, and which file the store is."""
    lock = Path("dvc.lock")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None
    database = workspace.root() / "mlflow.db"
    made = database.stat().st_ino if database.exists() else None  # another one after it was deleted
    return json.dumps([runs.identity(), digest, made])


def say_what_differs() -> None:
    """Print how many results are not those in Git, and that another processor is enough of a reason."""
    changed = workspace.git("diff", "--name-only", "--", "metrics", "dvc.lock").splitlines()
    if changed:
        click.echo(
            f"{len(changed)} files of results differ from those in Git (`git diff --stat` lists them). With unchanged "
            "parameters and code that is the processor: it rounds otherwise, and training carries that on."
        )


if __name__ == "__main__":
    main()
