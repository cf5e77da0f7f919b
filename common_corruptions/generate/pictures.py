"""Pictures of the corruptions and perturbations of an image: two sheets with labels and an animation.

The functions take arrays as stored on disk, and give the same bytes for the same arrays. Small images are enlarged
by a whole factor without smoothing, so that every pixel can be seen.
"""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from common_corruptions.recipes.names import (
    EXTRA_PERTURBATIONS,
    MAIN_PERTURBATIONS,
    NOISE_VARIANTS,
    SEVERITIES,
)
from common_corruptions.recipes.registry import grouped

INK, FAINT, PAPER = "#1f2328", "#6e7781", "#ffffff"
FONT, SMALL = ImageFont.load_default(14), ImageFont.load_default(12)
MARGIN, GAP, LINE = 16, 4, 22  # pixels: around a picture, between images, for a line of text
NAMES, CAPTION = 132, 100  # width of a name beside images, and below one
FRAME_TIME = 120  # milliseconds

PERTURBATION_GROUPS = {
    "main": MAIN_PERTURBATIONS,
    "extra": EXTRA_PERTURBATIONS,
    "stronger noise": NOISE_VARIANTS,
}

Row = tuple[str, str, list[Image.Image]]
"""A row of images: the text beside it, the small print below that text, and the images."""


def corruption_sheet(
    corrupted: Mapping[str, np.ndarray], original: np.ndarray, *, side: int = 64
) -> Image.Image:
    """An image under each corruption (rows, by group) at each severity (columns).

    Args:
        corrupted: for each corruption's name, the image at severities 1 to 5, uint8 (5, H, W, C).
        original: the image itself, uint8 (H, W, C).
        side: maximum length of the longer side of an image, in pixels.

    Raises:
        ValueError: no corruption, or an array of another type or shape.
    """
    _check({"original": original[None]}, 1)
    _check(corrupted, len(SEVERITIES))
    groups = _grouped(corrupted, grouped())
    panels = []
    for half in _halves(groups):
        rows = {
            group: [
                (_title(name), "", [_enlarged(image, side) for image in corrupted[name]]) for name in names
            ]
            for group, names in half.items()
        }
        panels.append(_table(rows, ["severity 1", *map(str, SEVERITIES[1:])]))
    head = _table({"": [("original", "", [_enlarged(original, side)])]}, [])
    width = sum(panel.width for panel in panels) + MARGIN * (len(panels) - 1)
    sheet = _paper(width, head.height + max(panel.height for panel in panels))
    sheet.paste(head, (MARGIN, MARGIN))
    left = MARGIN
    for panel in panels:
        sheet.paste(panel, (left, MARGIN + head.height))
        left += panel.width + MARGIN
    return sheet


def film_strip(sequences: Mapping[str, np.ndarray], *, frames: int = 11, side: int = 64) -> Image.Image:
    """Frames of each perturbation (rows), spread evenly from the first to the last.

    Args:
        sequences: for each perturbation's name, the sequence of one image, uint8 (T, H, W, C); T may differ.
        frames: how many to show of each.
        side: maximum length of the longer side of a frame, in pixels.

    Raises:
        ValueError: no perturbation, or an array of another type or shape.
    """
    _check(sequences)
    rows: dict[str, list[Row]] = {}
    for group, names in _grouped(sequences, PERTURBATION_GROUPS).items():
        rows[group] = []
        for name in names:
            shown = np.linspace(0, len(sequences[name]) - 1, frames).round().astype(int)
            images = [_enlarged(sequences[name][frame], side) for frame in shown]
            rows[group].append((_title(name), f"{len(sequences[name])} frames", images))
    table = _table(rows, [])
    sheet = _paper(table.width, table.height)
    sheet.paste(table, (MARGIN, MARGIN))
    return sheet


def animation(sequences: Mapping[str, np.ndarray], *, columns: int = 7, side: int = 64) -> bytes:
    """All perturbations playing side by side, as a looping GIF file.

    Arguments and errors are those of `film_strip`; `columns` is the number of sequences in a row. Sequences shorter
    than the longest play more slowly.
    """
    _check(sequences)
    names = [name for group in _grouped(sequences, PERTURBATION_GROUPS).values() for name in group]
    length = max(len(sequence) for sequence in sequences.values())
    frames = []
    for time in np.linspace(0, 1, length):
        tiles = []
        for name in names:
            sequence = sequences[name]
            tiles.append(
                _tile(_enlarged(sequence[round(time * (len(sequence) - 1))], side), _title(name), side)
            )
        frames.append(_grid(tiles, columns))
    palette = _palette(_grid(frames, 1))
    frames = [_indexed(frame, palette) for frame in frames]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=FRAME_TIME, loop=0)
    return file.getvalue()


