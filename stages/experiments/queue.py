"""DVC's experiment queue: run the experiments that are not there yet, several at a time, and lose none.

The queue's messages are files that are read without a lock. A worker that looks at the wrong moment dies, or an
experiment is taken off the queue and never run; DVC lists it as running for ever. So the queue is watched: what runs
without a process is given up and queued again, and workers are started where none is left.
"""

import io
import os
import re
import subprocess
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import click
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.experiments.queue.exceptions import CannotKillTasksError
from tqdm import tqdm

from stages.experiments.studies import Experiment
from stages.files.interruption import call

ROUNDS = 3  # how often an experiment is queued that gets lost
POLL = 3.0  # seconds between two looks at the queue
PATIENCE = 60.0  # seconds with experiments queued and none running, after which workers are started anew
GRACE = (
    120.0  # seconds that an experiment may be listed as running without a process: it is set up or collected
)


def finished() -> dict[str, str]:
    """Revision of every experiment in this repository by name, whatever commit it was started from."""
    listed = _command(
        ["git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"], "no Git repository"
    )
    refs = re.findall(r"^(\w+) refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)$", listed, re.MULTILINE)
    return {name: revision for revision, name in refs}


def read(revision: str, path: Path) -> str:
    """A file that an experiment left in Git.

    Raises:
        click.ClickException: it is not there.
    """
    return _command(["git", "show", f"{revision}:{path}"], f"experiment {revision[:7]} left no {path}")


def run(experiments: Sequence[Experiment], jobs: int, prepare: str) -> dict[str, str]:
    """Run those experiments that are neither done nor in the queue, wait for all, and give their revisions by name.

    Args:
        experiments: all of a study.
        jobs: how many run at a time.
        prepare: the stage of the data, run once before the queue starts: the experiments then find its result in DVC's
            cache, instead of making or downloading it each on its own.

    Raises:
        click.ClickException: experiments failed; the others are done.
    """
    wanted = {one.name: one for one in experiments}
    for _ in range(ROUNDS):
        done = finished()
        missing = [name for name in wanted if name not in done]
        if not missing:
            return {name: done[name] for name in wanted}
        with Repo() as repo:
            queue = repo.experiments.celery_queue
            new = [wanted[name] for name in missing if name not in _take_up(queue, set(missing))]
            if new:
                prepare_data(new[0], prepare)
            for one in tqdm(new, desc="queueing; leave the files here alone", unit="experiment", leave=False):
                enqueue(repo, one)
            try:
                failed = _wait(queue, set(wanted), jobs)
            except KeyboardInterrupt:
                raise click.ClickException(
                    "stopped watching. The experiments go on; the same command watches them again, `dvc queue status` "
                    "shows them, `dvc queue stop` leaves those that have not begun for later"
                ) from None
        if failed:
            raise click.ClickException(
                f"{len(failed)} of {len(wanted)} experiments failed: {', '.join(failed)}. "
                f"`dvc queue logs {failed[0]}` says why; the same command runs them again"
            )
    raise click.ClickException(
        f"DVC lost {', '.join(missing)} {ROUNDS} times; see .dvc/tmp/exps/celery/*.out"
    )


def prepare_data(experiment: Experiment, stage: str) -> None:
    """Run the data's stage with an experiment's parameters; what it makes stays in DVC's cache."""
    name = f"data-{experiment.name}"
    click.echo(f"{stage} {experiment.params.data.name}")
    changes = [argument for one in experiment.overrides for argument in ("-S", one)]
    command = ["dvc", "exp", "run", "--temp", "--quiet", "--force", "--name", name, *changes, stage]
    if call(command):
        raise click.ClickException(f"the stage {stage} failed; see above")
    _command(["dvc", "exp", "remove", name], f"{name} could not be removed")


def enqueue(repo: Repo, experiment: Experiment) -> None:
    """`dvc exp run --queue`, without a new process for each: DVC puts the files of the workspace aside meanwhile."""
    try:
        with redirect_stdout(io.StringIO()):
            repo.experiments.run(
                queue=True, name=experiment.name, params=experiment.overrides, targets=[experiment.target]
            )
    except DvcException as error:
        raise click.ClickException(f"{experiment.name} could not be queued: {error}") from None


def _take_up(queue, names: set[str]) -> set[str]:
    """Those of the experiments that are queued or running; what an earlier run of the others left is removed."""
    states = _states(queue, names)
    over = {name for name, (_, state) in states.items() if state in ("Failed", "Success")}
    if over:
        queue.remove(over)
    return set(states) - over


def _wait(queue, names: set[str], jobs: int) -> list[str]:
    """Keep workers at the queue until none of the experiments is queued or running; the names of those that failed."""
    _start(jobs)
    lost: set[str] = set()
    busy = time.monotonic()  # when an experiment was last seen running
    alive: dict[str, float] = {}  # when each was last seen to have a process
    with tqdm(total=len(names), unit="experiment") as bar:
        while True:
            states = _states(queue, names)
            queued = [name for name, (_, state) in states.items() if state == "Queued"]
            running = [name for name, (_, state) in states.items() if state == "Running"]
            bar.n = len(names & set(finished()))
            bar.set_postfix_str(", ".join(sorted(running)))
            if not queued and not running:
                break
            now = time.monotonic()
            if running:
                busy = now
            elif now - busy > PATIENCE:
                _start(jobs)
                busy = now
            for name in running:
                if _has_process(queue, states[name][0]):
                    alive[name] = now
                elif now - alive.setdefault(name, now) > GRACE:
                    if _give_up(queue, name):
                        lost.add(name)
                    alive[name] = now
            time.sleep(POLL)
    if not any(entry["status"] in ("Queued", "Running") for entry in queue.status()):
        queue.shutdown()  # DVC's workers go home on their own, but not always
    return sorted(name for name, (_, state) in states.items() if state == "Failed" and name not in lost)


def _states(queue, names: set[str]) -> dict[str, tuple[str, str]]:
    """(revision in the queue; Queued, Running, Failed or Success) for those experiments that the queue knows."""
    return {
        entry["name"]: (entry["rev"], entry["status"]) for entry in queue.status() if entry["name"] in names
    }


def _has_process(queue, revision: str) -> bool:
    """Whether the process of an experiment in the queue lives."""
    info = queue.proc.get(revision)
    if info is None or info.returncode is not None:
        return False
    try:
        os.kill(info.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _give_up(queue, name: str) -> bool:
    """Have DVC list an experiment without a process as failed; False if a worker says that it is at it."""
    try:
        queue.kill([name], force=True)
    except CannotKillTasksError:
        return False
    return True


def _start(jobs: int) -> None:
    _command(["dvc", "queue", "start", "--jobs", str(jobs)], "the queue could not be started")


def _command(command: Sequence[str], failure: str) -> str:
    """Output of a command; a ClickException with what it said where it fails."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        raise click.ClickException(f"{failure}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
