"""The comparison with the textbook loop, taken up on another machine."""

import json

import numpy as np
from click.testing import CliRunner

from benchmarks import equivalence


def epochs_of(splits, epochs, seed):
    return [(1.0, 50.0 + seed)] * epochs


def test_a_row_keeps_the_machine_it_was_measured_on(tmp_path, monkeypatch):
    images, labels = np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.uint8)
    splits = {"train": (images, labels), "test": (images, labels)}
    monkeypatch.setattr(equivalence, "read_cifar_batches", lambda folder: splits)
    monkeypatch.setattr(equivalence, "WAYS", {"fast": epochs_of, "textbook": epochs_of})
    for cpu, seeds in (("one", 1), ("another", 2)):
        monkeypatch.setattr(equivalence, "machine", lambda cpu=cpu, **more: {"cpu": cpu})
        arguments = [
            str(tmp_path),
            "--epochs",
            "1",
            "--seeds",
            str(seeds),
            "--output",
            str(tmp_path / "r.json"),
        ]
        done = CliRunner().invoke(equivalence.main, arguments)
        assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [(row["seed"], row["machine"]["cpu"]) for row in result["runs"]] == [
        (0, "one"), (0, "one"), (1, "another"), (1, "another")
    ]  # fmt: skip
    assert "machine" not in result
