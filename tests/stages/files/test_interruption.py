"""Ctrl-C at the terminal, and disks that take no more: one line, of the stage that ran, and time for DVC to end."""

import errno
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stages.files.dependencies import stages_of
from stages.files.interruption import stopping
from tests.conftest import ROOT

COMMANDS = {
    stage["cmd"].split()[2]: None
    for pipeline in ("dvc.yaml", "studies/dvc.yaml")
    for stage in stages_of(ROOT, pipeline).values()
    if stage["cmd"].startswith("python -m ")
}

# In place of DVC and its stage: says once that it began, and on Ctrl-C takes a second to end.
STAGE = """
import sys, time
if "--dry" not in sys.argv:
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(1)
        sys.exit("Stopped; the next run goes on.")
"""


def test_make_repro_leaves_the_word_to_the_stage(workspace):
    script = (
        "import sys; from stages.experiments import repro; "
        f"repro.DVC = [sys.executable, '-c', {STAGE!r}]; repro.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (output, errors) == ("", "Stopped; the next run goes on.\n")
    assert process.returncode == 1  # of the stage


@pytest.mark.parametrize(
    ("exception", "status", "said"),
    [("KeyboardInterrupt", -signal.SIGINT, "Stopped."), ("ValueError('x')", 1, "ValueError: x")],
)
def test_before_a_command_has_begun(exception, status, said):
    script = f"import stages\ndef imports(): raise {exception}\nimports()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (status, said)
    assert ("Traceback" in done.stderr) == (status == 1)


def test_a_stage_says_what_the_next_run_does():
    @click.command()
    @stopping("measures this net from the start")
    def main():
        os.kill(os.getpid(), signal.SIGINT)

    done = CliRunner().invoke(main)
    assert (done.exit_code, done.output) == (130, "Stopped; the next run measures this net from the start.\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("what", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "Stopped; the next run "),
        (OSError(errno.EROFS, "Read-only", "models/a.pt"), 1, "Error: models/a.pt: Read-only; fix this and "),
        (OSError(errno.ENOSPC, "No space"), 1, "Error: {here}: No space; fix this and "),
    ],
)  # fmt: skip
def test_every_stage_does(command, what, status, said, monkeypatch, workspace):
    module = importlib.import_module(command)

    def stop(**_):
        raise what

    monkeypatch.setattr(module, "load_params", stop)
    takes_a_name = any(isinstance(one, click.Argument) for one in module.main.params)
    name = {"stages.experiments.study": "table1", "stages.experiments.frontends": "frontends"}
    done = CliRunner().invoke(module.main, [name.get(command, "small")] if takes_a_name else [])
    assert done.exit_code == status
    assert done.output.startswith(said.format(here=workspace))
    assert done.output.count("\n") == 1


def test_a_file_that_is_not_there_is_a_mistake_of_ours():
    @click.command()
    @stopping("starts anew")
    def main():
        Path("nothing").read_text(encoding="utf-8")

    assert isinstance(CliRunner().invoke(main).exception, FileNotFoundError)
