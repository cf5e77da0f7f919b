"""Paths of params.yaml."""

from pathlib import Path

import click
import pytest

from stages.files.workspace import below_root, root


def test_a_path_is_below_the_repository_or_the_home_folder_or_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert below_root("sets/mine") == root() / "sets" / "mine"
    assert below_root("~/mine") == tmp_path / "mine"
    assert below_root("/mnt/mine") == Path("/mnt/mine")
    with pytest.raises(click.ClickException, match=r"^~nobody-of-this-name/mine: there is no such user"):
        below_root("~nobody-of-this-name/mine")
