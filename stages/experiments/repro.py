"""`make repro`: run the whole pipeline, only once at a time per clone, and print where MLflow shows its results.

If nothing has changed since the last time, it says so at once and does not open MLflow, which takes seconds.
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
@naming_refused_files("resumes from there")
def main() -> None:
    """Run `dvc repro`, log results that DVC found in Git to MLflow, and print where to see them."""
    params = load_params()
    runs.identity()  # Git may refuse; fail before the work, not after it
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
                # A server may still lack runs that failed to upload.
                if given == results() and not address.server_uri():
                    return
            elif status := call(DVC):
                sys.exit(status)
            else:
                say_what_differs()
            experiment = runs.open_experiment(params)
            parent = experiment.client.get_run(experiment.parent)
            if not parent.data.metrics:
                from stages.tracking import mirror  # imports pandas, so only if needed

                mirror.mirror_files(params)
            elif parent.info.end_time < started:  # otherwise `aggregate` ran and printed them
                links.show(experiment.client, params.data.name, experiment.parent)
            write_text(note, results())
    except Timeout:
        raise click.ClickException(
            "another `make repro` is running in this clone; wait for it to end"
        ) from None


def results() -> str:
    """Identify the results logged to MLflow: the experiment's tags, the digest of dvc.lock, and the store's file."""
    lock = Path("dvc.lock")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None
    database = workspace.root() / "mlflow.db"
    made = database.stat().st_ino if database.exists() else None  # another one if it is recreated
    return json.dumps([runs.identity(), digest, made])


def say_what_differs() -> None:
    """Print how many results differ from those in Git, and that another processor can be the reason."""
    changed = workspace.git("diff", "--name-only", "--", "metrics", "dvc.lock").splitlines()
    if changed:
        click.echo(
            f"{len(changed)} result files differ from those in Git (`git diff --stat` lists them). With unchanged "
            "parameters and code the processor is the cause: it rounds differently, and training amplifies this."
        )


if __name__ == "__main__":
    main()
