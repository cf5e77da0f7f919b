"""Whether sets that lie beside clean images were made of these, where `generated.json` says of which they were made."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common_corruptions.record import RECORD, digest_of_images, find_record


def check_same_images(place: Path, kind: str, counts: Mapping[str, int], clean: np.ndarray) -> None:
    """Refuse sets that were made of other images than the clean ones. Published folders have no record, and pass.

    It costs one digest of the clean images, 26 ms for the 10,000 of CIFAR-10 on one core.

    Args:
        place: the folder with the sets.
        kind: corruption or perturbation.
        counts: the names of the sets, and of how many images each is: all of the clean ones, or the first.
        clean: uint8 (N, H, W, C).

    Raises:
        ValueError: there is such a set, or the record is damaged.
    """
    record = find_record(place)
    if record is None or record.kind != kind:
        return
    digests: dict[int, str] = {}
    for name, count in counts.items():
        if name not in record.files:  # it was put beside them
            continue
        if count not in digests:
            images = clean[:count]
            digests[count] = digest_of_images(repr(images.shape), images)
        if record.files[name]["images"] != digests[count]:
            raise ValueError(
                f"{place / name}.npy was made of other images than the clean ones beside it, or of these in another "
                f"order, says {RECORD}; make it of these, or put its own images and labels in clean/"
            )
