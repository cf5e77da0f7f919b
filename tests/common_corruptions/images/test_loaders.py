"""The transform and the data set of corrupted images, alone and in a DataLoader's workers."""

import importlib
import pickle
import re
import sys
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from common_corruptions import CORRUPTIONS, Corrupt, CorruptedDataset, corrupt
from common_corruptions.recipes import registry
from tests.conftest import ROOT

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 16, 20, 3), np.uint8)
LABELS = torch.arange(24) % 5
TENSORS = torch.from_numpy(np.moveaxis(IMAGES, -1, 1).copy())
NAMES, SEVERITIES = ("gaussian_noise", "contrast", "fog"), (1, 3, 5)
GUIDE = (ROOT / "docs" / "common_corruptions.md").read_text(encoding="utf-8")

Item = namedtuple("Item", ["image", "label"])


def arrays(images):
    return np.stack([np.asarray(image) for image in images])


class Transformed:
    """What a data set with a transform does."""

    def __init__(self, transform, images=TENSORS):
        self.transform, self.images = transform, images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index])


def loaded(dataset, workers, **options):
    return torch.cat(list(DataLoader(dataset, batch_size=4, num_workers=workers, **options)))


# The data set


@pytest.mark.parametrize("name", ["gaussian_noise", "snow", "glass_blur", "jpeg_compression"])
def test_an_item_has_the_bytes_of_the_set_made_at_once(name):
    whole = corrupt(IMAGES, name, 4, seed=9)
    dataset = CorruptedDataset(list(zip(map(Image.fromarray, IMAGES), LABELS, strict=True)), name, 4, seed=9)
    assert len(dataset) == 24
    for index in (5, 0, 23, 5):
        image, label = dataset[index]
        assert isinstance(image, Image.Image) and label == LABELS[index]
        np.testing.assert_array_equal(image, whole[index])
    np.testing.assert_array_equal(dataset[-1][0], whole[23])
    np.testing.assert_array_equal(arrays(image for image, _ in dataset), whole)  # iteration ends


@pytest.mark.parametrize(
    ("items", "key"),
    [
        (IMAGES, None),
        (TensorDataset(TENSORS / 255, LABELS), 0),
        ([Item(image, 1) for image in IMAGES], 0),
        ([[tv_tensors.Image(image), 1] for image in TENSORS], 0),
        ([{"label": 1, "img": Image.fromarray(image), "box": np.zeros((2, 4))} for image in IMAGES], "img"),
        (
            [{"pixel_values": image, "name": "a", "label": torch.tensor(1)} for image in TENSORS],
            "pixel_values",
        ),
    ],
)
def test_an_item_keeps_its_form(items, key):
    plain, item = items[3], CorruptedDataset(items, "fog")[3]
    assert type(item) is type(plain)
    image, before = (item, plain) if key is None else (item[key], plain[key])
    assert type(image) is type(before)
    if isinstance(image, torch.Tensor):
        assert image.dtype == before.dtype
        image = image.movedim(0, -1) * (255 if image.is_floating_point() else 1)
    np.testing.assert_array_equal(image, corrupt(IMAGES, "fog")[3])
    if isinstance(plain, dict):
        assert list(item) == list(plain) and all(
            item[other] is plain[other] for other in plain if other != key
        )
    elif key is not None:
        assert list(item[1:]) == list(plain[1:])


def test_workers_and_shuffling_change_no_item():
    dataset = CorruptedDataset(TensorDataset(TENSORS, torch.arange(24)), "fog", 3, seed=2)
    options = {"num_workers": 2, "multiprocessing_context": "fork"}
    expected = corrupt(TENSORS, "fog", 3, seed=2)
    seen = set()
    for images, indices in DataLoader(dataset, batch_size=5, shuffle=True, **options):
        assert torch.equal(images, expected[indices])
        seen.update(indices.tolist())
    assert seen == set(range(24))


def drawing(**options):
    return CorruptedDataset(TENSORS, names=NAMES, severities=SEVERITIES, **{"seed": 4} | options)


def test_seed_epoch_and_index_decide_what_is_drawn():
    def epoch(number, **options):
        dataset = drawing(**options)
        dataset.set_epoch(number)
        return torch.stack(list(dataset))

    first = epoch(0)
    assert torch.equal(first, epoch(0)) and torch.equal(first, torch.stack(list(drawing())))
    assert torch.equal(first[7], drawing()[7])
    for other in (epoch(1), epoch(0, seed=5)):
        assert (other != first).flatten(1).any(1).float().mean() > 0.8  # contrast draws nothing


