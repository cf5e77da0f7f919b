"""Fixtures of the tables' tests."""

import pytest

from stages.files.params import load_params
from stages.files.yaml_file import read_yaml
from tests.conftest import ROOT
from tests.stages.yaml_files import write_yaml


@pytest.fixture
def load(tmp_path):
    """Params of params.yaml with changed sections, or with an empty one for None."""

    def write(**sections):
        raw = read_yaml(ROOT / "params.yaml")
        for name, section in sections.items():
            raw[name] = raw.get(name, {}) | section if section else {}
        write_yaml(tmp_path / "params.yaml", raw)
        return load_params(tmp_path / "params.yaml")

    return write
