"""Part `recipe`: the paper's training, 200 epochs on all images: all nets and seeds side by side, then the AlexNet.

By rules that were fixed before anything was measured. The way is the one that is named, as that of the calls whose
nets these are to stand beside. Otherwise the precision is the most exact one in which all fit the time: fp32, then
tf32, then bf16; and the way the fastest one in it for ResNet-20-PP that determinism was seen for. Without measurements
it is fp32, eager and channels first. If the time is short all the same, the last seed is given up.
"""

from collections.abc import Iterator
from dataclasses import asdict
from time import monotonic as clock
from typing import Any

import pandas as pd
import torch

from benchmarks.gpu.nets import LAYOUTS, Split, load_images, new_net, options, place
from benchmarks.gpu.setting import BATCH_SIZE, EPOCHS, NORMALISER_FILE, RECIPE, Setting
from benchmarks.gpu.side_by_side import side_by_side
from benchmarks.gpu.timing import choose_device
from stages.files.trained import Trained
from stages.files.writing import write_csv
from training.batches import TrainingSet
from training.device import describe, make_deterministic
from training.engine import train_epochs
from training.recipe import Recipe

NORMALISER = "alexnet"  # of CE and rCE; its weights are too large to bring home, its errors are not
ALEXNET_LR = 0.01
DEFAULT = "fp32 nchw eager"
PRECISIONS = ("fp32", "tf32", "bf16")
SHARE = 0.6  # of the time that the pairs may take by what was measured: then come an AlexNet, recordings and tests
JUDGED = 4  # epochs after which the time of a training is known


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    device = choose_device()
    make_deterministic(device)
    train, test = load_images(setting, "train"), load_images(setting, "test")
    data = place(train, device)
    seeds = setting.seeds[:1] if setting.dry_run else setting.seeds
    pairs = [(name, seed) for seed in seeds for name in setting.nets if name != NORMALISER]
    last = [(NORMALISER, seeds[0])] if NORMALISER in setting.nets else []
    way = setting.way or chosen_way(setting, len(pairs) or 1, len(data) * epochs(setting))
    found: dict[str, Any] = {"device": describe(device), "way": way, "epochs": epochs(setting), "runs": []}
    yield found
    trained: dict[str, Trained] = {}
    rows: list[dict] = []
    # Steps that are launched one by one set the arithmetic of all threads; a recorded one has its own.
    groups = [pairs] if way.endswith(" graph") else [[key] for key in pairs]
    for together in filter(None, (*groups, last)):
        before = found["runs"]
        for runs in train_together(setting, together, way, data, test, trained, rows):
            found["runs"] = before + runs
            yield found


def train_together(
    setting: Setting,
    keys: list[tuple[str, int]],
    way: str,
    data: TrainingSet,
    test: Split,
    trained: dict[str, Trained],
    rows: list[dict],
) -> Iterator[list[dict[str, Any]]]:
    """Train the nets of these names and seeds side by side, and save what ends; yield what is known of each."""
    nets = {key: new_net(key[0], data.device, key[1]) for key in keys}
    runs: dict[tuple[str, int], dict[str, Any]] = {key: {"net": key[0], "seed": key[1]} for key in keys}
    trainings = {key: spared(training(setting, net, *key, way, data, test)) for key, net in nets.items()}
    curves: dict[tuple[str, int], list[dict]] = {key: [] for key in keys}
    going = dict.fromkeys(keys)
    start = clock()
    # When all had ended their first epoch, with its recordings, and each one after it.
    marks: list[float] = []
    for key, epoch in side_by_side(trainings, data.device, going.__contains__):
        if key not in going:
            continue
        if isinstance(epoch, RuntimeError):
            del going[key]
            runs[key]["failed"] = f"{type(epoch).__name__}: {epoch}"[:300]
            yield list(runs.values())
            continue
        row, _ = epoch
        curves[key].append({"net": key[0], "seed": key[1], **row})
        if len(curves[key]) == epochs(setting):
            del going[key]
            seconds = clock() - start
            runs[key] |= {"seconds": round(seconds, 2), "together": len(keys)}
            runs[key] |= {"images_per_second": round(len(data) * epochs(setting) / seconds, 1)}
            runs[key] |= {"test_error": row["test_error"]}
            keep(nets[key], key, data, trained)
            rows += curves[key]
            save(setting, trained, rows)
            yield list(runs.values())
        elif min(len(curves[other]) for other in going) > len(marks):
            marks.append(clock())
            if len(marks) % JUDGED == 0:
                to_come = (marks[-1] - marks[-JUDGED]) / (JUDGED - 1) * (epochs(setting) - len(marks))
                if to_come > setting.left:
                    last = max(seed for _, seed in going)
                    for one in [one for one in going if one[1] == last]:
                        del going[one]
                        left = f"{to_come:.0f} s more for all and {setting.left:.0f} s are left"
                        runs[one]["given_up"] = f"would take {left}"
                    yield list(runs.values())
    yield list(runs.values())