def test_what_is_drawn_is_one_of_the_names_and_severities_with_the_noise_of_the_epoch():
    dataset = CorruptedDataset(IMAGES, names=NAMES, severities=SEVERITIES, seed=4)
    dataset.set_epoch(3)
    found = []
    for index in range(24):
        made = {
            (name, severity): corrupt(IMAGES[index], name, severity, 4, start=3 * 2**32 + index)
            for name in NAMES
            for severity in SEVERITIES
        }
        found += [choice for choice, image in made.items() if np.array_equal(image, dataset[index])]
    assert len(found) == 24 and len(set(found)) >= 7  # of 9; fewer have a probability below 0.001
    assert {severity for _, severity in found} == set(SEVERITIES) and {name for name, _ in found} == set(
        NAMES
    )


def test_workers_that_persist_see_the_epoch():
    dataset, here = drawing(), drawing()
    loader = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True)
    epochs = []
    for epoch in range(3):
        for one in (dataset, here):
            one.set_epoch(epoch)
        epochs.append(torch.cat(list(loader)))
        assert torch.equal(epochs[-1], torch.stack(list(here)))
    assert not torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[1], epochs[2])


# The transform


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_noise_belongs_to_the_image_in_any_form_batch_and_order(name):
    transform = Corrupt(name, severity=2, seed=6)
    batch = transform(TENSORS[:4])
    for index in (2, 0, 3):
        assert torch.equal(transform(TENSORS[index]), batch[index])
        picture = pickle.loads(pickle.dumps(transform))(Image.fromarray(IMAGES[index]))
        assert isinstance(picture, Image.Image)
        np.testing.assert_array_equal(picture, batch[index].movedim(0, -1))
        np.testing.assert_array_equal((transform(TENSORS[index] / 255) * 255).byte(), batch[index])


def test_images_and_seeds_have_noise_of_their_own():
    grey = np.full((32, 32, 3), 128, np.uint8)
    other = grey.copy()
    other[0, 0, 0] += 1

    def noise(image, seed=0):
        return Corrupt("gaussian_noise", severity=1, seed=seed)(image).astype(int).ravel()[1:] - 128

    for apart in (noise(other), noise(grey, seed=1)):
        assert abs(np.corrcoef(noise(grey), apart)[0, 1]) < 0.1  # five standard errors


def test_the_transform_in_workers_is_the_transform_here():
    dataset = Transformed(Corrupt("gaussian_noise", seed=3))
    expected = torch.stack([dataset[index] for index in range(24)])
    assert torch.equal(loaded(dataset, 0), expected) and torch.equal(loaded(dataset, 2), expected)


def test_draws_of_the_transform_are_torchs():
    dataset = Transformed(Corrupt(names=["gaussian_noise", "contrast"]), TENSORS[:1].expand(24, -1, -1, -1))

    def epochs(workers):
        torch.manual_seed(0)
        return [loaded(dataset, workers) for _ in range(2)]

    for workers in (0, 2):
        first, second = epochs(workers)
        assert all(map(torch.equal, (first, second), epochs(workers)))
        assert not torch.equal(first, second)
        # One image, 24 times: each of about 12 with noise differs from all others, those of contrast have 5 severities.
        assert 8 < len(torch.unique(first, dim=0)) <= 24
        assert not torch.equal(first[:4], first[4:8])  # the two workers' first batches


def test_draws_are_spread_over_names_and_severities():
    torch.manual_seed(0)
    transform = Corrupt(names=["contrast", "saturate"], severities=[1, 5])
    made = {
        (name, severity): corrupt(IMAGES[0], name, severity).tobytes()
        for name in ("contrast", "saturate")
        for severity in (1, 5)
    }
    found = [transform(IMAGES[0]).tobytes() for _ in range(200)]
    assert {*found} == {*made.values()}
    assert all(30 <= found.count(one) <= 70 for one in made.values())  # 50, three standard errors
    assert len(Corrupt(names=["fog"]).choice.severities) == 5


def test_the_images_of_a_sample_share_name_and_severity_and_not_the_noise():
    torch.manual_seed(0)
    grey = Image.new("L", (16, 16), 128)
    transform = Corrupt(names=["gaussian_noise", "brightness"], severities=[1, 5])
    noisy = 0
    for _ in range(20):
        left, right = arrays(transform(grey.copy(), grey.copy())).astype(int)
        noisy += left.std() > 0
        assert left.std() == pytest.approx(right.std(), rel=0.3) and left.mean() == pytest.approx(
            right.mean(), abs=15
        )
        assert (left.std() == 0) == np.array_equal(left, right)
    assert 2 < noisy < 18


