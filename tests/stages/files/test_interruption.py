"""Ctrl-C at the terminal: one line, of the stage that ran, and time for DVC to end."""

import os
import signal
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from stages.files.interruption import stopping
from tests.conftest import ROOT

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


def test_a_stage_says_what_the_next_run_does():
    @click.command()
    @stopping("measures this net from the start")
    def main():
        os.kill(os.getpid(), signal.SIGINT)

    done = CliRunner().invoke(main)
    assert (done.exit_code, done.output) == (130, "Stopped; the next run measures this net from the start.\n")


@pytest.mark.parametrize(
    "stage",
    [
        "fetch",
        "corrupt",
        "train",
        "evaluate_corruption",
        "evaluate_perturbation",
        "evaluate_noise",
        "official",
    ],
)
def test_every_long_stage_does(stage, monkeypatch, workspace):
    module = __import__(f"stages.{stage}", fromlist=["main"])

    def press(**_):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(module, "load_params", press)
    done = CliRunner().invoke(module.main, [] if stage in ("fetch", "corrupt", "official") else ["small"])
    assert done.exit_code == 130
    assert done.output.startswith("Stopped; the next run ")
    assert done.output.count("\n") == 1
