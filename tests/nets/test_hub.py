"""torch.hub on a clone of the repository."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from nets import list_nets

ROOT = Path(__file__).parents[2]


@pytest.fixture
def elsewhere(monkeypatch, tmp_path, forget):
    """A folder and a path on which the packages are found through torch.hub alone, or not at all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not Path(place, "nets").exists()])
    forget("nets", "pushpull")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nets")


@pytest.mark.usefixtures("elsewhere")
def test_a_clone_is_loaded_from_elsewhere():
    plain = torch.hub.load(str(ROOT), "resnet14", source="local", num_classes=5)
    push_pull = torch.hub.load(str(ROOT), "resnet14_pp", source="local", alpha=0.5)
    assert (type(plain.conv1).__name__, plain.fc.out_features, push_pull.conv1.alpha) == ("Conv2d", 5, 0.5)
    assert Path(sys.modules["nets"].__file__).is_relative_to(ROOT)


def test_entry_points_are_the_nets_alone():
    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    hubconf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hubconf)
    entries = {name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")}
    assert entries == {name + suffix for name in list_nets() for suffix in ("", "_pp")}
    assert "272,474 parameters" in hubconf.resnet20_pp.__doc__
