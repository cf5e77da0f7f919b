"""The aggregate stage run in a folder of its own, and the tables it writes as cells."""

import shutil

import pandas as pd
import pytest
from click.testing import CliRunner

from stages import aggregate
from stages.files.writing import write_csv
from stages.files.yaml_file import read_yaml
from tests.conftest import ROOT
from tests.stages.yaml_files import without_presets, write_yaml

PUBLISHED = ROOT / "data" / "published"


def run(folder):
    """Run the stage in a folder, without MLflow; what it printed on stderr."""
    shutil.copytree(PUBLISHED, folder / "data" / "published", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(aggregate, "mirror", lambda *arguments: None)
        done = CliRunner().invoke(aggregate.main)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stderr


def write_params(folder, **sections):
    raw = without_presets(read_yaml(ROOT / "params.yaml"))
    for name, section in sections.items():
        raw[name] = section if name == "nets" else raw[name] | section
    write_yaml(folder / "params.yaml", raw)
    (folder / "data").mkdir(exist_ok=True)
    shutil.copy(ROOT / "data" / "archives.yaml", folder / "data")


def write_official(folder, corruption=(), perturbation=()):
    columns = ["net", "seed", "corruption", "severity", "error"]
    write_csv(folder / "official" / "corruption.csv", pd.DataFrame(corruption, columns=columns))
    columns = ["net", "seed", "perturbation", "protocol", "metric", "value"]
    write_csv(folder / "official" / "perturbation.csv", pd.DataFrame(perturbation, columns=columns))


def display(path):
    """Heading -> table of cells, of a Markdown file; the heading is empty before the first one of level 2."""
    parts, heading = {}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("| "):
            parts.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return {heading: pd.DataFrame(rows, columns=head) for heading, (head, *rows) in parts.items()}


def plain(cell):
    return cell.replace("*", "")
