"""Folders of image files: ImageNet-C as it was published, and clean images by class, corrupted as they are measured."""

import os
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common_corruptions import benchmark, corrupt, perturb
from common_corruptions.generate import generate_corruptions, generate_perturbations
from common_corruptions.metrics.baseline import IMAGENET_ALEXNET_CLEAN_ERROR, IMAGENET_ALEXNET_ERRORS
from common_corruptions.recipes.names import CORRUPTIONS, EXTRA_CORRUPTIONS, MAIN_CORRUPTIONS
from common_corruptions.sets.image_files import ImageFiles, list_images
from common_corruptions.summary import IMAGENET_ALEXNET, summarise
from tests.conftest import ROOT

CLASSES = ("n01", "n02", "n10")
FILES = [f"{label}/ILSVRC_{number}.JPEG" for label in CLASSES for number in range(4)]
LABELS = np.repeat(np.arange(3), 4)
SIZE = 32


def write(folder, seed, size=SIZE, files=FILES, **options):
    random = np.random.default_rng(seed)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(256, size=(size, size, 3), dtype=np.uint8)).save(
            folder / name, **options
        )


def read(folder, files=FILES):
    return np.stack([np.asarray(Image.open(folder / name).convert("RGB")) for name in files])


def net(classes=3, size=SIZE):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, classes))


def never(x):
    raise AssertionError("the net ran before the folder was looked at")


def errors_of(images, of=None):
    with torch.no_grad():
        logits = (of or net())(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).numpy()
    return 100 * np.mean(logits.argmax(1) != LABELS)


def measured(data, of=None, **options):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        table, summary = benchmark(of or net(), data, progress=False, **options)
    return table, summary, [str(one.message).removeprefix(f"{data}: ") for one in record]


@pytest.fixture(params=["in groups", "flat"])
def imagenet_c(tmp_path, request):
    """Two corruptions, in the folders that the archives unpack into or beside one another."""
    folder = tmp_path / "ImageNet-C"
    for number, (group, name) in enumerate((("weather", "fog"), ("noise", "gaussian_noise"))):
        place = folder / group / name if request.param == "in groups" else folder / name
        for severity in range(1, 6):
            write(place / str(severity), 10 * number + severity, quality=85)
    return folder


def place(folder, name):
    (found,) = folder.rglob(name)
    return found


def test_imagenet_c_as_published(imagenet_c):
    table, summary, said = measured(imagenet_c, baseline="alexnet-imagenet", batch_size=5)
    assert (summary["corruptions"], summary["perturbations"], summary["images"]) == (2, 0, 12)
    assert "there are no clean images, so no E_clean and no rCE" in said and "E_clean" not in summary
    means = {}
    for name in ("fog", "gaussian_noise"):
        expected = [errors_of(read(place(imagenet_c, name) / str(severity))) for severity in range(1, 6)]
        np.testing.assert_allclose(table[table.name == name].set_index("severity").value, expected)
        means[name] = np.mean(expected)
    assert summary["mCE"] == pytest.approx(
        np.mean([100 * means[name] / IMAGENET_ALEXNET_ERRORS[name] for name in means])
    )
    assert "folders as ImageNet-C has them, 12 images of 3 classes" in table.attrs["data"]


