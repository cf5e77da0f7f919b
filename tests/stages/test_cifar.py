"""The whole pipeline, from `fetch` to the tables, on CIFAR-10 and CIFAR-100 placed by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from archives.sources import from_folder
from common_corruptions import CORRUPTIONS
from tests.archives.miniatures import cifar, corruptions
from tests.stages.clones import clone, run
from tests.stages.yaml_files import write_yaml

pytestmark = pytest.mark.slow

CHOICE = {"corruptions": ["fog", "contrast"], "perturbations": ["tilt"], "perturbed_images": 5}


def with_nets(params: dict, nets: dict, **data: object) -> None:
    params["data"] |= CHOICE | data
    params["train"] |= {"epochs": 1, "milestones": [], "seeds": [0], "batch_size": 64}
    params["nets"] = nets


def errors(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "corruption.csv")
    assert set(table.corruption) == {"clean", "fog", "contrast"} and table.error.between(0, 100).all()
    return table


def test_a_subset_of_cifar10_placed_by_hand(shared, tmp_path, empty_store):
    """Accepted through data.path with a word in the log; its corruptions are generated, and the tables say so."""

    def change(params):
        nets = {"lenet": {"block": "conv", "arch": "lenet_b", "family": "lenet"}}
        with_nets(params, nets, name="cifar10", path=str(shared / "data/cifar10-subset"))

    folder = clone(tmp_path, change, empty_store)
    done = run(folder, "dvc", "repro", "aggregate")
    assert "not the published files (md5 differs)" in done.stderr
    clean = folder / "datasets/cifar10/clean"
    assert np.load(clean / "train_images.npy").shape == (5 * 1017, 32, 32, 3)
    assert np.load(folder / "datasets/cifar10/c/fog.npy").shape == (5 * 509, 32, 32, 3)
    table = errors(folder / "metrics/cifar10")
    start = table[(table.corruption == "clean") & (table.net == "lenet")].error.item()
    assert start < 85  # learnt something in 80 steps: 90 by chance
    text = (folder / "metrics/cifar10/tables.md").read_text(encoding="utf-8")
    assert (
        "CIFAR-10, the first 509 test images" in text
        and "generated" in text
        and "the paper's AlexNet" in text
    )


def test_the_authors_nets_alone(shared, tmp_path, empty_store):
    """`make authors`: nothing is trained, and what was published stands beside what is measured."""
    images, checkpoints = tmp_path / "images", tmp_path / "checkpoints"
    images.mkdir()
    for split, (pixels, labels) in from_folder(shared / "data/cifar10-subset").items():
        np.save(images / f"{split}_images.npy", pixels[:40])
        np.save(images / f"{split}_labels.npy", labels[:40])
    for net in ("resnet-20", "resnet-20-pp"):
        shutil.copytree(shared / "reference/official" / net, checkpoints / net)
    (tmp_path / "repository").mkdir()
    folder = clone(
        tmp_path / "repository",
        lambda params: params["authors"]["data"].update(CHOICE),
        empty_store,
        presets=["authors"],
    )
    show = ["make", "--no-print-directory", "-n", "authors"]
    made = run(folder, *show, f"CHECKPOINTS={checkpoints}", f"DATA={images}").stdout
    command = made[made.index("dvc exp run") :].replace("\\\n", " ")
    ran = run(folder, "bash", "-c", command).stdout
    assert "Running stage 'official'" in ran and "Running stage 'train" not in ran
    metrics = folder / "metrics/cifar10-authors"
    assert set(errors(metrics).net) == {"resnet-20 (authors' weights)", "resnet-20-pp (authors' weights)"}
    table = pd.read_csv(metrics / "tables/agreement.csv").set_index(["net", "measure", "condition"])
    row = table.loc["resnet-20-pp (authors' weights) - resnet-20 (authors' weights)", "error", "contrast"]
    assert row.published == pytest.approx(30.50 - 29.59, abs=0.01)  # paper, table 2
    assert row.low_images <= row.measured <= row.high_images and row.images == 40
    for name in ("tables.md", "report.html"):
        assert "CIFAR-10, the first 40 test images" in (metrics / name).read_text(encoding="utf-8")
    assert (metrics / "figures/differences.png").stat().st_size > 10_000
    assert "up to date" in run(folder, "dvc", "repro").stdout
    none = run(folder, *show, f"CHECKPOINTS={images}").stdout
    done = run(folder, "bash", "-c", none[none.index("dvc exp run") :].replace("\\\n", " "), check=False)
    assert done.returncode and f"no <net>/checkpoint.pth.tar below {images}" in done.stdout + done.stderr


def test_cifar100_with_its_published_corruptions(tmp_path, empty_store):
    """100 classes by the fine labels; C is the published one, P generated, since none is published."""
    entry, content, arrays = cifar(100, 160)
    labels = arrays["test_labels"]
    assert max(arrays["train_labels"].max(), labels.max()) == 99
    c_entry, c_content, c_arrays = corruptions(160, CORRUPTIONS, labels=labels, set_name="CIFAR-100")
    placed = tmp_path / "archives"
    placed.mkdir()
    (placed / entry.name).write_bytes(content)
    (placed / c_entry.name).write_bytes(c_content)

    def change(params):
        nets = {"lenet-pp": {"block": "pushpull", "arch": "lenet_b", "family": "lenet"}}
        with_nets(params, nets, name="cifar100", archives=str(placed), corrupted="download")

    (tmp_path / "repository").mkdir()
    folder = clone(tmp_path / "repository", change, empty_store)
    entries = {}
    for one in (entry, c_entry):
        fields = one.model_dump(mode="json", exclude={"name"})
        fields["members"] = {
            n: {k: v for k, v in m.items() if k != "name"} for n, m in fields["members"].items()
        }
        entries[one.name] = fields
    write_yaml(folder / "data/archives.yaml", entries)
    run(folder, "dvc", "repro", "aggregate")

    sets = folder / "datasets/cifar100"
    np.testing.assert_array_equal(np.load(sets / "clean/test_labels.npy"), labels)
    np.testing.assert_array_equal(np.load(sets / "c/fog.npy"), c_arrays["fog"])
    assert np.load(sets / "p/tilt.npy").shape == (5, 31, 32, 32, 3)
    trained = torch.load(folder / "models/lenet-pp.pt", weights_only=True)
    assert trained["options"]["num_classes"] == 100
    assert 100 in {len(weight) for weight in trained["weights"][0].values() if weight.ndim}
    metrics = folder / "metrics/cifar100"
    assert set(errors(metrics).net) == {"lenet-pp"}
    flips = pd.read_csv(metrics / "perturbation.csv")
    top5 = flips[flips.metric == "top5_distance"]
    assert set(top5.net) == {"lenet-pp"} and (top5.value >= 0).all()
    (summary,) = json.loads((metrics / "summary.json").read_text(encoding="utf-8")).values()
    assert "E_corr" in summary and "mCE" not in summary
    text = (metrics / "tables.md").read_text(encoding="utf-8")
    assert "cifar100" in text and "C published, P generated from the test images" in text
    assert "there is no AlexNet among the nets" in text  # and the paper's is one of CIFAR-10
