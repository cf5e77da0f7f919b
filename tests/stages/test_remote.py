"""Data sets shared by a DVC remote: a folder, and a store that speaks S3."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stages.clones import clone, run


@pytest.fixture(scope="module")
def fetched(tmp_path_factory) -> Path:
    """A repository whose data are fetched."""
    folder = clone(tmp_path_factory.mktemp("fetched"), lambda params: None)
    run(folder, "dvc", "repro", "fetch")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "data")
    return folder


@pytest.fixture
def s3(monkeypatch) -> Iterator[str]:
    """The address of an S3 server with a bucket called `robustness`, to which the environment has the keys."""
    boto3 = pytest.importorskip("boto3", reason="the extra s3 is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("dvc_s3", reason="the extra s3 is not installed")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="robustness")
    yield f"http://{host}:{port}"
    server.stop()


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.npy")
    }


def share(fetched: Path, copy: Path, *settings: tuple[str, ...]) -> None:
    """Push from one repository; a clone of it pulls the same files, and then has nothing to run."""
    expected = contents(fetched / "datasets")
    assert len(expected) == 4
    for setting in settings:
        run(fetched, "dvc", "remote", *setting)
    run(fetched, "dvc", "push")
    run(fetched, "git", "clone", "-q", str(fetched), str(copy))
    shutil.copy(fetched / ".dvc/config", copy / ".dvc/config")  # in Git, where it is shared
    assert not (copy / "datasets").exists()
    run(copy, "dvc", "pull", "fetch")
    assert contents(copy / "datasets") == expected
    assert "Data and pipelines are up to date" in run(copy, "dvc", "repro", "fetch").stdout


def test_a_folder_as_remote(fetched, tmp_path):
    share(fetched, tmp_path / "copy", ("add", "--default", "--force", "shared", str(tmp_path / "remote")))


def test_an_s3_store_as_remote(fetched, tmp_path, s3):
    share(
        fetched,
        tmp_path / "copy",
        ("add", "--default", "--force", "shared", "s3://robustness/push-pull"),
        ("modify", "shared", "endpointurl", s3),
    )
