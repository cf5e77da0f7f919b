"""What several calls sent back, each of other seeds, in one folder of the form that one call sends."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

TABLES = ("history.csv", "corruption.csv", "perturbation.csv")  # of every call that trained and measured nets
SAME = ("way", "epochs")  # of the trainings; the card may be another


def join(folders: Sequence[Path], target: Path) -> None:
    """Write the files of all calls to the folder `target`; what was measured besides trainings is that of the last.

    Raises:
        ValueError: trainings that are not alike, a net of one seed in two calls, test images that are not the same.
    """
    target.mkdir(parents=True)
    for name in TABLES:
        tables = [pd.read_csv(folder / name) for folder in folders]
        check_seeds(folders, tables)
        pd.concat(tables).to_csv(target / name, index=False)
    results = [json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in folders]
    (target / "results.json").write_text(json.dumps(joined(folders, results)), encoding="utf-8")
    if paths := [folder / "weights.pt" for folder in folders if (folder / "weights.pt").exists()]:
        nets: dict[str, dict[str, Any]] = {}
        for path in paths:
            for net, fields in torch.load(path, map_location="cpu", weights_only=True).items():
                nets.setdefault(net, fields)["weights"].update(fields["weights"])
        torch.save(nets, target / "weights.pt")
    if paths := [folder / "answers.npz" for folder in folders if (folder / "answers.npz").exists()]:
        arrays: dict[str, np.ndarray] = {}
        for path in paths:
            with np.load(path) as file:
                for key in file.files:
                    if key in arrays and not np.array_equal(arrays[key], file[key]):
                        raise ValueError(f"{path}: {key} is not that of the call before: other test images")
                    arrays[key] = file[key]
        np.savez_compressed(target / "answers.npz", allow_pickle=False, **arrays)


def check_seeds(folders: Sequence[Path], tables: Sequence[pd.DataFrame]) -> None:
    seen: dict[tuple[str, int], Path] = {}
    for folder, table in zip(folders, tables, strict=True):
        for net, seed in table[["net", "seed"]].drop_duplicates().itertuples(index=False):
            if (net, seed) in seen:
                raise ValueError(
                    f"{net} of seed {seed} is in {seen[net, seed]} and in {folder}; give one of them"
                )
            seen[net, seed] = folder


def joined(folders: Sequence[Path], results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The results of the last call, with the trainings and measured nets of all."""
    recipes = [one["parts"]["recipe"] for one in results]
    for key in SAME:
        if len(values := {str(recipe.get(key)) for recipe in recipes}) > 1:
            raise ValueError(
                f"the trainings of {', '.join(map(str, folders))} differ: {key} {', '.join(sorted(values))}"
            )
    parts = results[-1]["parts"]
    runs = [{"device": recipe["device"]} | run for recipe in recipes for run in recipe["runs"]]
    device = " and ".join(dict.fromkeys(recipe["device"] for recipe in recipes))
    nets = {
        name: row
        for one in results
        for name, row in one["parts"].get("evaluation", {}).get("nets", {}).items()
    }
    parts |= {"recipe": parts["recipe"] | {"runs": runs, "device": device}}
    if nets:
        parts |= {"evaluation": parts.get("evaluation", {"status": "done"}) | {"nets": nets}}
    return results[-1] | {"parts": parts}
