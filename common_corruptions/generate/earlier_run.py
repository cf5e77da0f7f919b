"""What an earlier run left in a folder of corrupted or perturbed sets: what is kept of it, and what is refused."""

from pathlib import Path

import numpy as np

from common_corruptions.generate.writing import SetFile
from common_corruptions.npy import load_array
from common_corruptions.recipes.names import SEVERITIES
from common_corruptions.record import RECORD, Entry, Record, check_digest, digest


def is_kept(file: SetFile, images: np.ndarray, folder: Path, record: Record, origin: Entry) -> bool:
    """Whether the file is there as it would be made; FileExistsError if it is not as an earlier run made it."""
    path = folder / f"{file.name}.npy"
    if not path.exists():
        return False
    if file.name not in record.files:
        raise FileExistsError(f"{path} is not known to {RECORD}; move it or write elsewhere")
    entry = record.files[file.name]
    # Of a record without digests too: there, nothing says whether the file is still as it was made.
    if entry != origin | {key: entry.get(key) for key in ("bytes", "sha256")}:
        return False
    check_digest(path, entry)
    return _is_made_alike(file, load_array(path), images)


def _is_made_alike(file: SetFile, present: np.ndarray, images: np.ndarray) -> bool:
    """Whether three images, made again, are those in the file.

    They are not where something changed that no version tells of: a function that a corruption of one's own calls, or
    a library.
    """
    samples = {0, len(images) // 2, len(images) - 1}
    return all(
        np.array_equal(present[place], part[0])
        for index in samples
        for place, part in file.parts(images[index : index + 1], index)
    )


def check_rest(folder: Path, record: Record, names: list[str], common: Entry) -> None:
    """Refuse a folder whose other files are of other images, which have other labels, or of another scale.

    Args:
        names: the files that are made or kept now.
        common: what decides all of them: the digest of the images, and of corruptions the scale.

    Raises:
        FileExistsError: there is such a file.
    """
    for name, entry in record.files.items():
        if name in names or not (folder / f"{name}.npy").exists():
            continue
        if entry["images"] != common["images"]:
            raise FileExistsError(f"{folder} holds {name}.npy, made from other images; write elsewhere")
        if entry.get("scale", common.get("scale")) != common.get("scale"):  # an old record does not say it
            raise FileExistsError(
                f"{folder} holds {name}.npy, made at the scale {entry['scale']}, and not {common['scale']}; write "
                f"elsewhere"
            )


def new_labels(
    kind: str, labels: np.ndarray | None, folder: Path, partial: Path, record: Record, fingerprint: str
) -> Path | None:
    """A file of the labels in `partial`, if they are not in the folder, known to be of these images.

    Args:
        kind: corruption or perturbation.
        labels: of each image, or None to leave what is there.
        partial: where the file is made.
        fingerprint: the digest of the images.

    Raises:
        FileExistsError: others are in the way; without labels, those of other images.
    """
    path = folder / "labels.npy"
    if path.exists() and record.labels is not None:
        check_digest(path, record.labels)
    if labels is None:
        if path.exists() and _of_labels(record) - {fingerprint}:
            raise FileExistsError(
                f"{path} is of other images than these; give the labels of these, or write elsewhere"
            )
        return None
    labels = np.tile(labels, len(SEVERITIES) if kind == "corruption" else 1)
    if path.exists() and record.labels is None and not np.array_equal(load_array(path), labels):
        raise FileExistsError(f"{path} holds other labels; move it or write elsewhere")
    np.save(partial / path.name, labels)
    wanted = digest(partial / path.name) | {"images": fingerprint}
    return partial / path.name if not path.exists() or wanted != record.labels else None


def _of_labels(record: Record) -> set[str | int]:
    """The digests of the images that the labels in a folder may be of."""
    if record.labels is not None and "images" in record.labels:
        return {record.labels["images"]}
    # Put there by hand, or by a version that did not say it: those of the files that were made there.
    return {entry["images"] for entry in record.files.values()}
