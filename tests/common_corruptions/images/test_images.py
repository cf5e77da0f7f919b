"""`corrupt` and `perturb` on images in each form, against the recipes' uint8 (N, H, W, C) byte for byte."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from common_corruptions import corrupt, perturb
from common_corruptions.recipes.corruptions import corrupt as corrupt_array
from common_corruptions.recipes.perturbations import perturb as perturb_array
from tests.conftest import ROOT

RGB = np.random.default_rng(0).integers(0, 256, (4, 24, 20, 3), np.uint8)
GREY = RGB[..., :1]
NAMES = ("gaussian_noise", "fog", "jpeg_compression")


def tensors(images):
    return torch.from_numpy(np.moveaxis(images, -1, -3).copy())


def unit(images, dtype=torch.float32):
    return (tensors(images).to(torch.float64) / 255).to(dtype)


# What comes in, and the images of it, of whose result what comes out is to be the same form.
FORMS = {
    "array": (lambda images: images, RGB),
    "array, grey": (lambda images: images, GREY),
    "array without channels": (lambda images: images[..., 0], GREY),
    "one array": (lambda images: images[0], RGB[:1]),
    "one array, one channel": (lambda images: images[0], GREY[:1]),
    "one array without channels": (lambda images: images[0, ..., 0], GREY[:1]),
    "a batch of one without channels": (lambda images: images[..., 0], GREY[:1]),
    "PIL": (lambda images: Image.fromarray(images[0]), RGB[:1]),
    "PIL, grey": (lambda images: Image.fromarray(images[0, ..., 0]), GREY[:1]),
    "list of PIL": (lambda images: [Image.fromarray(image) for image in images], RGB),
    "tuple of arrays": (lambda images: tuple(images), RGB),
    "list of batches": (lambda images: [tensors(images[:3]), tensors(images[3:])], RGB),
    "tensor": (tensors, RGB),
    "tensor, grey": (tensors, GREY),
    "one tensor": (lambda images: tensors(images)[0], RGB[:1]),
    "one tensor without channels": (lambda images: tensors(images)[0, 0], GREY[:1]),
    "list of tensors": (lambda images: list(tensors(images)), RGB),
    "list of many forms": (lambda images: [images[0], Image.fromarray(images[1]), unit(images[2:])], RGB),
    "float16": (lambda images: unit(images, torch.float16), RGB),
    "bfloat16": (lambda images: unit(images, torch.bfloat16), RGB),
    "float32": (unit, RGB),
    "float64": (lambda images: unit(images, torch.float64), RGB),
    "tv_tensor": (lambda images: tv_tensors.Image(unit(images)[0]), RGB[:1]),
    "video": (lambda images: tv_tensors.Video(tensors(images)), RGB),
}


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype and found.is_contiguous()
        assert torch.equal(found, expected)
    elif isinstance(expected, Image.Image):
        assert found.mode == expected.mode and np.array_equal(found, expected)
    else:
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_what_comes_in_comes_out_with_the_bytes_of_the_recipes(form, name):
    given, images = FORMS[form]
    before = given(images)
    assert_same(corrupt(before, name, 4, 7, start=5), given(corrupt_array(images, name, 4, 7, start=5)))
    assert_same(before, given(images))


@pytest.mark.parametrize(
    ("images", "given", "expected"),
    [
        (RGB, RGB, lambda made: made),
        (RGB[:1], RGB[0], lambda made: made[0]),
        (GREY, GREY[..., 0], lambda made: made[..., 0]),
        (GREY[:1], GREY[0, ..., 0], lambda made: made[0, ..., 0]),
        (RGB[:1], Image.fromarray(RGB[0]), lambda made: [Image.fromarray(frame) for frame in made[0]]),
        (
            GREY[:1],
            [Image.fromarray(GREY[0, ..., 0])],
            lambda made: [[*map(Image.fromarray, made[0, ..., 0])]],
        ),
        (RGB, unit(RGB), unit),
        (RGB[:1], tensors(RGB[0]), lambda made: tensors(made[0])),
        (GREY[:1], tensors(GREY)[0, 0], lambda made: tensors(made[0])[:, 0]),
        (RGB[:1], tv_tensors.Image(tensors(RGB[0])), lambda made: tv_tensors.Image(tensors(made[0]))),
    ],
)
def test_a_sequence_has_the_form_of_its_image(images, given, expected):
    made = perturb_array(images, "shot_noise", 3, start=2)
    assert_same(perturb(given, "shot_noise", 3, start=2), expected(made))


def test_a_list_of_several_sizes_is_counted_through():
    images = [RGB[:2], RGB[2:3, :16], RGB[3:]]
    found = corrupt([Image.fromarray(RGB[0]), *images], "fog", 3, start=10)
    for image, made, start in zip(images, found[1:], (11, 13, 14), strict=True):
        np.testing.assert_array_equal(made, corrupt_array(image, "fog", 3, start=start))
    assert corrupt([], "fog") == []


def test_floats_are_rounded_to_the_nearest_level():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    given = (unit(levels) + torch.linspace(-0.4, 0.4, 256).reshape(1, 1, 16, 16) / 255).clamp(0, 1)
    given.requires_grad_()
    found = corrupt(given, "contrast", 1)
    assert torch.equal(found, unit(corrupt_array(levels, "contrast", 1))) and not found.requires_grad


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_tensor_on_the_gpu_stays_there():
    found = corrupt(unit(RGB).cuda(), "fog")
    assert found.is_cuda and torch.equal(found.cpu(), unit(corrupt_array(RGB, "fog")))


ZEROS = np.zeros((3, 32, 32), np.uint8)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            ZEROS,
            ValueError,
            r"\(3, 32, 32\) may be three grey .* images\[\.\.\., None\] .*moveaxis\(images, 0, -1\)",
        ),
        (ZEROS[None], ValueError, r"not \(1, 3, 32, 32\); np\.moveaxis\(images, 1, -1\)"),
        (np.zeros((32, 32, 4), np.uint8), ValueError, r"images\[\.\.\., :3\] drops the alpha"),
        (np.zeros((32, 32, 2), np.uint8), ValueError, r"C 1 or 3.*not \(32, 32, 2\)$"),
        (np.zeros((5, 32, 6), np.uint8), ValueError, r"not \(5, 32, 6\)$"),
        (np.zeros(32, np.uint8), ValueError, r"not \(32,\)"),
        (RGB / 255, TypeError, r"uint8 .* not float64; .*np\.round\(255 \* images\)"),
        (RGB.astype(int), TypeError, "not int64; convert them first$"),
        (RGB.tolist(), TypeError, r"images\[0\]: images must be a NumPy array, .* not list"),
        ("image.png", TypeError, "a PIL image, a torch tensor, or a list of these, not str"),
        ((RGB, 3), TypeError, r"images\[1\]: .* not int"),
        (Image.new("RGBA", (32, 32)), TypeError, r"not RGBA; convert it with picture\.convert\('RGB'\)"),
        (Image.new("P", (32, 32)), TypeError, r"not P; convert it with picture\.convert\('RGB'\)"),
        (Image.new("1", (32, 32)), TypeError, r"not 1; convert it with picture\.convert\('L'\)"),
        (
            Image.new("I;16", (32, 32)),
            TypeError,
            r"8 bits a channel, not I;16, .*np\.asarray\(picture\) // 256",
        ),
        (Image.new("I", (32, 32)), TypeError, r"not I, whose values convert\(\) clips at 255; scale them"),
        (
            Image.new("F", (32, 32)),
            TypeError,
            r"not F, .* give Image\.fromarray\(values\.astype\(np\.uint8\)\)",
        ),
        (torch.zeros(2, 32, 32, 3), ValueError, r"not \(2, 32, 32, 3\); images\.movedim\(-1, -3\)"),
        (torch.zeros(32, 32, 3), ValueError, r"images\.movedim\(-1, -3\)"),
        (torch.zeros(10, 32, 32), ValueError, r"images\.unsqueeze\(1\)"),
        (torch.zeros(3, 32, 3), ValueError, "pixels a side, not 32 x 3"),
        (torch.zeros(2, 3, 1, 32, 32), ValueError, r"not \(2, 3, 1, 32, 32\)$"),
        (torch.zeros(3, 32, 32, dtype=torch.int64), TypeError, "not int64; convert it"),
        (
            torch.full((3, 32, 32), 1.5),
            ValueError,
            r"not 1\.5 to 1\.5; corrupt images before they are normalised",
        ),
        (torch.full((3, 32, 32), -0.5), ValueError, r"not -0\.5 to -0\.5"),
        (torch.full((3, 32, 32), 1.0000001), ValueError, r"not 1\.0000001\d+ to 1\.0000001\d+;"),
        (torch.full((3, 32, 32), -2.11790393), ValueError, r"not -2\.118 to -2\.118;"),
        (torch.full((3, 32, 32), torch.nan), ValueError, "not NaN"),
        (tv_tensors.Mask(torch.zeros(1, 32, 32)), TypeError, "an Image or a Video, not Mask"),
    ],
)
@pytest.mark.parametrize("function", [corrupt, perturb])
def test_one_error_that_says_what_to_do(function, given, error, message):
    with pytest.raises(error, match=message):
        function(given, "brightness")


@pytest.mark.parametrize("bits", [16, 32])
def test_the_advice_for_more_bits_keeps_the_picture(bits):
    """What convert() makes of it is white."""
    deep = Image.fromarray(RGB[0, ..., 0].astype(np.uint16) * 257)
    deep = deep if bits == 16 else deep.convert("I")
    values = np.asarray(deep) // 256
    np.testing.assert_array_equal(Image.fromarray(values.astype(np.uint8)), RGB[0, ..., 0])
    assert np.mean(np.asarray(deep.convert("I").convert("L")) == 255) > 0.9


@pytest.mark.parametrize("images", [[], (), np.zeros((0, 32, 32, 3), np.uint8)])
def test_names_and_severities_are_looked_at_without_images(images):
    with pytest.raises(ValueError, match="unknown corruption 'nonsense'"):
        corrupt(images, "nonsense")
    with pytest.raises(ValueError, match="severity must be a whole number from 1 to 5, not 9"):
        corrupt(images, "fog", 9)
    with pytest.raises(ValueError, match='scale must be "cifar" or "imagenet"'):
        corrupt(images, "fog", scale="mnist")
    with pytest.raises(ValueError, match="unknown perturbation 'fog'"):
        perturb(images, "fog")


def test_a_seed_that_is_none_is_told_of_a_list_too():
    with pytest.raises(TypeError, match="start must be an integer, not None"):
        corrupt([RGB[0]], "fog", start=None)


def test_the_package_loads_nothing_and_arrays_need_no_torch():
    code = (
        "import sys, common_corruptions as cc, json; first = {'torch', 'cv2', 'PIL'} & sys.modules.keys(); "
        "sys.modules['torch'] = None; import numpy as np; from PIL import Image; "
        "images = np.zeros((2, 32, 32, 3), np.uint8); cc.corrupt([*images], 'fog'); cc.perturb(images[0], 'snow'); "
        "cc.corrupt(Image.fromarray(images[0]), 'fog'); print(sorted(first))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
