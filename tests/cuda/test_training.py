"""Training on the device: the same bits by every way that promises them, and nothing that waits inside an epoch."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.gpu.side_by_side import side_by_side
from nets.registry import create_net
from tests.cuda.conftest import HAS_GPU, needs_gpu
from tests.training.short import MEAN, RECIPE, STD
from training.augmentation import POLICIES, augment, draw_chains
from training.batches import TrainingSet, crop, draw_epoch
from training.engine import train_epochs
from training.graph import RecordedEpochs

CPU = torch.device("cpu")
# Batches of 16 and one of 2; on a CPU nothing is recorded on one batch and repeated on others.
IMAGES = 50 if HAS_GPU else 18
POOLING = {"max_pool2d_with_indices_backward_cuda", "adaptive_max_pool2d_backward_cuda"}
NETS = {
    "resnet20": {},
    "resnet20-pp": {"pushpull": "first"},
    "resnet20-pp all": {"pushpull": "all"},
    "resnet20-pp low-pass": {"pushpull": "first", "lpf_size": 3},
    "densenet40_12-pp": {"pushpull": "first"},
    "alexnet-pp": {"pushpull": "first"},
}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 10, IMAGES).astype(np.uint8)


def new_net(device: torch.device, name: str = "resnet20-pp") -> torch.nn.Module:
    torch.manual_seed(0)
    architecture = name.split("-")[0]
    if not HAS_GPU and architecture == "resnet20":
        architecture = "resnet14"  # of the same layers, fewer of them
    return create_net(architecture, **NETS[name]).to(device)


def train(device, images, labels, name="resnet20-pp", net=None, resident=True, options=None, **changes):
    """Rows and last state of a training of new weights in batches of 16, the last one of 2.

    `options` are those of `train_epochs`, `changes` of the recipe.
    """
    net = net or new_net(device, name)
    data = TrainingSet.place(images, labels, MEAN, STD, device, resident)
    found = list(train_epochs(net, data, images, labels, replace(RECIPE, **changes), **(options or {})))
    return (
        [row for row, _ in found],
        {key: value.clone() for key, value in net.state_dict().items()},
        found[-1][1],
    )


def same_bits(ours: dict, theirs: dict) -> list[str]:
    return [name for name, value in ours.items() if not torch.equal(value, theirs[name])]


# Many a CPU computes bfloat16 several times as slowly as float32.
PRECISIONS = ["fp32", pytest.param("bf16", marks=needs_gpu), pytest.param("tf32", marks=needs_gpu)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["resnet20-pp", pytest.param("alexnet-pp", marks=needs_gpu)])
def test_recorded_steps_give_the_bits_of_plain_ones(device, images, labels, name, precision):
    """For a net with batch normalisation and for one with dropout; both have a last batch of another size."""
    if precision == "tf32" and device.type != "cuda":
        pytest.skip("tf32 is a mode of CUDA")
    plain, recorded = (
        train(device, images, labels, name=name, precision=precision, options={"graph": graph})
        for graph in (False, True)
    )
    assert plain[0] == recorded[0]
    assert not same_bits(plain[1], recorded[1])


@pytest.mark.parametrize("augment", POLICIES)
def test_recorded_steps_augment_as_plain_ones(device, images, labels, augment):
    plain, recorded = (
        train(device, images, labels, augment=augment, options={"graph": graph}) for graph in (False, True)
    )
    assert not same_bits(plain[1], recorded[1])


def test_the_same_seed_gives_the_same_bits(device, images, labels):
    first, second, other = (train(device, images, labels, seed=seed) for seed in (3, 3, 4))
    assert not same_bits(first[1], second[1])
    assert same_bits(first[1], other[1])


@pytest.mark.parametrize("graph", [False, True])
def test_a_training_taken_up_ends_with_the_same_bits(device, images, labels, graph):
    whole = train(device, images, labels, epochs=3, options={"graph": graph})
    _, weights, state = train(device, images, labels, epochs=1, options={"graph": graph})
    resumed = train(
        device, images, labels, epochs=3, options={"graph": graph, "state": {**state, "net": weights}}
    )
    assert not same_bits(whole[1], resumed[1])


def test_images_left_on_the_host_train_to_the_same_bits(device, images, labels):
    resident, streamed = (
        train(device, images, labels, resident=where, options={"graph": False}) for where in (True, False)
    )
    assert not same_bits(resident[1], streamed[1])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_trainings_side_by_side_end_with_the_bits_of_each_alone(device, images, labels, precision):
    """The rows too, in which is what the net answered in the arithmetic of evaluation."""
    if precision == "tf32" and device.type != "cuda":
        pytest.skip("tf32 is a mode of CUDA")
    keys = [(name, seed) for name in ("resnet20", "resnet20-pp") for seed in (0, 1)]
    epochs = 4 if device.type == "cuda" else 2
    nets = {key: new_net(device, key[0]) for key in keys}
    data = TrainingSet.place(images, labels, MEAN, STD, device, True)
    trainings = {
        key: train_epochs(
            net,
            data,
            images,
            labels,
            replace(RECIPE, seed=key[1], epochs=epochs, precision=precision),
            graph=True,
        )
        for key, net in nets.items()
    }
    rows = {key: [] for key in keys}
    for key, (row, _) in side_by_side(trainings, device):
        rows[key].append(row)
    for name, seed in keys:
        alone = train(
            device,
            images,
            labels,
            name=name,
            seed=seed,
            epochs=epochs,
            precision=precision,
            options={"graph": True},
        )
        assert rows[name, seed] == alone[0]
        assert not same_bits(nets[name, seed].state_dict(), alone[1])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_step_is_that_of_the_cpu(device, images, labels, layout):
    """Of one epoch of small steps, within the rounding of float32."""
    ours = train(device, images, labels, epochs=1, lr=1e-4, options={"layout": layout})
    theirs = train(CPU, images, labels, epochs=1, lr=1e-4)
    assert ours[0][0]["train_loss"] == pytest.approx(theirs[0][0]["train_loss"], rel=1e-4)
    for name, value in theirs[1].items():
        torch.testing.assert_close(ours[1][name].cpu(), value, rtol=1e-3, atol=1e-3)


def test_crops_are_those_of_the_cpu(device, images):
    draws = draw_epoch(len(images), 0, 1, True, device)
    cut = crop(torch.from_numpy(images).to(device), draws.order, draws.corners, draws.mirrored)
    draws = draw_epoch(len(images), 0, 1, True, CPU)
    assert torch.equal(cut.cpu(), crop(torch.from_numpy(images), draws.order, draws.corners, draws.mirrored))


@pytest.mark.parametrize("name", POLICIES)
def test_images_are_augmented_as_on_the_cpu(device, images, name):
    """But for places that fall between two pixels, or two levels, within the rounding of float32."""
    drawn = draw_chains(POLICIES[name], len(images), torch.Generator().manual_seed(0))
    theirs = augment(torch.from_numpy(images), drawn)
    moved = drawn.each(lambda values: values.to(device))
    ours = augment(torch.from_numpy(images).to(device), moved).cpu()
    assert (ours != theirs).float().mean() < 0.01


@pytest.mark.parametrize("gpu", [pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("name", NETS)
def test_no_operation_warns_that_it_is_not_deterministic(gpu, images, labels, name):
    """But for the gradient of max-pooling in the AlexNet, whose windows do not overlap, so that nothing is added up."""
    device = torch.device(gpu)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(device, images[:20], labels[:20], epochs=1, name=name, options={"graph": False})
    found = {
        str(one.message).split(" does not have")[0] for one in caught if "determinis" in str(one.message)
    }
    assert found <= (POOLING if name.startswith("alexnet") else set())


@pytest.mark.parametrize("gpu", [pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize(
    ("graph", "augment"), [(False, "none"), (True, "none"), (False, "augmix"), (True, "trivial")]
)
def test_an_epoch_never_waits_for_the_gpu(gpu, images, labels, graph, augment):
    done = 0

    def watch():  # between the first and the last batch of the second epoch, any wait is an error
        nonlocal done
        done += 1
        torch.cuda.set_sync_debug_mode("error" if 5 <= done < 8 else "default")

    try:
        train(torch.device(gpu), images, labels, augment=augment, options={"graph": graph, "on_batch": watch})
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert done == 8


class Reading(torch.nn.Module):
    """A net that reads a value back from the device at each step, as no recording can."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1)) * (1 if x.sum().item() else 2)


@pytest.mark.parametrize("gpu", [pytest.param("cuda", marks=needs_gpu)])
def test_a_net_that_cannot_be_recorded_trains_step_by_step(gpu, images, labels, caplog):
    device = torch.device(gpu)
    torch.manual_seed(0)
    net = Reading().to(device)
    data = TrainingSet.place(images, labels, MEAN, STD, device, True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    epoch = RecordedEpochs(net, optimizer, data, draw_epoch(len(data), 0, 1, True, device), 16, "fp32")
    assert not epoch.recorded and "not recorded" in caplog.text
    assert not same_bits(before, net.state_dict())  # the attempt leaves no trace
    train(device, images, labels, net=net)


@pytest.mark.parametrize("gpu", [pytest.param("cuda", marks=needs_gpu)])
def test_what_can_be_recorded_is(gpu, images, labels):
    device = torch.device(gpu)
    data = TrainingSet.place(images, labels, MEAN, STD, device, True)
    draws = draw_epoch(len(data), 0, 1, True, device)
    for name in NETS:
        net = new_net(device, name)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True)
        optimizer.param_groups[0]["lr"] = torch.tensor(0.1, device=device)
        assert RecordedEpochs(net, optimizer, data, draws, 16, "fp32").recorded, name
