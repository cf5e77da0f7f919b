"""ImageNet-C as it was published: a folder of images for each corruption, severity and class."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from common_corruptions.recipes.names import CORRUPTIONS, SEVERITIES
from common_corruptions.recipes.registry import added
from common_corruptions.sets.image_files import ImageFiles, Listing, list_images
from common_corruptions.sets.opened import Sets, asked, asked_severities
from common_corruptions.sets.staging import Images

GROUPS = ("noise", "blur", "weather", "digital", "extra")
"""The folders that the published archives contain."""


def corruption_folders(folder: Path) -> dict[str, Path]:
    """Every folder that contains one named like a severity, in `folder` itself or in one of the group folders there.

    Raises:
        ValueError: two of the same name.
    """
    found: dict[str, Path] = {}
    for place in (folder, *(folder / group for group in GROUPS)):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if not any((path / str(severity)).is_dir() for severity in SEVERITIES):
                continue
            if path.name in found:
                raise ValueError(f"both {found[path.name]} and {path} exist; keep one")
            found[path.name] = path
    return found


def open_imagenet_c(
    folder: Path,
    corruptions: Iterable[str] | None = None,
    severities: Iterable[int] | None = None,
) -> Sets:
    """Open the sets in `<corruption>/<severity>/<class>/<image>`, where the corruptions may be in group folders.

    The classes, sorted by name, are the labels. Clean images may be in `clean/<class>`, beside the corruptions, under
    the names of the corrupted images that were made from them; other clean images are left out.

    Args:
        folder: with the corruptions.
        corruptions: which to open; by default all of the benchmark's, and corruptions of your own.
        severities: by default all five.

    Raises:
        FileNotFoundError: a corruption or severity that is missing, or nothing to open.
        TypeError, ValueError: as `common_corruptions.sets.opened.asked`; corruptions of different images, or only some
            of their clean images.
    """
    places = corruption_folders(folder)
    known = (*CORRUPTIONS, *added())
    names = asked(
        "corruption", corruptions, known, places.__contains__, lambda name: f"{folder} has no folder {name}"
    )
    if not names:
        raise FileNotFoundError(f"no folder <corruption>/<severity> to measure in {folder}")
    levels = asked_severities(severities)
    for name in names:
        if absent := [str(level) for level in levels if not (places[name] / str(level)).is_dir()]:
            raise FileNotFoundError(
                f"{places[name]} lacks severity {', '.join(absent)}; fetch what is missing, or choose the severities "
                f"that are there"
            )
    first = places[names[0]] / str(levels[0])
    listing = list_images(first)
    expected = ImageFiles(first, listing.names)
    sets: dict[str, dict[int, Images]] = {}
    unread = Counter(listing.unread)
    for name in names:
        for level in levels:
            place = places[name] / str(level)
            if place != first:
                found = list_images(place)
                _compare(place, found, first, listing)
                unread += found.unread
            files = ImageFiles(place, listing.names)
            sets.setdefault(name, {})[level] = files
            _compare_sizes(files, expected)
    clean, tested = None, 0
    if (folder / "clean").is_dir():
        clean, tested, others_unread = _clean(folder / "clean", first, listing)
        unread += others_unread
        _compare_sizes(clean, expected)
    others = [os.path.relpath(path, folder) for name, path in places.items() if name not in known]
    count, classes = len(listing.names), len(listing.classes)
    source = f"{folder}: folders as ImageNet-C has them, {count} images of {classes} classes"
    return Sets(source, clean, listing.labels, sets, {}, sorted(others), tested, classes, unread)


def _compare(place: Path, listing: Listing, first: Path, expected: Listing) -> None:
    if listing.names != expected.names:
        ours, theirs = set(listing.names), set(expected.names)
        one, other, names = (place, first, ours - theirs) if ours - theirs else (first, place, theirs - ours)
        raise ValueError(
            f"{one} has {min(names)}, but {other} does not: every corruption and severity must have the same images; "
            f"unpack them again, or measure those that are complete"
        )


def _compare_sizes(files: ImageFiles, expected: ImageFiles) -> None:
    if files.shape[1:] != expected.shape[1:]:
        (height, width), (other_height, other_width) = files.shape[1:3], expected.shape[1:3]
        raise ValueError(
            f"{files.folder} has images of {height} x {width} pixels (height x width), but {expected.folder} of "
            f"{other_height} x {other_width}; prepare clean images as for ImageNet-C, with torchvision's "
            f"Resize(256) and CenterCrop(224), and save them as PNG"
        )


def _clean(folder: Path, first: Path, listing: Listing) -> tuple[ImageFiles, int, Counter[str]]:
    """The clean images of those listed, the number of all clean images, and the other entries beside them."""
    found = list_images(folder)
    by_stem: dict[str, list[str]] = {}
    for name in found.names:
        by_stem.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)
    stems = [str(PurePosixPath(name).with_suffix("")) for name in listing.names]
    if absent := [stem for stem in stems if stem not in by_stem]:
        raise ValueError(
            f"{folder} has no {absent[0]}, of which {first} has a corrupted image; add all clean images, or move the "
            f"folder elsewhere"
        )
    names = []
    for name, stem in zip(listing.names, stems, strict=True):
        if name not in by_stem[stem] and len(by_stem[stem]) > 1:
            raise ValueError(
                f"{folder} has {' and '.join(by_stem[stem])}; it is unknown which of them {first / name} was made "
                f"from: remove the other"
            )
        names.append(name if name in by_stem[stem] else by_stem[stem][0])
    return ImageFiles(folder, names), len(found.names), found.unread
