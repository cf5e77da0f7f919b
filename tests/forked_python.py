"""Commands in processes forked off one that has imported torch, MLflow and DVC, which takes seconds of each otherwise.

A folder for the PATH holds `python` (for `python -m MODULE ...`) and `dvc`. Each hands its arguments, folder,
environment and standard streams to a server, which forks; the fork runs the command as a process of its own, with the
modules of this repository as they are in its folder, and ends as the command does; the server imports none of them.
All processes of a test run ask one server, which ends with the last of them.
"""

import array
import atexit
import contextlib
import functools
import logging
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

from filelock import FileLock

# Packages that a stage or DVC loads; those of this repository are the clone's own.
READY = (
    "torch", "torch._dynamo", "torch.fx.experimental.optimization", "numpy", "pandas", "cv2", "PIL.Image",
    "scipy.ndimage", "sklearn.metrics", "matplotlib.pyplot", "pydantic", "jinja2", "tqdm",
    "mlflow", "mlflow.data", "mlflow.pyfunc", "mlflow.pytorch", "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.system_metrics.system_metrics_monitor", "pip",
    "dvc.cli", "dvc.cli.parser", "dvc.repo", "dvc.repo.reproduce", "dvc.repo.experiments", "dvc.stage.run",
    "dvc_data.hashfile.build", "dvc.output", "dvc.dependency", "dvc.repo.experiments.queue.celery", "celery.result",
    "networkx", "pygit2", "git", "hydra.conf", "hydra._internal.instantiate._instantiate2",
    "hydra.core.override_parser.overrides_parser", "pandas.io.formats.style", "opentelemetry.sdk.metrics",
)  # fmt: skip

CLIENT = """#!{python} -SE
import array, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = repr((sys.argv, os.getcwd(), dict(os.environ))).encode()
    streams = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
    server.sendmsg([len(request).to_bytes(8, "big")], [streams])
    server.sendall(request)
    answer = server.recv(4)
sys.exit(int.from_bytes(answer, "big") if answer else 70)
"""


@functools.cache
def commands() -> Path:
    """The folder with the commands that the server answers; the first process to ask starts it."""
    folder = Path(tempfile.gettempdir()) / f"forked-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    with lock():
        if not folder.exists():
            start(folder)
        os.open(folder / "users", os.O_WRONLY | os.O_NONBLOCK)  # stays so as long as this process lives
    return folder


def lock() -> FileLock:
    """Held by who starts the server, becomes a user of it, or ends it."""
    return FileLock(Path(tempfile.gettempdir()) / f"forked-{os.getuid()}.lock")


def start(folder: Path) -> None:
    """Start a server, which ends when no process has the file `users` open any more."""
    folder.mkdir()
    for name in ("python", "dvc"):
        (folder / name).write_text(
            CLIENT.format(python=sys.executable, address=str(folder / "socket")), encoding="utf-8"
        )
        (folder / name).chmod(0o755)
    os.mkfifo(folder / "users")
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=outside | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        process_group=0,  # Ctrl-C is for the tests
    )
    assert process.stdout.readline() == b"ready\n"


def serve(folder: Path) -> None:
    """Answer while a process has the file `users` open."""
    users = os.open(folder / "users", os.O_RDONLY | os.O_NONBLOCK)
    sys.path.pop(0)  # the folder of this file, whose folders are named as the rooms of the repository are
    for name in READY:
        with contextlib.suppress(ImportError):  # of a package that is optional
            __import__(name)
    with contextlib.suppress(ImportError, AttributeError):
        get_ready()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        listening.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, users], [], [], 1)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if users in ready and ended(users, folder):
                return
            if listening in ready:
                asked, _ = listening.accept()
                if not os.fork():
                    listening.close()
                    answer(asked)
                asked.close()


def get_ready() -> None:
    """Do once what MLflow and DVC do in every process, or at every stage."""
    import dvc.dvcfile
    from dvc.utils.serialize import _common, _yaml
    from mlflow.utils import requirements_utils
    from sqlalchemy.orm import configure_mappers

    requirements_utils._init_packages_to_modules_map()  # of all that is installed, for every model that is logged
    configure_mappers()
    # For the sake of comments, which a lock does not have, DVC reads it in pure Python before it writes it.
    dvc.dvcfile.modify_yaml = functools.partial(
        _common._modify_data, parser=_yaml.parse_yaml, dumper=_yaml._dump
    )


def ended(users: int, folder: Path) -> bool:
    """Whether no process uses the server; its folder is then gone, before another one asks."""
    with lock():
        try:
            os.read(users, 1)
        except BlockingIOError:
            return False
        shutil.rmtree(folder)
        return True


def answer(asked: socket.socket) -> None:
    """Run what a client asks for and tell it the exit status; a client that goes away takes its command with it."""
    size, control, _, _ = asked.recvmsg(8, socket.CMSG_SPACE(12))
    streams = array.array("i", control[0][2])
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += asked.recv(1 << 20)
    child = os.fork()
    if not child:
        asked.close()
        command(*streams, *eval(request))
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    ended = os.pidfd_open(child)
    if ended not in select.select([ended, asked], [], [])[0]:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):
        asked.sendall((code if code >= 0 else 128 - code).to_bytes(4, "big"))
    os._exit(0)


def command(*given) -> None:
    """Become the command: in its folder, with its environment and streams, in a group of its own."""
    *streams, arguments, folder, environment = given
    code = 1
    try:
        os.setpgid(0, 0)
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
        for stream in streams:
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.stdin, sys.stdout, sys.stderr = (
            open(place, mode, encoding="utf-8", buffering=1)  # noqa: SIM115
            for place, mode in enumerate("rww")
        )
        logging.root.handlers.clear()  # a process begins without one, and at this level
        logging.root.setLevel(logging.WARNING)
        name, *rest = arguments
        if Path(name).name == "dvc":
            from dvc.cli import main

            sys.argv = [name, *rest]
            code = main(rest)
        else:
            module = rest.index("-m") + 1  # -u may be before it
            sys.argv = rest[module:]
            sys.path.insert(0, folder)
            runpy.run_module(rest[module], run_name="__main__", alter_sys=True)
            code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):  # as an interpreter ends
            threading._shutdown()
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
    os._exit(0)  # taking down all that was imported would take seconds