def _check(arrays: Mapping[str, np.ndarray], length: int | None = None) -> None:
    if not arrays:
        raise ValueError("there is nothing to draw")
    for name, array in arrays.items():
        fits = array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] in (1, 3) and len(array) > 0
        if not fits or length not in (None, len(array)):
            wanted = f"({'T' if length is None else length}, H, W, C) with C 1 or 3"
            raise ValueError(f"{name} must be uint8 {wanted}, not {array.dtype} {array.shape}")


def _grouped(names: Mapping[str, np.ndarray], groups: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """`names` in the order of `groups`; unknown names come last, and empty groups are left out."""
    known = {name for group in groups.values() for name in group}
    grouped = {group: [name for name in members if name in names] for group, members in groups.items()}
    grouped["other"] = [name for name in names if name not in known]
    return {group: members for group, members in grouped.items() if members}


def _halves(groups: dict[str, list[str]]) -> list[dict[str, list[str]]]:
    """The groups in two columns, as nearly equal as possible without splitting a group."""
    items = list(groups.items())
    rows = [1 + len(names) for _, names in items]
    split = min(range(1, len(items) + 1), key=lambda at: max(sum(rows[:at]), sum(rows[at:])))
    return [dict(half) for half in (items[:split], items[split:]) if half]


def _title(name: str) -> str:
    return name.replace("_", " ").replace("jpeg", "JPEG")


def _enlarged(image: np.ndarray, side: int) -> Image.Image:
    """An image enlarged by a whole factor, or shrunk, to fit a square of `side` pixels."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else np.ascontiguousarray(image)).convert(
        "RGB"
    )
    longer = max(picture.size)
    if longer > side:
        size = [max(1, round(length * side / longer)) for length in picture.size]
        return picture.resize(size, Image.Resampling.BOX)
    return picture.resize([length * (side // longer) for length in picture.size], Image.Resampling.NEAREST)


def _paper(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), PAPER)


def _table(groups: Mapping[str, list[Row]], heads: list[str]) -> Image.Image:
    """Rows of images with their names on the left, under the headings of their group and columns."""
    images = [image for rows in groups.values() for _, _, row in rows for image in row]
    cell_width, cell_height = max(image.width for image in images), max(image.height for image in images)
    columns = max(len(row) for rows in groups.values() for _, _, row in rows)
    count = sum(len(rows) for rows in groups.values())
    table = Image.new(
        "RGB",
        (
            NAMES + columns * (cell_width + GAP),
            count * (cell_height + GAP) + sum(map(bool, groups)) * (LINE + GAP),
        ),
        PAPER,
    )
    draw = ImageDraw.Draw(table)
    top = 0
    for group, rows in groups.items():
        if group:
            base = top + LINE
            draw.text((0, base), group.upper(), FAINT, SMALL, anchor="ls")
            for column, head in enumerate(heads):
                centre = NAMES + column * (cell_width + GAP) + cell_width / 2
                draw.text((centre, base), head, FAINT, SMALL, anchor="ms")
            top += LINE + GAP
        for name, note, row in rows:
            middle = top + cell_height / 2
            draw.text((0, middle - (8 if note else 0)), name, INK, FONT, anchor="lm")
            draw.text((0, middle + 10), note, FAINT, SMALL, anchor="lm")
            for column, image in enumerate(row):
                table.paste(image, (NAMES + column * (cell_width + GAP), top))
            top += cell_height + GAP
    return table


def _tile(image: Image.Image, name: str, side: int) -> Image.Image:
    tile = Image.new("RGB", (max(side, CAPTION) + 2 * GAP, image.height + LINE), PAPER)
    tile.paste(image, ((tile.width - image.width) // 2, 0))
    ImageDraw.Draw(tile).text((tile.width / 2, tile.height - 5), name, INK, SMALL, anchor="ms")
    return tile


def _grid(tiles: list[Image.Image], columns: int) -> Image.Image:
    width, height = tiles[0].width, tiles[0].height + GAP
    grid = Image.new("RGB", (width * min(columns, len(tiles)), height * -(-len(tiles) // columns)), PAPER)
    for place, tile in enumerate(tiles):
        grid.paste(tile, (place % columns * width, place // columns * height))
    return grid


def _palette(picture: Image.Image) -> list[int]:
    """256 colours for `picture`, the last one paper; a single palette keeps still areas of an animation still."""
    colours = picture.quantize(255).getpalette() or []
    return [*colours[: 3 * 255], *ImageColor.getrgb(PAPER)]


def _indexed(frame: Image.Image, colours: list[int]) -> Image.Image:
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    indices = np.array(frame.quantize(palette=palette, dither=Image.Dither.NONE))
    indices[(np.asarray(frame) == ImageColor.getrgb(PAPER)).all(axis=-1)] = (
        255  # Pillow may choose a similar colour
    )
    indexed = Image.fromarray(indices)
    indexed.putpalette(colours)
    return indexed