def test_a_sample_of_torchvision():
    transform = Corrupt("contrast", 5)
    boxes = tv_tensors.BoundingBoxes([[1, 1, 5, 5]], format="XYXY", canvas_size=(16, 20))
    mask = tv_tensors.Mask(TENSORS[1, :1])
    image = tv_tensors.Image(TENSORS[0])
    expected = corrupt(TENSORS[0], "contrast", 5)
    flip = v2.RandomHorizontalFlip(1.0)
    made, target = v2.Compose([transform, flip])(image, {"boxes": boxes, "mask": mask, "more": TENSORS[2]})
    assert type(made) is tv_tensors.Image and torch.equal(made, flip(expected))
    assert torch.equal(target["boxes"], flip(boxes)) and torch.equal(target["mask"], flip(mask))
    assert torch.equal(target["more"], TENSORS[2])
    made, label = transform((TENSORS[0], torch.tensor(3)))
    assert torch.equal(made, expected) and label == 3
    item = transform(Item(IMAGES[0], np.zeros((32, 32), np.uint8)))
    assert type(item) is Item and np.array_equal(item.image, expected.movedim(0, -1)) and not item.label.any()
    views = transform([Image.fromarray(IMAGES[0]), Image.fromarray(IMAGES[0]), "name"])
    assert np.array_equal(views[0], views[1]) and np.array_equal(views[0], item.image) and views[2] == "name"


def test_a_corruption_of_your_own_goes_with_it_into_a_process(tmp_path, monkeypatch):
    """Imported here alone, of which a spawned worker knows nothing; one of the 19 beside it is the same there too."""
    (tmp_path / "its_inverse.py").write_text(
        "from common_corruptions import corruption\n\n\n"
        "@corruption('inverse', group='digital', constants=((),) * 5)\n"
        "def inverse(images, draws):\n    return 255 - images\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("its_inverse")
    data = ConcatDataset([CorruptedDataset(TENSORS, "inverse"), CorruptedDataset(TENSORS, "fog", 3, seed=2)])
    expected = torch.cat([255 - TENSORS, corrupt(TENSORS, "fog", 3, seed=2)])
    found = loaded(data, 1, multiprocessing_context="spawn")
    assert torch.equal(found, expected)


# Refusals, and the guide


@pytest.mark.parametrize("make", [Corrupt, lambda *given, **more: CorruptedDataset(IMAGES, *given, **more)])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, TypeError, "give a name, or names"),
        ({"name": "fog", "names": ["fog"]}, TypeError, "not both"),
        ({"name": "fog", "severities": [1]}, TypeError, "use severity with a name"),
        ({"names": ["fog"], "severity": 1}, TypeError, r"severities=\[\.\.\.\] with names"),
        ({"names": "fog"}, TypeError, "a list of names, not 'fog'"),
        ({"names": []}, ValueError, "each have at least one"),
        ({"names": ["fog"], "severities": []}, ValueError, "each have at least one"),
        ({"names": ["fog", "frog"]}, ValueError, "unknown corruption 'frog'; did you mean"),
        ({"name": "fog", "severity": 6}, ValueError, "from 1 to 5, not 6"),
        ({"names": ["fog"], "severities": [1, 0]}, ValueError, "from 1 to 5, not 0"),
        ({"name": "fog", "seed": None}, TypeError, "seed must be an integer"),
    ],
)
def test_one_clear_error_at_construction(make, given, error, message):
    with pytest.raises(error, match=message):
        make(**given)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        (
            {"label": 1},
            ValueError,
            "item 0 of the data set must be an image, .*: one of label must be .* are none",
        ),
        ({"a": IMAGES[0], "b": IMAGES[1]}, ValueError, "item 0 .* there are several: a, b"),
        ((1, IMAGES[0]), TypeError, "a tuple or list that begins with one, .*: .* not int"),
        ((), TypeError, "item 0 .* not tuple"),
        (IMAGES, ValueError, "item 0 .* one image in it, not 24"),
        (TENSORS[0] / 127, ValueError, "item 0 .* before they are normalised"),
    ],
)
def test_an_item_without_one_image(item, error, message):
    with pytest.raises(error, match=message):
        CorruptedDataset([item], "fog")[0]


@pytest.mark.parametrize("mode", ["L", "P", "1", "I", "F", "I;16"])
def test_a_mask_as_a_pil_image_beside_one_in_colour_is_refused(mode):
    mask = Image.fromarray((np.arange(16 * 20).reshape(16, 20) % 8).astype(np.uint8))
    mask = mask.convert("I").convert(mode) if mode == "I;16" else mask.convert(mode)
    picture, transform = Image.fromarray(IMAGES[0]), Corrupt("gaussian_noise")
    for sample in ((picture, mask), {"image": picture, "more": [mask]}, (tv_tensors.Image(TENSORS[0]), mask)):
        with pytest.raises(
            ValueError, match=rf"of mode {mode} beside.* torchvision\.tv_tensors\.Mask\(picture\)"
        ):
            transform(sample)