def test_clean_images_beside_them_are_found_by_their_names(imagenet_c):
    more = [*FILES, "n01/ILSVRC_0_more.png", "n10/another.png"]
    write(imagenet_c / "clean", 0, files=[name.replace("JPEG", "png") for name in more])
    table, summary, said = measured(imagenet_c, baseline="alexnet-imagenet")
    clean = errors_of(read(imagenet_c / "clean", [name.replace("JPEG", "png") for name in FILES]))
    assert table.set_index("name").value["clean"] == pytest.approx(clean) == summary["E_clean"]
    assert "the corrupted images cover 12 of the 14 test images" in said
    means = table.groupby("name").value.mean()
    rises = [
        (means[name] - clean) / (IMAGENET_ALEXNET_ERRORS[name] - IMAGENET_ALEXNET_CLEAN_ERROR)
        for name in ("fog", "gaussian_noise")
    ]
    assert summary["rCE"] == pytest.approx(100 * np.mean(rises))
    shutil.copy(
        imagenet_c / "clean" / "n01" / "ILSVRC_0_more.png", imagenet_c / "clean" / "n02" / "ILSVRC_1.jpg"
    )
    with pytest.raises(
        ValueError, match=r"has n02/ILSVRC_1\.jpg and n02/ILSVRC_1\.png; it is unknown which of them"
    ):
        measured(imagenet_c, never)
    (imagenet_c / "clean" / "n02" / "ILSVRC_1.jpg").unlink()
    os.remove(imagenet_c / "clean" / "n02" / "ILSVRC_1.png")
    with pytest.raises(ValueError, match=r"clean has no n02/ILSVRC_1, of which .* has a corrupted image"):
        measured(imagenet_c, never)


def test_a_part_of_the_names_and_severities(imagenet_c):
    table, summary, said = measured(
        imagenet_c, corruptions=["fog"], severities=[3, 1], baseline="alexnet-imagenet"
    )
    assert list(table.name) == ["fog", "fog"] and list(table.severity) == [1, 3]
    assert summary["corruptions"] == 1 and not {"mCE", "rCE"} & summary.keys()
    assert "E_corr is over severity 1, 3 only, and there is no mCE and no rCE, which need all five" in said
    for wrong, error in (([], ValueError), ([0], ValueError), (3, TypeError)):
        with pytest.raises(error, match="severit"):
            measured(imagenet_c, never, severities=wrong)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda fog: os.remove(fog / "4" / FILES[1]), ValueError, r"has n01/ILSVRC_1.JPEG, but .*fog/4 does"),
        (lambda fog: write(fog / "4", 0, files=["n03/x.png"]), ValueError, r"fog/4 has n03/x.png, but .* does not"),
        (lambda fog: (fog / "4").rename(fog / "9"), FileNotFoundError, "fog lacks severity 4; fetch"),
        (lambda fog: (fog / "4" / "n00").mkdir(), FileNotFoundError, r"n00 has no image .*; each folder in .* is a"),
        (lambda fog: write(fog / "4", 0, 30), ValueError, r"fog/4 has images of 30 x 30 pixels .*, but .* 32 x 32"),
        (
            lambda fog: (fog / "4" / FILES[0]).write_bytes(b"<html>"),
            ValueError,
            "n01/ILSVRC_0.JPEG is not an image that Pillow can read",
        ),
        (
            lambda fog: (fog.parent / "blur" / "fog" / "1").mkdir(parents=True),
            ValueError,
            "both .* exist; keep one",
        ),
        (lambda fog: np.save(fog.parent / "fog.npy", LABELS), ValueError, "holds more than one of .npy files, <corrup"),
    ],
)  # fmt: skip
def test_folders_that_do_not_fit(tmp_path, spoil, error, message):
    for severity in range(1, 6):
        write(tmp_path / "fog" / str(severity), severity)
    spoil(tmp_path / "fog")
    with pytest.raises(error, match=message):
        measured(tmp_path, never)


