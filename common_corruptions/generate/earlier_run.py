"""What an earlier run left in a folder of corrupted or perturbed sets: what is kept, and what is refused."""

from pathlib import Path

import numpy as np

from common_corruptions.generate.writing import SetFile
from common_corruptions.npy import load_array
from common_corruptions.recipes.names import SEVERITIES
from common_corruptions.record import RECORD, Entry, Record, check_digest, digest


def is_kept(file: SetFile, images: np.ndarray, folder: Path, record: Record, origin: Entry) -> bool:
    """Whether the file exists as it would be made now; FileExistsError if it is not as an earlier run made it."""
    path = folder / f"{file.name}.npy"
    if not path.exists():
        return False
    if file.name not in record.files:
        raise FileExistsError(f"{path} is not listed in {RECORD}; move it or write elsewhere")
    entry = record.files[file.name]
    # Also true of a record without digests, which cannot tell whether the file is still as it was made.
    if entry != origin | {key: entry.get(key) for key in ("bytes", "sha256")}:
        return False
    check_digest(path, entry)
    return _is_made_alike(file, load_array(path), images)


def _is_made_alike(file: SetFile, present: np.ndarray, images: np.ndarray) -> bool:
    """Whether three images, made again, equal those in the file.

    They differ if something changed that no version records: a function that your own corruption calls, or a library.
    """
    samples = {0, len(images) // 2, len(images) - 1}
    return all(
        np.array_equal(present[place], part[0])
        for index in samples
        for place, part in file.parts(images[index : index + 1], index)
    )


def check_rest(folder: Path, record: Record, names: list[str], common: Entry) -> None:
    """Refuse a folder whose other files were made from other images, which have other labels, or at another scale.

    Args:
        names: the files that are made or kept now.
        common: what determines all of them: the digest of the images and, for corruptions, the scale.

    Raises:
        FileExistsError: there is such a file.
    """
    for name, entry in record.files.items():
        if name in names or not (folder / f"{name}.npy").exists():
            continue
        if entry["images"] != common["images"]:
            raise FileExistsError(f"{folder} holds {name}.npy, made from other images; write elsewhere")
        if entry.get("scale", common.get("scale")) != common.get("scale"):  # missing in old records
            raise FileExistsError(
                f"{folder} holds {name}.npy, made at the scale {entry['scale']}, not {common['scale']}; write "
                f"elsewhere"
            )


def new_labels(
    kind: str, labels: np.ndarray | None, folder: Path, partial: Path, record: Record, fingerprint: str
) -> Path | None:
    """Write the labels to a file in `partial`, unless the folder has them already, recorded as those of these images.

    Args:
        kind: corruption or perturbation.
        labels: of each image, or None to leave what is there.
        partial: where the file is made.
        fingerprint: the digest of the images.

    Returns:
        The path of the new file, or None.

    Raises:
        FileExistsError: there are other labels; without `labels`, the existing ones are those of other images.
    """
    path = folder / "labels.npy"
    if path.exists() and record.labels is not None:
        check_digest(path, record.labels)
    if labels is None:
        if path.exists() and _of_labels(record) - {fingerprint}:
            raise FileExistsError(f"{path} is for other images; give the labels of these, or write elsewhere")
        return None
    labels = np.tile(labels, len(SEVERITIES) if kind == "corruption" else 1)
    if path.exists() and record.labels is None and not np.array_equal(load_array(path), labels):
        raise FileExistsError(f"{path} holds other labels; move it or write elsewhere")
    np.save(partial / path.name, labels)
    wanted = digest(partial / path.name) | {"images": fingerprint}
    return partial / path.name if not path.exists() or wanted != record.labels else None


def _of_labels(record: Record) -> set[str | int]:
    """The digests of the images that the labels in a folder may belong to."""
    if record.labels is not None and "images" in record.labels:
        return {record.labels["images"]}
    # Put there by hand, or by a version that did not record the images: take the images of the files in the folder.
    return {entry["images"] for entry in record.files.values()}