def test_a_mask_that_is_wrapped_passes_unchanged():
    mask = tv_tensors.Mask(Image.fromarray(np.where(IMAGES[1, ..., 0] > 99, 7, 0).astype(np.uint8)))
    picture, transform = Image.fromarray(IMAGES[0]), Corrupt("gaussian_noise")
    made, same = transform((picture, mask))
    assert type(same) is tv_tensors.Mask and same.unique().tolist() == [0, 7] and torch.equal(same, mask)
    assert np.array_equal(made, transform(picture)) and not np.array_equal(made, picture)
    grey = Image.fromarray(IMAGES[1, ..., 0])
    assert np.array_equal(transform((grey, mask))[0], transform(grey))


def test_items_of_both_scales_need_one_that_is_named():
    items = [Image.new("RGB", (side, side), "orange") for side in (60, 64, 65)]
    mixed = CorruptedDataset(items, "fog")
    mixed[0], mixed[1]
    with pytest.raises(ValueError, match="some images are larger than 64 pixels"):
        mixed[2]
    named = CorruptedDataset(items, "fog", scale="imagenet")
    for index, item in enumerate(items):
        expected = corrupt(item, "fog", start=index, scale="imagenet")
        np.testing.assert_array_equal(named[index], expected)


def test_what_has_no_items_by_index_and_an_item_that_is_not_there():
    with pytest.raises(TypeError, match="generator needs a length"):
        CorruptedDataset((image for image in IMAGES), "fog")
    with pytest.raises(TypeError, match="behind the DataLoader: its attribute `dataset`"):
        CorruptedDataset(DataLoader(IMAGES), "fog")
    for index in (24, -25):
        with pytest.raises(IndexError, match=f"no item {index} among 24"):
            CorruptedDataset(IMAGES, "fog")[index]
    with pytest.raises(ValueError, match="epoch must be at least 0, not -1"):
        drawing().set_epoch(-1)


@pytest.mark.parametrize(
    ("sample", "kinds"), [(("cat", 3), "str, int"), ((), "nothing"), ({"a": None}, "NoneType")]
)
def test_a_sample_without_an_image(sample, kinds):
    with pytest.raises(TypeError, match=f"no image to corrupt: .* among {kinds}"):
        Corrupt("fog")(sample)


def test_it_says_what_it_does():
    assert repr(Corrupt("fog", 2, 1)) == "Corrupt('fog', severity=2, seed=1)"
    assert repr(Corrupt(names=["fog"], severities=(1,))) == "Corrupt(names=['fog'], severities=[1], seed=0)"


@pytest.fixture
def anew(monkeypatch, forget):
    """The package as it is imported where torchvision cannot be."""
    forget("common_corruptions", "torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    return importlib.import_module("common_corruptions")


def test_it_needs_no_torchvision(anew):
    assert anew.Corrupt is not Corrupt
    x = np.zeros((16, 16, 3), np.uint8)
    picture, label = anew.Corrupt("fog")((x, 1))
    assert label == 1 and np.array_equal(picture, Corrupt("fog")(x))
    assert anew.Corrupt("fog")(torch.zeros(3, 16, 16)).shape == (3, 16, 16)
    assert len(anew.CorruptedDataset([x], names=["fog"])) == 1


def test_the_examples_of_the_documentation():
    """With the names alone that their reader has."""
    own, transform = (
        re.search(rf"^## {title}\n.*?```python\n(.*?)```", GUIDE, re.DOTALL | re.MULTILINE)[1]
        for title in ("Your own data set", "A transform")
    )
    dataset = [(Image.fromarray(image), 1) for image in IMAGES]
    names = {"images": IMAGES, "dataset": dataset}
    exec(f"{own}\n{transform}", names)
    expected = corrupt(IMAGES, "fog", 3)
    np.testing.assert_array_equal(names["foggy_images"], expected)
    np.testing.assert_array_equal(arrays(image for image, _ in names["foggy"]), expected)
    seen, drawn = names["evaluation"](dataset[0][0]), names["training"](dataset[0][0])
    np.testing.assert_allclose(seen, Corrupt("fog")(TENSORS[0]) / 255, rtol=1e-6)  # v2 multiplies by 1 / 255
    assert drawn.dtype == torch.float32 and drawn.shape == (3, 16, 20)
