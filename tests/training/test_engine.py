"""The training engine against the textbook loop, and the distribution of its draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torchvision.transforms import functional as pil

from benchmarks import textbook
from nets.registry import create_net
from tests.training.short import MEAN, RECIPE, STD
from training.augmentation import POLICIES
from training.augmentation import augment as augment_batch
from training.batches import PADDING, TrainingSet, crop, draw_epoch
from training.engine import DivergedError, train_epochs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 10, 50).astype(np.uint8)


def small_net(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create_net("resnet14", pushpull="first")


def run(net, images, labels, resident=None, state=None, graph=None, **changes):
    data = TrainingSet.place(images, labels, MEAN, STD, CPU, resident)
    return list(train_epochs(net, data, images, labels, replace(RECIPE, **changes), state=state, graph=graph))


class SameBatches:
    """The batches of the engine's epochs, made of one PIL image at a time by torchvision."""

    def __init__(self, images, labels, dtype):
        self.images, self.labels, self.dtype, self.epoch = images, labels, dtype, 0

    def __iter__(self):
        self.epoch += 1
        draws = draw_epoch(len(self.images), RECIPE.seed, self.epoch, True, CPU)
        for batch in draws.order.split(16):
            inputs = [self.image(i, draws) for i in batch.tolist()]
            yield torch.stack(inputs).to(self.dtype), torch.from_numpy(self.labels.astype(np.int64))[batch]

    def image(self, i, draws):
        picture = pil.pad(pil.to_pil_image(self.images[i]), PADDING, padding_mode="reflect")
        picture = pil.crop(picture, *draws.corners[i].tolist(), *self.images.shape[1:3])
        picture = pil.hflip(picture) if draws.mirrored[i] else picture
        return pil.normalize(pil.to_tensor(picture), MEAN, STD)


@pytest.fixture(params=[torch.float64, torch.float32], ids=str)
def dtype(request):
    """PyTorch's default type while the test runs."""
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def test_twenty_steps_equal_those_of_the_textbook_loop(images, labels, dtype):
    """PIL images, PyTorch's own optimizer, loader and schedule, fed the same batches: the same losses and weights.

    Rounding grows from step to step. In float64 it stays invisible; float32 is looked at with shorter steps.
    """
    exact = dtype == torch.float64
    shared = {"epochs": 5, "lr": RECIPE.lr if exact else 1e-3}
    fast, plain = small_net(), small_net()
    rows = [row for row, _ in run(fast, images, labels, **shared)]
    losses = list(
        textbook.train(
            plain,
            SameBatches(images, labels, dtype),
            momentum=RECIPE.momentum,
            weight_decay=RECIPE.weight_decay,
            milestones=list(RECIPE.milestones),
            **shared,
        )
    )
    np.testing.assert_allclose([row["train_loss"] for row in rows], losses, rtol=1e-6 if exact else 1e-4)
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 if exact else 1e-3)


def test_draws_have_the_right_distribution():
    """Every image its own, uniform over the 81 corners and the two sides, and independent of each other."""
    draws = draw_epoch(40_000, 0, 1, True, CPU)
    assert torch.equal(draws.order.sort().values, torch.arange(40_000))
    cells = (draws.corners[:, 0] * 9 + draws.corners[:, 1]) * 2 + draws.mirrored
    assert chisquare(torch.bincount(cells, minlength=162)).pvalue > 1e-3
    followers = cells[:-1] % 2 * 2 + cells[1:] % 2
    assert chisquare(torch.bincount(followers, minlength=4)).pvalue > 1e-3
    assert not draw_epoch(1000, 0, 1, False, CPU).mirrored.any()
    assert not torch.equal(draws.order, draw_epoch(40_000, 0, 2, True, CPU).order)
    assert not torch.equal(draws.order, draw_epoch(40_000, 1, 1, True, CPU).order)


def test_crops_are_those_of_padded_images(images):
    draws = draw_epoch(len(images), 0, 1, True, CPU)
    cut = crop(torch.from_numpy(images), draws.order, draws.corners, draws.mirrored).numpy()
    padded = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="reflect")
    for got, i, (y, x), mirrored in zip(cut, draws.order, draws.corners, draws.mirrored, strict=True):
        expected = padded[i, y : y + 16, x : x + 16]
        np.testing.assert_array_equal(got, expected[:, ::-1] if mirrored else expected)


@pytest.mark.parametrize("augment", ["none", "augmix"])
def test_images_left_on_disk_train_to_the_same_bits(images, labels, tmp_path, augment):
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    nets = [small_net(), small_net()]
    (*_, (row, _)), (*_, (other, _)) = (
        run(net, mapped, labels, resident=resident, augment=augment)
        for net, resident in zip(nets, (True, False), strict=True)
    )
    assert row == other
    for name, value in nets[0].state_dict().items():
        assert torch.equal(value, nets[1].state_dict()[name]), name


