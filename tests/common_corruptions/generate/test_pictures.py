"""The sheets and the animation: the pixels shown are those of the arrays."""

import io

import numpy as np
import pytest
from PIL import Image

from common_corruptions.generate.pictures import GAP, MARGIN, NAMES, animation, corruption_sheet, film_strip
from common_corruptions.recipes.names import CORRUPTIONS, FRAMES, PERTURBATIONS


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def corrupted(names=CORRUPTIONS, shape=(32, 32, 3)):
    return {name: noise(5, *shape, seed=i) for i, name in enumerate(names)}


def sequences(names=PERTURBATIONS, shape=(32, 32, 3)):
    return {name: noise(FRAMES.get(name, 5), *shape, seed=i) for i, name in enumerate(names)}


def shows(picture, image):
    """Whether the picture has somewhere the image, every pixel twice as wide and high."""
    pixels, enlarged = np.asarray(picture), image.repeat(2, axis=0).repeat(2, axis=1)
    height, width = enlarged.shape[:2]
    corners = np.argwhere((pixels[: 1 - height, : 1 - width] == enlarged[0, 0]).all(axis=-1))
    return any(np.array_equal(pixels[y : y + height, x : x + width], enlarged) for y, x in corners)


def test_sheet_shows_every_severity_and_the_original():
    sets, original = corrupted(["fog", "gaussian_noise"]), noise(32, 32, 3, seed=99)
    sheet = corruption_sheet(sets, original)
    assert shows(sheet, original)
    assert all(shows(sheet, image) for images in sets.values() for image in images)
    assert not shows(sheet, noise(32, 32, 3, seed=100))


def test_sheet_of_all_corruptions_fits_a_page():
    sheet = corruption_sheet(corrupted(), noise(32, 32, 3))
    assert sheet.mode == "RGB"
    assert sheet.width <= 1024
    assert sheet.height <= 1024
    assert sheet.getpixel((0, 0)) == sheet.getpixel((sheet.width - 1, sheet.height - 1)) == (255, 255, 255)


def test_severities_stand_side_by_side():
    sets = corrupted(["fog"])
    pixels = np.asarray(corruption_sheet(sets, noise(32, 32, 3, seed=99)))
    bottom = pixels.shape[0] - MARGIN - GAP
    for severity in range(5):
        left = MARGIN + NAMES + severity * (64 + GAP)
        np.testing.assert_array_equal(
            pixels[bottom - 64 : bottom : 2, left : left + 64 : 2], sets["fog"][severity]
        )


def test_film_strip_goes_from_first_to_last_frame():
    strips = sequences()
    strip = film_strip(strips)
    for name in ("translate", "shear"):
        assert shows(strip, strips[name][0])
        assert shows(strip, strips[name][-1])
    assert shows(strip, strips["rotate"][15])
    assert not shows(strip, strips["rotate"][1])


def test_animation_plays_all_frames_for_ever():
    gif = Image.open(io.BytesIO(animation(sequences(["rotate", "translate"]))))
    assert gif.format == "GIF"
    assert gif.n_frames == 31
    assert gif.info["loop"] == 0
    assert gif.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_animation_shows_the_frames():
    flat = np.arange(0, 248, 8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    gif = Image.open(io.BytesIO(animation({"brightness": flat})))
    for frame in range(31):
        gif.seek(frame)
        shown = gif.convert("RGB").getpixel((gif.width // 2, 20))
        assert np.abs(np.array(shown) - flat[frame, 0, 0]).max() <= 2  # a palette of 256 colours


def test_same_arrays_same_bytes():
    def png(picture):
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()

    original, some, strips = noise(32, 32, 3), ["fog", "snow"], ["rotate", "snow"]
    assert png(corruption_sheet(corrupted(some), original)) == png(
        corruption_sheet(corrupted(some), original)
    )
    assert png(film_strip(sequences(strips))) == png(film_strip(sequences(strips)))
    assert animation(sequences(["shear"])) == animation(sequences(["shear"]))


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (40, 90, 3), (256, 100, 3)])
def test_other_sizes(shape):
    sheet = corruption_sheet(corrupted(["fog", "mine"], shape), noise(*shape))
    assert sheet.height < 400
    film_strip(sequences(["rotate", "mine"], shape))
    animation(sequences(["rotate", "mine"], shape))


def test_names_of_ones_own_come_last():
    sets = corrupted(["mine", "fog"])
    pixels = np.asarray(corruption_sheet(sets, noise(32, 32, 3, seed=99)))
    assert shows(pixels, sets["mine"][0])


@pytest.mark.parametrize(
    "draw", [lambda sets: corruption_sheet(sets, noise(32, 32, 3)), film_strip, animation]
)
@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({}, "nothing to draw"),
        ({"fog": noise(5, 32, 32, 3) / 255}, "fog must be uint8"),
        ({"fog": noise(32, 32, 3)}, "fog must be uint8"),
        ({"fog": noise(5, 32, 32, 2)}, "C 1 or 3"),
    ],
)
def test_wrong_input(draw, sets, message):
    with pytest.raises(ValueError, match=message):
        draw(sets)


def test_wrong_number_of_severities():
    with pytest.raises(ValueError, match=r"\(5, H, W, C\)"):
        corruption_sheet({"fog": noise(4, 32, 32, 3)}, noise(32, 32, 3))