def test_images_that_are_damaged_or_of_another_size_are_named_when_they_are_read(tmp_path):
    for severity in range(1, 6):
        write(tmp_path / "fog" / str(severity), severity)
    path = tmp_path / "fog" / "2" / FILES[7]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(path))} is damaged: .*truncated.*; fetch it again"
    ):
        measured(tmp_path)
    Image.new("RGB", (40, 20)).save(path)
    with pytest.raises(
        ValueError,
        match=r"is 20 x 40 pixels .height x width., but n01.* 32 x 32: all .* Resize\(256\) and Cent",
    ):
        measured(tmp_path)


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff", "float.tiff", "deep.pgm"])
def test_values_of_more_than_8_bits_are_refused_and_named(tmp_path, name):
    """Pillow makes white of 16 bits and black of floats from 0 to 1."""
    write(tmp_path, 0, files=["a/1.png", "b/2.png"])
    values = np.random.default_rng(0).integers(65536, size=(SIZE, SIZE), dtype=np.uint16)
    path = tmp_path / "b" / name
    if name.endswith("pgm"):
        path.write_bytes(b"P5\n%d %d\n65535\n" % values.shape + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values if name.startswith("deep") else values / np.float32(65535)).save(path)
    message = (
        rf"{re.escape(str(path))} has values of more than 8 bits .* save the image with 8 bits a channel"
    )
    with pytest.raises(ValueError, match=message):
        measured(tmp_path, net(2), corruptions=["brightness"], severities=[1])
    with pytest.raises(ValueError, match=message):  # of the first it is known at once
        ImageFiles(tmp_path, [f"b/{name}"])


@pytest.mark.parametrize("kind", ["clean images", "ImageNet-C"])
def test_what_is_not_read_is_counted_by_its_kind(tmp_path, kind):
    folder = tmp_path / "data"
    place = folder if kind == "clean images" else folder / "fog" / "1"
    write(place, 0, files=FILES)
    Image.new("RGB", (SIZE, SIZE)).save(place / "n01" / "5.gif")
    Image.new("RGB", (SIZE, SIZE)).save(place / "n02" / "6.GIF", "GIF")
    (place / "n02" / "7.jp2").write_bytes(b"")
    (place / "n02" / ".DS_Store").write_bytes(b"")
    write(place / "n10", 1, files=["more/1.png", "more/2.png"])
    _, summary, said = measured(folder, corruptions=["fog"], severities=[1])
    assert summary["images"] == 12
    assert (
        "4 files or folders in the class folders are not read, and no image in them is measured: 2 .gif, 1 .jp2, "
        "1 folder"
    ) in said
    shutil.rmtree(place / "n10" / "more")
    for path in [*place.glob("*/*.gif"), *place.glob("*/*.GIF"), *place.glob("*/*.jp2")]:
        path.unlink()
    _, _, said = measured(folder, corruptions=["fog"], severities=[1])
    assert not any("not read" in line for line in said)


