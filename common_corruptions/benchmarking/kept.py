"""The predictions of a net for every image, kept in a folder: for your own tests, and to resume an interrupted run.

    FOLDER/clean.npz, FOLDER/c/<corruption>-<severity>.npz:
        predicted (N,)    the class with the highest logit
        confidence (N,)   its softmax probability, float32; NaN where it is undefined (`per_image.Answers`)
        correct (N,)      whether it is the label
        labels (N,)
        sample            a digest of some of the images, which is the same for all sets with these images
    FOLDER/p/<perturbation>.npz:
        predicted (N, T)  of every frame
        protocol, metric, value   the metrics measured on them, one row each

Image n of each file is image n of the set; image folders are sorted by class and file name, as in torchvision's
ImageFolder. Each file is written completely or not at all, together with what determined the predictions.
"""

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from common_corruptions.benchmarking.identity import of_net
from common_corruptions.evaluation import predict
from common_corruptions.evaluation.onnx_runtime import agree
from common_corruptions.replacing import check_writable, replacing
from common_corruptions.sets.identity import of_images, of_sample
from common_corruptions.sets.opened import Sets
from common_corruptions.sets.staging import Images

UNREADABLE = (ValueError, KeyError, EOFError, zipfile.BadZipFile)  # a damaged file, or one of another kind
PROBES = 4  # images whose logits must be the same before earlier predictions are reused

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Keeping:
    """A folder of predictions, and what determines those of this run.

    net: digest of the net; "" if it cannot be identified, so that nothing is reused.
    probe: logits (PROBES, K) for images that are the same in every run.
    options: the normalisation and the choice of logits.
    """

    folder: Path
    net: str
    probe: np.ndarray
    options: str
    _origins: dict[str, str] = field(default_factory=dict)
    _samples: dict[str, str] = field(default_factory=dict)

    def reusable(self, sets: Sets) -> tuple[set[str], int]:
        """The places of the sets whose predictions can be reused, and how many files are of something else."""
        found, others = set(), 0
        for place, images in places(sets):
            if (self.folder / f"{place}.npz").exists():
                if self._is_ours(place, images, sets.labels):
                    found.add(place)
                else:
                    others += 1
        return found, others

    def load(self, place: str) -> Arrays:
        with np.load(self.folder / f"{place}.npz") as file:
            return dict(file)

    def save(self, place: str, images: Images, labels: np.ndarray, arrays: Arrays) -> None:
        """Write predictions to their place.

        Raises:
            OSError: the folder cannot be written to.
        """
        path = self.folder / f"{place}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        decided = {
            "net": np.array(self.net),
            "images": np.array(self._origin(place, images, labels)),
            "sample": np.array(self._sample(place, images)),
            "options": np.array(self.options),
            "probe": self.probe,
        }
        with replacing(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **(arrays | decided))

    def _is_ours(self, place: str, images: Images, labels: np.ndarray) -> bool:
        if not self.net:
            return False
        try:
            with np.load(self.folder / f"{place}.npz") as file:
                same = (str(file["net"]), str(file["options"])) == (self.net, self.options)
                return bool(
                    same
                    and agree(self.probe, file["probe"])
                    and str(file["images"]) == self._origin(place, images, labels)
                )
        except UNREADABLE:
            return False

    def _origin(self, place: str, images: Images, labels: np.ndarray) -> str:
        if place not in self._origins:
            described = f"{place} {tuple(images.shape)} {of_images(images)} {self._sample(place, images)} "
            digest = hashlib.sha256(described.encode())
            if not place.startswith("p/"):
                digest.update(np.ascontiguousarray(labels, np.int64).data)
            self._origins[place] = digest.hexdigest()
        return self._origins[place]

    def _sample(self, place: str, images: Images) -> str:
        if place not in self._samples:
            self._samples[place] = of_sample(images)
        return self._samples[place]


