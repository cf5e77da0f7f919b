"""The training engine against the textbook loop, and the distribution of its draws."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nets import create_net
from stages.engine import (
    PADDING,
    DivergedError,
    TrainingSet,
    crop,
    draw_epoch,
    learning_rate,
    train_epochs,
)

CPU = torch.device("cpu")
MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
RECIPE = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "milestones": [1], "flip": True, "seed": 3}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 10, 50).astype(np.uint8)


def small_net(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create_net("resnet14", pushpull="first")


def run(net, images, labels, epochs=2, **changes):
    data = TrainingSet.on_device(images, labels, MEAN, STD, CPU)
    return list(
        train_epochs(net, data, images, labels, epochs=epochs, batch_size=16, **{**RECIPE, **changes})
    )


@pytest.fixture
def double():
    """Float64, in which rounding does not grow to a visible difference within a few steps."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_equals_the_textbook_loop(images, labels, double):
    """Same crops and batches, one image at a time, PyTorch's own optimizer and schedule: the same weights."""
    fast = small_net()
    rows = [row for row, _ in run(fast, images, labels)]

    plain = small_net()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1], gamma=0.1)
    losses = []
    for epoch in (1, 2):
        draws = draw_epoch(len(images), 3, epoch, True, CPU)
        total = 0.0
        for batch in draws.order.split(16):
            inputs = []
            for i in batch.tolist():
                padded = np.pad(images[i], ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="reflect")
                y, x = draws.corners[i].tolist()
                image = padded[y : y + 16, x : x + 16]
                image = image[:, ::-1] if draws.mirrored[i] else image
                inputs.append(torch.from_numpy((image / 255 - MEAN) / STD).permute(2, 0, 1))
            target = torch.from_numpy(labels.astype(np.int64))[batch]
            loss = F.cross_entropy(plain(torch.stack(inputs)), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        schedule.step()
        losses.append(total / len(images))
    np.testing.assert_allclose([row["train_loss"] for row in rows], losses, rtol=1e-6)
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_draws_have_the_right_distribution():
    draws = draw_epoch(40_000, 0, 1, True, CPU)
    assert torch.equal(draws.order.sort().values, torch.arange(40_000))
    counts = torch.bincount(draws.corners[:, 0] * 9 + draws.corners[:, 1], minlength=81)
    expected = 40_000 / 81
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 125  # 80 degrees of freedom: exceeded once in a thousand
    assert abs(draws.mirrored.float().mean() - 0.5) < 0.0125  # five standard deviations
    assert not draw_epoch(1000, 0, 1, False, CPU).mirrored.any()
    assert not torch.equal(draws.order, draw_epoch(40_000, 0, 2, True, CPU).order)
    assert not torch.equal(draws.order, draw_epoch(40_000, 1, 1, True, CPU).order)


def test_middle_crop_is_the_image(images, labels):
    data = TrainingSet.on_device(images, labels, MEAN, STD, CPU)
    chosen = torch.tensor([4, 0, 4])
    middle = torch.full((3, 2), PADDING)
    cut = crop(data.padded, chosen, middle, torch.tensor([False, False, True]))
    np.testing.assert_array_equal(cut[:2].numpy(), images[[4, 0]])
    np.testing.assert_array_equal(cut[2].numpy(), images[4][:, ::-1])


def test_learning_rate_drops_after_each_milestone():
    rates = [learning_rate(epoch, 0.1, [80, 120, 160]) for epoch in (1, 80, 81, 120, 121, 160, 161, 200)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_resumed_training_ends_with_the_same_bits(images, labels):
    whole = small_net()
    run(whole, images, labels, epochs=3)

    first = small_net()
    _, state = run(first, images, labels, epochs=1)[-1]
    state = {
        "net": {k: v.clone() for k, v in state["net"].items()},
        **{k: state[k] for k in ("optimizer", "epoch")},
    }
    resumed = small_net(seed=9)
    rows = run(resumed, images, labels, epochs=3, state=state)
    assert [row["epoch"] for row, _ in rows] == [2, 3]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_same_seed_same_weights_other_seed_others(images, labels):
    nets = [small_net(), small_net(), small_net()]
    for net, seed in zip(nets, (3, 3, 4), strict=True):
        run(net, images, labels, epochs=1, seed=seed)
    weights = [torch.cat([p.flatten() for p in net.parameters()]) for net in nets]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_divergence_names_epoch_and_learning_rate(images, labels):
    with pytest.raises(DivergedError, match=r"epoch \d at learning rate 1e\+30"):
        run(small_net(), images, labels, epochs=3, lr=1e30, milestones=[])
