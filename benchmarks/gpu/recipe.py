"""Part `recipe`: the paper's training, 200 epochs on all images, of one net and seed after the other.

By the fastest way in float32 that determinism was seen for, eager and channels first where there is no measurement: a
rule that was fixed before any was made. A net whose last epochs would not fit is not begun, or given up.
"""

from collections.abc import Iterator
from dataclasses import asdict
from time import monotonic as clock
from typing import Any

import pandas as pd
import torch

from benchmarks.gpu.nets import LAYOUTS, load_images, new_net, options, place
from benchmarks.gpu.setting import BATCH_SIZE, EPOCHS, RECIPE, Setting
from benchmarks.gpu.timing import choose_device
from stages.files.trained import Trained
from stages.files.writing import write_csv
from training.device import describe, make_deterministic
from training.engine import DivergedError, train_epochs
from training.recipe import Recipe

PAIR = ("resnet20", "resnet20-pp")
NORMALISER = "alexnet"  # of CE and rCE; its weights are too large to bring home, its errors are not
ALEXNET_LR = 0.01
DEFAULT = "fp32 nchw eager"
JUDGED = 4  # epochs after which the time of a training is known


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    device = choose_device()
    make_deterministic(device)
    way = chosen_way(setting)
    found: dict[str, Any] = {"device": describe(device), "way": way, "epochs": epochs(setting), "runs": []}
    yield found
    train, test = load_images(setting, "train"), load_images(setting, "test")
    data = place(train, device)
    trained: dict[str, Trained] = {}
    rows: list[dict] = []
    longest = 0.0
    for name, seed in order(setting):
        run: dict[str, Any] = {"net": name, "seed": seed}
        found["runs"].append(run)
        if longest > setting.left:
            run["skipped"] = f"the last training took {longest:.0f} s and {setting.left:.0f} s are left"
            yield found
            continue
        net = new_net(name, device, seed)
        start = begun = clock()
        curve = []
        try:
            for row, _ in training(setting, net, name, seed, way, data, test):
                curve.append({"net": name, "seed": seed, **row})
                if (
                    len(curve) == 1
                ):  # an epoch with recordings, algorithms to be chosen and memory to be taken
                    begun = clock()
                if len(curve) == JUDGED:
                    to_come = (clock() - begun) / (JUDGED - 1) * (epochs(setting) - JUDGED)
                    if to_come > setting.left:
                        run["given_up"] = f"would take {to_come:.0f} s more and {setting.left:.0f} s are left"
                        break
        except (DivergedError, RuntimeError) as error:
            run["failed"] = f"{type(error).__name__}: {error}"[:300]
        seconds = clock() - start
        if len(curve) < epochs(setting):
            yield found
            continue
        longest = max(longest, seconds)
        run |= {"seconds": round(seconds, 2), "test_error": curve[-1]["test_error"]}
        run["images_per_second"] = round(len(data) * len(curve) / seconds, 1)
        entry = trained.setdefault(
            name, Trained(name.removesuffix("-pp"), options(name), list(data.mean), list(data.std), {})
        )
        entry.weights[seed] = {key: value.cpu() for key, value in net.state_dict().items()}
        rows += curve
        save(setting, trained, rows)
        yield found


def epochs(setting: Setting) -> int:
    return 1 if setting.dry_run else EPOCHS


def order(setting: Setting) -> list[tuple[str, int]]:
    """Both nets by the first seed, the net that normalises, then the other seeds."""
    first, *others = setting.seeds[:1] if setting.dry_run else setting.seeds
    pairs = [(name, seed) for seed in others for name in PAIR]
    return [*((name, first) for name in PAIR), *pairs[:2], (NORMALISER, first), *pairs[2:]]


def chosen_way(setting: Setting) -> str:
    """The fastest way in fp32 whose bits are the same again and after a stop, and those of the eager way."""
    sound = {
        way for way, row in setting.found("determinism").get("ways", {}).items()
        if way.startswith("fp32 ") and {"same_seed", "stopped"} <= row.keys()
        and all(value is True for value in row.values())
    }  # fmt: skip
    speeds = {
        way: row["images_per_second"]
        for way, row in setting.found("training").get("nets", {}).get("resnet20-pp", {}).items()
        if way in sound and "images_per_second" in row
    }
    return max(speeds, key=speeds.__getitem__) if speeds else DEFAULT


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


def save(setting: Setting, trained: dict[str, Trained], rows: list[dict]) -> None:
    """Write the curves, and the weights: of the normaliser in a file that stays here."""
    columns = ["net", "seed", "epoch", "lr", "train_loss", "train_error", "test_error"]
    write_csv(setting.work / "history.csv", pd.DataFrame(rows)[columns])
    for file, nets in (("weights.pt", PAIR), ("normaliser.pt", (NORMALISER,))):
        part = setting.work / f"{file}.part"
        torch.save({name: asdict(one) for name, one in trained.items() if name in nets}, part)
        part.replace(setting.work / file)