def test_a_forked_process_decodes_too(tmp_path):
    """It inherits the pool of its parent, but not the threads in it."""
    write(tmp_path, 0, files=["a/1.png", "b/2.png"])
    code = (
        "import multiprocessing, sys\n"
        "from pathlib import Path\n"
        "from common_corruptions.sets.image_files import ImageFiles\n"
        "def read(): print(ImageFiles(Path(sys.argv[1]), ['a/1.png', 'b/2.png'])[:].shape, flush=True)\n"
        "read()\n"
        "child = multiprocessing.get_context('fork').Process(target=read, daemon=True)\n"
        "child.start()\n"
        "child.join(20)\n"
        "print(child.exitcode)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.split("\n")[:3] == ["(2, 32, 32, 3)"] * 2 + ["0"]


def test_names_asked_for_that_are_not_there(imagenet_c):
    with pytest.raises(FileNotFoundError, match="has no folder snow"):
        measured(imagenet_c, never, corruptions=["snow"])
    with pytest.raises(ValueError, match="unknown corruption 'fogg'; did you mean 'fog'"):
        measured(imagenet_c, never, corruptions=["fogg"])
    with pytest.raises(FileNotFoundError, match="folders of images by corruption, but no perturbations"):
        measured(imagenet_c, never, perturbations=["tilt"])
    with pytest.raises(ValueError, match="ready-made sets; a seed is only for clean images"):
        measured(imagenet_c, never, seed=1)
    (imagenet_c / "posterise" / "1").mkdir(parents=True)
    _, _, said = measured(imagenet_c)
    assert "1 files or folders not named like a corruption or perturbation are left out: posterise" in said


def test_a_net_of_other_classes_than_the_folders_is_refused_at_once(imagenet_c):
    calls = []

    def of(x):
        calls.append(len(x))
        return net(1000)(x)

    with pytest.raises(
        ValueError,
        match=r"returns 1000 classes, but the data has 3; call net\.eval\(\)",
    ):
        measured(imagenet_c, of, batch_size=2)
    assert len(calls) == 1
    table, _, _ = measured(imagenet_c, lambda x: net(1000)(x).detach()[:, [5, 300, 999]])
    assert len(table) == 10


def test_images_are_listed_and_decoded_as_by_torchvision(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    write(tmp_path, 0, files=["b/10.png", "b/9.png", "B/x.jpg", "a/1.bmp", "c/y.JPEG"])
    Image.new("L", (SIZE, SIZE), 77).save(tmp_path / "c" / "grey.png")
    Image.new("RGBA", (SIZE, SIZE), (1, 2, 3, 4)).save(tmp_path / "c" / "alpha.png")
    (tmp_path / "c" / "notes.txt").write_text("no image", encoding="utf-8")
    reference = datasets.ImageFolder(tmp_path)
    listing = list_images(tmp_path)
    assert [str(tmp_path / name) for name in listing.names] == [path for path, _ in reference.imgs]
    assert listing.labels.tolist() == reference.targets and listing.classes == reference.classes
    expected = np.stack([np.asarray(image) for image, _ in reference])
    np.testing.assert_array_equal(ImageFiles(tmp_path, listing.names)[:], expected)
    np.testing.assert_array_equal(ImageFiles(tmp_path, listing.names)[2:5], expected[2:5])


# Sets made from clean images


@pytest.fixture
def image_folder(tmp_path):
    folder = tmp_path / "mine"
    write(folder, 3, files=[name.replace("JPEG", "png") for name in FILES])
    return folder


def test_clean_images_are_corrupted_as_a_set_made_at_once(image_folder, tmp_path):
    """From a folder, from arrays, and from sets written to disk: the same figures, whatever the batches."""
    images = read(image_folder, [name.replace("JPEG", "png") for name in FILES])
    names = {
        "corruptions": ["gaussian_noise", "contrast"],
        "perturbations": ["gaussian_noise", "brightness"],
    }
    generate_corruptions(
        images,
        LABELS,
        tmp_path / "set" / "c",
        corruptions=names["corruptions"],
        seed=5,
        workers=1,
        progress=False,
    )
    generate_perturbations(
        images,
        LABELS,
        tmp_path / "set" / "p",
        perturbations=names["perturbations"],
        seed=5,
        workers=1,
        progress=False,
    )
    (tmp_path / "set" / "clean").mkdir()
    np.save(tmp_path / "set" / "clean" / "test_images.npy", images)
    np.save(tmp_path / "set" / "clean" / "test_labels.npy", LABELS)
    written, expected, _ = measured(tmp_path / "set")
    forms = {
        "folder": image_folder,
        "arrays": (images, LABELS),
        "tensor": (torch.from_numpy(images).movedim(-1, 1), torch.from_numpy(LABELS)),
        "pictures": ([Image.fromarray(image) for image in images], LABELS.tolist()),
    }
    for form, data in forms.items():
        table, summary, _ = measured(data, seed=5, batch_size=5, **names)
        np.testing.assert_allclose(table.value, written.value, err_msg=form)
        assert list(table.name) == list(written.name)
        assert summary == pytest.approx(expected, abs=1e-3)
        assert "12 clean images of 32 x 32, corrupted here at the scale cifar, seed 5" in table.attrs["data"]
    wide = np.concatenate([images, images], axis=2)
    table, _, _ = measured(
        (wide, LABELS),
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 64, 3)),
        corruptions=["fog"],
        severities=[1],
    )
    assert "12 clean images of 32 x 64 (height x width), corrupted here" in table.attrs["data"]
    other, _, _ = measured(image_folder, seed=6, **names)
    assert not np.allclose(other.value, written.value)