@pytest.mark.parametrize("augment", POLICIES)
def test_crops_are_augmented_by_the_draws_of_seed_epoch_and_image(images, labels, augment):
    data = TrainingSet.place(images, labels, MEAN, STD, CPU)
    plain, draws, again, later, other = (
        draw_epoch(len(images), *drawn, flip=True, device=CPU, augmentation=name)
        for *drawn, name in (
            (0, 1, "none"),
            (0, 1, augment),
            (0, 1, augment),
            (0, 2, augment),
            (1, 1, augment),
        )
    )
    assert torch.equal(plain.order, draws.order) and torch.equal(plain.corners, draws.corners)
    unmirrored = draw_epoch(len(images), 0, 1, False, CPU, augment)
    assert torch.equal(unmirrored.chains.magnitudes, draws.chains.magnitudes)

    def by_image(draws, batch_size=16, **part):
        found = torch.cat([batch for batch, _ in data.batches(draws, batch_size, **part)])
        order = torch.cat(
            [batch[part.get("rank", 0) :: part.get("ranks", 1)] for batch in draws.order.split(batch_size)]
        )
        return dict(zip(order.tolist(), found, strict=True))

    crops, augmented = by_image(plain), by_image(draws)
    in_another = by_image(again, 7, rank=1, ranks=2)  # batch, and process
    for image, expected in in_another.items():
        assert torch.equal(augmented[image], expected)
    chains = draws.chains
    for image, crop_ in crops.items():
        one = chains.each(lambda drawn, image=image: drawn[image : image + 1])
        assert torch.equal(augmented[image], augment_batch(crop_[None], one)[0])
    assert not torch.equal(later.chains.magnitudes, chains.magnitudes)
    assert not torch.equal(other.chains.magnitudes, chains.magnitudes)


@pytest.mark.parametrize(("free", "resident"), [(2, True), (1.9, False)])
def test_images_stay_on_disk_where_they_take_more_than_half_of_the_memory(
    images, labels, monkeypatch, free, resident
):
    monkeypatch.setattr("training.batches.free_memory", lambda device: free * images.nbytes)
    data = TrainingSet.place(images, labels, MEAN, STD, CPU)
    assert isinstance(data.images, torch.Tensor) == resident


def test_bf16_stays_near_fp32_and_keeps_float32_weights(images, labels):
    losses = {}
    for precision in ("fp32", "bf16"):
        net = small_net()
        losses[precision] = run(net, images, labels, epochs=1, precision=precision)[0][0]["train_loss"]
        assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_tf32_is_refused_without_a_gpu(images, labels):
    with pytest.raises(ValueError, match="tf32 needs a CUDA device, but the device is cpu"):
        run(small_net(), images, labels, precision="tf32")


def test_middle_crop_is_the_image(images, labels):
    data = TrainingSet.place(images, labels, MEAN, STD, CPU)
    chosen = torch.tensor([4, 0, 4])
    middle = torch.full((3, 2), PADDING)
    cut = crop(data.images, chosen, middle, torch.tensor([False, False, True]))
    np.testing.assert_array_equal(cut[:2].numpy(), images[[4, 0]])
    np.testing.assert_array_equal(cut[2].numpy(), images[4][:, ::-1])


def test_learning_rate_drops_after_each_milestone():
    recipe = replace(RECIPE, lr=0.1, milestones=(80, 120, 160))
    rates = [recipe.learning_rate(epoch) for epoch in (1, 80, 81, 120, 121, 160, 161, 200)]
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
        run(small_net(), images, labels, epochs=3, lr=1e30, milestones=())


@pytest.mark.parametrize(
    "changes", [{}, {"precision": "bf16"}, {"augment": "augmix"}, {"augment": "trivial"}], ids=str
)
def test_the_steps_that_a_gpu_records_give_the_bits_of_the_plain_ones(images, labels, changes):
    """Run one by one: draws, place, learning rate and sums on the device, for a net with dropout as well."""
    images = images[:, :8, :8]
    for make in (small_net, net_with_dropout):
        (*_, (row, state)), (*_, (other, recorded)) = (
            run(make(), images, labels, epochs=3, graph=graph, **changes) for graph in (False, True)
        )
        assert row == other
        for name, value in state["net"].items():
            assert torch.equal(value, recorded["net"][name]), name
        momenta = [
            [s["momentum_buffer"] for s in one["optimizer"]["state"].values()] for one in (state, recorded)
        ]
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(*momenta, strict=True))


def net_with_dropout() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Dropout(0.5), torch.nn.Flatten(), torch.nn.Linear(144, 10)
    )


def test_batches_are_counted(images, labels):
    """By normalisations with a momentum all at once; by one without, which averages by its count, one by one."""
    net = torch.nn.Sequential(
        torch.nn.BatchNorm2d(3),
        torch.nn.BatchNorm2d(3, momentum=None),
        torch.nn.Flatten(),
        torch.nn.Linear(768, 10),
    )
    data = TrainingSet.place(images, labels, MEAN, STD, CPU)
    seen = []
    watch = lambda: seen.append([part.num_batches_tracked for part in net[:2]])  # noqa: E731
    list(train_epochs(net, data, images, labels, RECIPE, on_batch=watch))
    assert [part.num_batches_tracked.item() for part in net[:2]] == [8, 8]
    assert seen[0][0] is None
    assert net[0].running_mean.abs().sum() > 0