def keep(
    folder: Path, net: Any, adapted: Any, name: str | None, sets: Sets, chosen: Any, **options: Any
) -> Keeping:
    """Open a folder for the predictions of a net.

    Args:
        folder: created when there is something to write.
        net, name: the net as given, and its name, if it has one.
        adapted: the net as returned by `common_corruptions.benchmarking.any_net.adapt`.
        sets: what is measured; the net is run on a few images of their shape.
        chosen: which part of the net's output is its logits.
        options: as for `common_corruptions.evaluation.predict`.

    Raises:
        TypeError, ValueError: as `predict`.
        NotADirectoryError: a file has this name.
        OSError: nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give a folder for the answers")
    check_writable(folder)  # before hours of measuring
    shape = next(iter(places(sets)))[1].shape[-3:]
    images = np.random.default_rng(0).integers(256, size=(PROBES, *shape), dtype=np.uint8)
    decides = {key: None if options[key] is None else list(options[key]) for key in ("mean", "std")}
    # The batch size changes only the last bits of a Module in eval mode, but may change the statistics of a function.
    decides |= {} if isinstance(net, nn.Module) else {"batch_size": options["batch_size"]}
    return Keeping(folder, of_net(net, name), predict(adapted, images, **options), f"{decides} {chosen!r}")


def places(sets: Sets) -> Iterator[tuple[str, Images]]:
    """Every set, with the path of its predictions in the folder, without suffix."""
    if sets.clean is not None:
        yield "clean", sets.clean
    for name, parts in sets.corruptions.items():
        for severity, images in parts.items():
            yield f"c/{name}-{severity}", images
    for name, sequences in sets.perturbations.items():
        yield f"p/{name}", sequences


def load_answers(folder: str | Path) -> dict[tuple[str, int], Arrays]:
    """The predictions in a folder for clean and corrupted images, by ("clean", 0) or (corruption, severity).

    Returns:
        For each, `predicted`, `confidence`, `correct` and `labels`, arrays (N,), and `sample`, a string ().

    Raises:
        FileNotFoundError: there are none.
        ValueError: predictions of more than one net, or for images with other labels; a file that is damaged or of
            another kind.
    """
    folder = Path(folder)
    found: dict[tuple[str, int], Arrays] = {}
    nets = set()
    for path in [folder / "clean.npz", *sorted((folder / "c").glob("*.npz"))]:
        if not path.exists():
            continue
        name, _, severity = path.stem.partition("-")
        try:
            with np.load(path) as file:
                nets.add((str(file["net"]), str(file["options"]), file["probe"].tobytes()))
                found[name, int(severity or 0)] = {
                    **{key: file[key] for key in ("predicted", "confidence", "correct", "labels")},
                    "sample": file["sample"] if "sample" in file else np.array(""),
                }
        except UNREADABLE as error:
            raise ValueError(f"{path} is damaged, or holds no answers: {error}; remove it") from None
    if not found:
        raise FileNotFoundError(f"{folder} has neither clean.npz nor c/<corruption>-<severity>.npz")
    if len(nets) > 1:
        raise ValueError(f"{folder} has answers of more than one net, or of one with different options")
    first, *others = found
    for other in others:
        if not np.array_equal(found[first]["labels"], found[other]["labels"]):
            names = " and ".join(
                f"{name}, severity {severity}" if severity else name for name, severity in (first, other)
            )
            raise ValueError(
                f"{folder} has answers for more than one set of images: the labels of {names} differ; remove those "
                f"of one set, or measure all again"
            )
    return found


def load_paired(
    ours: str | Path, theirs: str | Path
) -> tuple[dict[tuple[str, int], Arrays], dict[tuple[str, int], Arrays]]:
    """The predictions of two nets for the same images, each as `load_answers` returns them, for a paired comparison.

    Raises:
        FileNotFoundError, ValueError: as `load_answers`.
        ValueError: the folders do not hold the same corruptions and severities, or not of the same images and labels.
    """
    found, others = load_answers(ours), load_answers(theirs)
    if alone := found.keys() ^ others.keys():
        name, severity = min(alone)
        raise ValueError(f"only one of {ours} and {theirs} has answers for {name}, severity {severity}")
    for (name, severity), one in found.items():
        other = others[name, severity]
        # Files of an earlier version do not identify their images.
        same = str(one["sample"]) != "" and one["sample"] == other["sample"]
        if not same or not np.array_equal(one["labels"], other["labels"]):
            raise ValueError(
                f"{ours} and {theirs} may be for different images: those of {name}, severity {severity}, or their "
                f"labels differ, or an earlier version wrote the answers; measure both nets on the same set"
            )
    return found, others