def spared(epochs: Iterator[Any]) -> Iterator[Any]:
    """The epochs of a training; one that fails, as where its loss is not finite, ends in its error alone."""
    try:
        yield from epochs
    except RuntimeError as error:
        yield error


def epochs(setting: Setting) -> int:
    return 1 if setting.dry_run else EPOCHS


def chosen_way(setting: Setting, nets: int, images: int) -> str:
    """The way by the rules above, where so many nets are to be trained on so many images each."""
    sound = {
        way for way, row in setting.found("determinism").get("ways", {}).items()
        if {"same_seed", "stopped"} <= row.keys() and all(value is True for value in row.values())
    }  # fmt: skip
    measured = setting.found("training")
    speeds = {
        way: row["images_per_second"]
        for way, row in measured.get("nets", {}).get("resnet20-pp", {}).items()
        if way in sound and "images_per_second" in row
    }
    together = {
        row["way"]: row["images_per_second"]
        for row in measured.get("together", [])
        if row["way"] in sound and "images_per_second" in row and row["trainings"] <= nets
    }  # of as many nets, or of the next smaller number that was measured
    best = [
        max(own, key=own.__getitem__)
        for precision in PRECISIONS
        if (own := {way: speed for way, speed in speeds.items() if way.startswith(f"{precision} ")})
    ]
    if not best:
        return DEFAULT
    fits = (way for way in best if nets * images / together.get(way, speeds[way]) < SHARE * setting.left)
    return next(fits, max(best, key=lambda way: together.get(way, speeds[way])))


def training(setting: Setting, net: torch.nn.Module, name: str, seed: int, way: str, data, test):
    """The epochs of one training by the chosen way."""
    precision, layout, kind = way.split()
    recipe = Recipe(
        epochs=epochs(setting),
        batch_size=BATCH_SIZE,
        lr=ALEXNET_LR if name == NORMALISER else RECIPE["lr"],
        momentum=RECIPE["momentum"],
        weight_decay=RECIPE["weight_decay"],
        milestones=tuple(RECIPE["milestones"]),
        flip=True,
        seed=seed,
        precision=precision,
    )
    return train_epochs(
        net, data, test.images, test.labels, recipe, layout=LAYOUTS[layout], graph=kind == "graph"
    )


def keep(net: torch.nn.Module, key: tuple[str, int], data: TrainingSet, trained: dict[str, Trained]) -> None:
    """Put the weights of a net that is trained to those of its other seeds."""
    name, seed = key
    entry = trained.setdefault(
        name, Trained(name.removesuffix("-pp"), options(name), list(data.mean), list(data.std), {})
    )
    entry.weights[seed] = {part: value.cpu() for part, value in net.state_dict().items()}


def save(setting: Setting, trained: dict[str, Trained], rows: list[dict]) -> None:
    """Write the curves, and the weights: of the normaliser in a file that stays here."""
    columns = ["net", "seed", "epoch", "lr", "train_loss", "train_error", "test_error"]
    write_csv(setting.work / "history.csv", pd.DataFrame(rows)[columns])
    for file, large in (("weights.pt", False), (NORMALISER_FILE, True)):
        part = setting.work / f"{file}.part"
        torch.save(
            {name: asdict(one) for name, one in trained.items() if (name == NORMALISER) == large}, part
        )
        part.replace(setting.work / file)
