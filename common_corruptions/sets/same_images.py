"""Check that sets beside clean images were made from these, if `generated.json` records what they were made from."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common_corruptions.record import RECORD, digest_of_images, find_record


def check_same_images(place: Path, kind: str, counts: Mapping[str, int], clean: np.ndarray) -> None:
    """Refuse sets that were made from other images than the clean ones. Published folders have no record, and pass.

    The cost is one digest of the clean images: 26 ms for the 10,000 of CIFAR-10 on one core.

    Args:
        place: the folder with the sets.
        kind: corruption or perturbation.
        counts: for each set's name, the number of images that it is made from: all clean images, or the first ones.
        clean: uint8 (N, H, W, C).

    Raises:
        ValueError: there is such a set, or the record is damaged.
    """
    record = find_record(place)
    if record is None or record.kind != kind:
        return
    digests: dict[int, str] = {}
    for name, count in counts.items():
        if name not in record.files:  # not made by the recorded runs
            continue
        if count not in digests:
            images = clean[:count]
            digests[count] = digest_of_images(repr(images.shape), images)
        if record.files[name]["images"] != digests[count]:
            raise ValueError(
                f"{place / name}.npy was made from other images than the clean ones, or from these in another order, "
                f"according to {RECORD}; make it from these, or put its own images and labels in clean/"
            )