def test_of_clean_images_the_19_corruptions_are_made_and_no_perturbation(image_folder):
    _, summary, said = measured(image_folder, severities=[1])
    assert (summary["corruptions"], summary["perturbations"], summary["images"]) == (19, 0, 12)
    assert not any("missing" in line for line in said) and "E_clean" in summary


def test_the_net_is_given_the_bytes_that_corrupt_and_perturb_make():
    images = np.random.default_rng(0).integers(256, size=(7, SIZE, SIZE, 3), dtype=np.uint8)
    given = []

    def of(x):
        given.append((x * 255).round().byte().movedim(1, -1).numpy())
        return net()(x)

    measured(
        (images, np.arange(7) % 3),
        of,
        corruptions=["glass_blur"],
        severities=[4],
        perturbations=["tilt"],
        batch_size=3,
    )
    frames = perturb(images, "tilt", 0).reshape(-1, SIZE, SIZE, 3)
    expected = [images, corrupt(images, "glass_blur", 4, 0), frames]
    np.testing.assert_array_equal(np.concatenate(given), np.concatenate(expected))


def test_corruptions_of_clean_images_have_the_scale_that_is_named(imagenet_c):
    images = np.random.default_rng(0).integers(256, size=(4, SIZE, SIZE, 3), dtype=np.uint8)
    for scale in ("cifar", "imagenet", None):
        given = []

        def of(x, given=given):
            given.append((x * 255).round().byte().movedim(1, -1).numpy())
            return net()(x)

        options = {"corruptions": ["gaussian_noise"], "severities": [3], "scale": scale}
        table, _, _ = measured((images, np.arange(4) % 3), of, **options)
        np.testing.assert_array_equal(given[1], corrupt(images, "gaussian_noise", 3, 0, scale=scale))
        assert f"at the scale {scale or 'cifar'}" in table.attrs["data"]
    with pytest.raises(ValueError, match="ready-made sets; a scale is only for clean images"):
        measured(imagenet_c, never, scale="imagenet")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((np.zeros((4, 32, 32, 3), np.uint8), [0, 1]), ValueError, "there are 4 images but 2 labels"),
        ((np.zeros((2, 32, 32, 3)), [0, 1]), TypeError, "images must be uint8"),
        ((np.zeros((2, 4, 4, 3), np.uint8), [0, 1]), ValueError, "pixels a side, not 4 x 4"),
        ((np.zeros((2, 32, 32, 3), np.uint8), [0.5, 1]), ValueError, "class indices"),
        (
            (np.zeros((2, 32, 32, 3), np.uint8),),
            ValueError,
            r"a folder, a data set, or \(images, labels\), not 1 items",
        ),
        (np.zeros((2, 32, 32, 3), np.uint8), TypeError, r"\(images, labels\), not a ndarray"),
        (
            ([Image.new("L", (32, 32)), Image.new("L", (40, 32))], [0, 1]),
            ValueError,
            "must all have the same size",
        ),
    ],
)
def test_images_and_labels_that_do_not_fit(data, error, message):
    with pytest.raises(error, match=message):
        benchmark(never, data, progress=False)
    good = (np.zeros((2, 32, 32, 3), np.uint8), [0, 1])
    with pytest.raises(ValueError, match="nothing to measure: name corruptions"):
        benchmark(never, good, corruptions=[], progress=False)


# The AlexNet of ImageNet-C

# Top-1 accuracy of torchvision's ResNet-50 on ImageNet-C and the CE that was published beside it, both in percent:
# Rusak et al., "A simple way to make neural networks robust against diverse image corruptions", ECCV 2020, the results
# of the clean net in the authors' code. They give 39.17 and mCE 76.70 over all.
RESNET50 = {
    "brightness": (68.02, 56.64),
    "contrast": (39.06, 71.43),
    "defocus_blur": (38.75, 74.71),
    "elastic_transform": (45.25, 84.75),
    "fog": (45.83, 66.11),
    "frost": (38.14, 74.84),
    "gaussian_noise": (29.29, 79.77),
    "glass_blur": (26.79, 88.61),
    "impulse_noise": (23.81, 82.58),
    "jpeg_compression": (53.41, 76.82),
    "motion_blur": (38.67, 78.03),
    "pixelate": (44.79, 76.92),
    "shot_noise": (27.03, 81.58),
    "snow": (32.53, 77.83),
    "zoom_blur": (36.24, 79.86),
}


