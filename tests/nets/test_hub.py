"""torch.hub on a clone of the repository."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from nets import list_nets

ROOT = Path(__file__).parents[2]


def test_a_clone_is_loaded_from_elsewhere(tmp_path):
    script = f"""
import torch
plain = torch.hub.load({str(ROOT)!r}, "resnet14", source="local", num_classes=5)
push_pull = torch.hub.load({str(ROOT)!r}, "resnet14_pp", source="local", alpha=0.5)
print(type(plain.conv1).__name__, plain.fc.out_features, push_pull.conv1.alpha)
"""
    # Isolated (-I): the packages are found through torch.hub alone, or not at all.
    run = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["Conv2d", "5", "0.5"]


def test_entry_points_are_the_nets_alone():
    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    hubconf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hubconf)
    entries = {name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")}
    assert entries == {name + suffix for name in list_nets() for suffix in ("", "_pp")}
    assert "272,474 parameters" in hubconf.resnet20_pp.__doc__
