"""What tracking costs: the time it adds to a training and to a stage, written to benchmarks/results/tracking.json.

A training of ResNet-20 on random images runs with and without its run in MLflow, alternately, in this process; its
curve is logged after each epoch, as by the stage `train` where epochs are long. Opening the store and importing MLflow
are timed in new processes, beside what the stage imports anyway.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from archives import form
from benchmarks.report import machine, write_json
from nets.registry import create_net
from stages.files import datasets
from stages.files.params import load_params
from stages.files.trained import Trained
from stages.tracking import logged_model, runs, store
from stages.tracking.recording import recording
from training.batches import TrainingSet
from training.engine import train_epochs
from training.normalisation import normalisation
from training.recipe import Recipe

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "tracking.json"
ROUNDS = 3
IMAGES, EPOCHS = 2000, 4


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        repository(Path(folder))
        opening, nothing = [], []
        for _ in range(2 * ROUNDS):
            opening.append(in_new_process("import stages.train, stages.tracking.store as s; s.connect()"))
            nothing.append(in_new_process("import stages.train"))
        plain, tracked, model = [], [], []
        for _ in range(ROUNDS):
            plain.append(train(None)[0])
            seconds, logging = train(store.connect())
            tracked.append(seconds)
            model.append(logging)
    result = {
        "machine": machine(torch=torch.__version__, threads=torch.get_num_threads()),
        "images": IMAGES,
        "epochs": EPOCHS,
        "training_seconds": round(statistics.median(plain), 3),
        "training_seconds_tracked": round(statistics.median(tracked), 3),
        "ratio": round(statistics.median(t / p for t, p in zip(tracked, plain, strict=True)), 4),
        "model_logging_seconds": round(statistics.median(model), 3),
        "stage_seconds_added": round(statistics.median(opening) - statistics.median(nothing), 3),
    }
    write_json(RESULT, **result)
    print(json.dumps(result, indent=2))


def repository(folder: Path) -> None:
    """A data set of random images, parameters, and a store, as the stages find them."""
    os.environ["DVC_ROOT"] = str(folder)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run(["git", "init", "-q", folder], check=True)
    random = np.random.default_rng(0)
    splits = {
        split: (
            random.integers(0, 256, (count, 32, 32, 3), np.uint8),
            random.integers(0, 10, count).astype(np.uint8),
        )
        for split, count in (("train", IMAGES), ("test", 500))
    }
    form.save_clean(Path("datasets/digits/clean"), splits)
    store.connect()


def train(client) -> tuple[float, float]:
    """Seconds of a training from its first batch to the end of its run, and those of logging the model after it."""
    torch.manual_seed(0)
    options = {"num_classes": 10, "in_channels": 3}
    net = create_net("resnet20", **options).to(memory_format=torch.channels_last)
    images, labels = datasets.load_split("digits", "train")
    test = datasets.load_split("digits", "test")
    mean, std = normalisation("digits", images)
    data = TrainingSet.place(images, labels, mean, std, torch.device("cpu"))
    run, rows, log = None, [], lambda rows: None
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        if client is not None:
            params = load_params()
            run = runs.child_run(runs.open_experiment(params), params, "resnet20", 0, {"device": "cpu"})
            log = stack.enter_context(recording(client, run, "digits"))
        recipe = Recipe(
            epochs=EPOCHS,
            batch_size=128,
            lr=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            milestones=(3,),
            flip=False,
            seed=0,
        )
        for row, _ in train_epochs(net, data, test.images, test.labels, recipe):
            rows.append({**row, "images_per_second": 1.0})
            log(rows)
    seconds = time.monotonic() - started
    started = time.monotonic()
    if client is not None:
        trained = Trained("resnet20", options, mean, std, {0: net.state_dict()})
        logged_model.log_model(run, trained, 0, np.array(test.images[:2]))
    return seconds, time.monotonic() - started


def in_new_process(code: str) -> float:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