def test_published_accuracies_of_a_resnet50_give_its_published_corruption_errors():
    assert set(RESNET50) == set(MAIN_CORRUPTIONS) == set(IMAGENET_ALEXNET_ERRORS)
    for name, (accuracy, published) in RESNET50.items():
        found = summarise([(name, 3, 100 - accuracy)], [], IMAGENET_ALEXNET)
        assert found["mCE"] == pytest.approx(published, abs=0.015), name
        assert "mCE_15" not in found
    errors = [(name, 3, 100 - accuracy) for name, (accuracy, _) in RESNET50.items()]
    found = summarise([("clean", 0, 23.87), *errors], [], IMAGENET_ALEXNET)
    assert found["mCE"] == found["mCE_15"] == pytest.approx(76.70, abs=0.01)
    assert 100 - found["E_corr"] == pytest.approx(39.17, abs=0.01)
    rises = [
        (100 - accuracy - 23.87) / (IMAGENET_ALEXNET_ERRORS[name] - 43.48)
        for name, (accuracy, _) in RESNET50.items()
    ]
    assert found["rCE"] == pytest.approx(100 * np.mean(rises))


def test_the_table_in_the_reference_data_is_the_one_here(shared):
    text = (shared / "reference" / "recipes-imagenet.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"(\w+) (\d\d\.\d{4})", text))
    assert {name: float(value) for name, value in found.items()} == dict(IMAGENET_ALEXNET_ERRORS)
    assert f"{IMAGENET_ALEXNET_CLEAN_ERROR} % error on clean images" in text


def test_the_four_extra_corruptions_stay_out_of_its_mce_and_are_named(image_folder):
    with_extra, summary, said = measured(image_folder, severities=None, baseline="alexnet-imagenet",
                                         corruptions=["fog", "saturate"])  # fmt: skip
    assert (
        "mCE and rCE leave out saturate, which are not averaged with torchvision's AlexNet on ImageNet-C"
        in said
    )
    fog = with_extra[with_extra.name == "fog"].value.mean()
    assert summary["mCE"] == pytest.approx(100 * fog / IMAGENET_ALEXNET_ERRORS["fog"])
    assert summary["corruptions"] == 2
    errors = [(name, 1, 50.0) for name in CORRUPTIONS]
    whole = summarise(errors, [], IMAGENET_ALEXNET)
    assert whole["mCE"] == whole["mCE_15"] and set(EXTRA_CORRUPTIONS).isdisjoint(IMAGENET_ALEXNET_ERRORS)


MEASURE = """
import resource, sys, warnings
from torch import nn
import PIL.JpegImagePlugin, common_corruptions.benchmarking.benchmark
from common_corruptions import benchmark

warnings.simplefilter("ignore")
net = nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.Linear(3 * 7 * 7, 2))
used = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]
for folder in sys.argv[1:]:
    benchmark(net, folder, severities=[1], batch_size=20, progress=False)
    used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*used)
"""


def test_memory_is_bounded_by_a_batch(tmp_path):
    """Ten times as many images of ImageNet-C's size take no more; decoded they would be 60 MB, as floats 240."""
    for count in (40, 400):
        files = [f"{'ab'[k % 2]}/{k}.JPEG" for k in range(count)]
        folder = tmp_path / str(count) / "fog" / "1"
        write(folder, 0, 224, files[:1])
        for name in files[1:]:
            (folder / name).parent.mkdir(exist_ok=True)
            os.link(folder / files[0], folder / name)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "40"), str(tmp_path / "400")]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    before, few, many = (int(number) / 1000 for number in done.stdout.split())  # MB
    assert many - few < 30, f"{few - before:.0f} MB more for 40 images, {many - few:.0f} MB more for 400"
