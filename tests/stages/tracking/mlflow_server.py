"""An MLflow server of its own for a test, which can be stopped and started again on the same store.

The command is a fork; the process that answers is started by MLflow and has an interpreter of its own.
"""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests

from tests import forked_python


class MlflowServer:
    """`mlflow server` on a free port of 127.0.0.1 with its store in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        arguments = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1"]
        arguments += ["--artifacts-destination", str(self.folder / "artifacts"), "--port", str(self.port)]
        outside = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [forked_python.commands() / "python", "-m", "mlflow", "server", "--host", "127.0.0.1", *arguments],
                env={**outside, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 180
        while True:
            try:
                requests.get(f"{self.uri}/health", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                assert self.process.poll() is None, (self.folder / "server.log").read_text(encoding="utf-8")[
                    -3000:
                ]
                assert time.monotonic() < deadline, "the MLflow server does not answer"
                time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)  # as when its machine goes down
            self.process.wait()
            self.process = None
