"""The fine-tuning example on images made up here."""

import pickle

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from examples import finetune
from nets import create_net, export_official


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CIFAR's python batches with 64 training and 8 test images: noise about a brightness that tells the class."""
    folder = tmp_path_factory.mktemp("cifar")
    rng = np.random.default_rng(0)
    names = {f"data_batch_{n}": 13 for n in range(1, 5)} | {"data_batch_5": 12, "test_batch": 8}
    for name, count in names.items():
        labels = rng.permutation(np.arange(count) % 10)
        images = (labels[:, None] * 20 + rng.integers(0, 40, (count, 3072))).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({b"data": images, b"labels": labels.tolist()}))
    names = [f"class {n}" for n in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}))
    return folder


def rows(output: str) -> dict[str, tuple[float, float]]:
    lines = [line for line in output.splitlines() if line.startswith("conv")]
    return {line[:38].strip(): tuple(map(float, line[38:].split())) for line in lines}


def test_from_a_first_training(folder, one_thread):
    run = CliRunner().invoke(
        finetune.main, [str(folder), "--epochs", "1", "--tuning-epochs", "1", "--seed", "3"]
    )
    assert run.exit_code == 0, run.output
    table = rows(run.output)
    assert list(table) == [
        "convolution, as trained",
        "converted, not fine-tuned",
        "convolution, fine-tuned",
        "converted, fine-tuned",
    ]
    assert all(0 <= clean <= 100 and 0 <= corrupted <= 100 for clean, corrupted in table.values())


def test_from_a_checkpoint(folder, tmp_path, one_thread):
    torch.manual_seed(0)
    net = create_net("resnet20", num_classes=10)
    checkpoint = tmp_path / "checkpoint.pth.tar"
    export_official(net, checkpoint, epoch=1, best_prec1=10.0)
    run = CliRunner().invoke(
        finetune.main, [str(folder), "--checkpoint", str(checkpoint), "--tuning-epochs", "1"]
    )
    assert run.exit_code == 0, run.output
    before = rows(run.output)["convolution, as trained"][0]
    images, labels = finetune.read_cifar_batches(folder)["test"]
    mean, std = finetune.normalisation("cifar10", images)
    logits = finetune.predict(net.eval(), images, mean=mean, std=std)
    assert before == pytest.approx(100 * (logits.argmax(1) != labels).mean(), abs=0.01)


@pytest.mark.parametrize("pushpull", ["first", None])
def test_a_checkpoint_that_cannot_be_converted(folder, tmp_path, pushpull):
    checkpoint = tmp_path / "checkpoint.pth.tar"
    if pushpull is None:
        checkpoint.write_bytes(b"nothing")
    else:
        export_official(create_net("resnet20", pushpull=pushpull), checkpoint, epoch=1, best_prec1=10.0)
    run = CliRunner().invoke(finetune.main, [str(folder), "--checkpoint", str(checkpoint)])
    assert run.exit_code == 1 and "checkpoint.pth.tar" in run.output and "Traceback" not in run.output


def test_a_checkpoint_of_other_classes(folder, tmp_path):
    checkpoint = tmp_path / "checkpoint.pth.tar"
    export_official(create_net("resnet20", num_classes=4), checkpoint, epoch=1, best_prec1=10.0)
    run = CliRunner().invoke(finetune.main, [str(folder), "--checkpoint", str(checkpoint)])
    assert run.exit_code == 1 and "the net has 4 classes, the images have 10" in run.output


def test_a_folder_without_the_set(tmp_path):
    run = CliRunner().invoke(finetune.main, [str(tmp_path)])
    assert run.exit_code == 1 and "holds no CIFAR set" in run.output
