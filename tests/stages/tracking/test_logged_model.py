"""A logged model answers `mlflow models serve` with the classes of uint8 images."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import requests
import torch

from stages.tracking import address
from tests import forked_python
from tests.conftest import ROOT
from tests.stages.clones import environment
from tests.stages.tracking.test_copies import begin, log_small_model


def test_served_model_answers_with_classes(local, images, tmp_path):
    run = begin()
    trained = log_small_model(run, images)
    experiment = local.get_run(run).info.experiment_id
    (model,) = local.search_logged_models([experiment], f"source_run_id = '{run}'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "-m", f"models:/{model.model_id}", "--env-manager", "local"]
    with open(tmp_path / "serve.log", "wb") as log:
        process = subprocess.Popen(
            [forked_python.commands() / "python", "-m", "mlflow", *command, "--port", str(port), "--host", "127.0.0.1"],
            env=environment() | {"MLFLOW_TRACKING_URI": address.store_uri()},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        answer = ask(f"http://127.0.0.1:{port}", {"inputs": images.tolist()}, process)
        wrong = requests.post(
            f"http://127.0.0.1:{port}/invocations", json={"inputs": np.zeros((1, 3)).tolist()}, timeout=60
        )
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    net = trained.net(0)
    scaled = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    assert answer == {"predictions": net(scaled).argmax(1).tolist()}
    assert wrong.status_code == 400


def test_a_model_holds_the_rooms_it_needs_and_loads_without_this_repository(local, images, tmp_path):
    run = begin()
    trained = log_small_model(run, images)
    experiment = local.get_run(run).info.experiment_id
    (model,) = local.search_logged_models([experiment], f"source_run_id = '{run}'")
    (code,) = tmp_path.glob(f"mlartifacts/digits/models/{model.model_id}/artifacts/code")
    assert sorted(path.name for path in code.iterdir()) == ["common_corruptions", "nets", "pushpull"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    np.save(elsewhere / "images.npy", images)
    program = (
        "import sys, mlflow, numpy; "
        "print(mlflow.pyfunc.load_model(sys.argv[1]).predict(numpy.load('images.npy')).tolist()); "
        "rooms = {name for name in sys.modules if name in sys.argv[2:]}; "
        "assert rooms == {'common_corruptions', 'nets', 'pushpull'}, rooms; "
        "assert all(sys.modules[name].__file__.startswith(sys.argv[1]) for name in rooms)"
    )
    ours = [path.parent.name for path in ROOT.glob("*/__init__.py")]
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(code.parent), *ours],
        cwd=elsewhere, env=outside, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scaled = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    assert json.loads(done.stdout.splitlines()[-1]) == trained.net(0)(scaled).argmax(1).tolist()


def ask(address: str, content: dict, process: subprocess.Popen) -> dict:
    """What the model answers, once its server is up."""
    deadline = time.monotonic() + 180
    while True:
        try:
            answer = requests.post(f"{address}/invocations", json=content, timeout=120)
        except requests.ConnectionError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail("the server of the model does not answer")
            time.sleep(0.3)
            continue
        assert answer.ok, answer.text
        return answer.json()
