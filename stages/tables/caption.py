"""Sentences that describe the run behind a table, for its note."""

from collections.abc import Sequence

from common_corruptions.recipes.names import MAIN_CORRUPTIONS, PERTURBATIONS
from common_corruptions.summary import Baseline, undefined_relative
from stages.files.datasets import copied_from, full_name
from stages.files.published import origin
from stages.files.schema import Data, Params
from stages.tables.augmentation import describe_augmentation


def describe_run(params: Params, normaliser: str, baseline: Baseline | None, images: int | None) -> str:
    """Data set, seeds, epochs, corrupted sets and normaliser, in sentences.

    Args:
        params: parameters of the run.
        normaliser: sentence that names the net by which CE and rCE are normalised.
        baseline: that net; rCE leaves out the corruptions that do not increase its error.
        images: number of test images, None if it is not known.
    """
    data = params.data
    original = copied_from(data.name)
    name = data.name if original else full_name(data.name, images)
    first = "the first " if images == data.corrupted_images else ""
    told = f", {first}{images} test images" if images and str(images) not in name else ""
    sentences = [f"Data set: {name}{told}."]
    if original:
        sentences += [
            f"Its images are lossy JPEG copies (quality 75) of {original}'s: another, harder data set, whose "
            f"figures must not be compared with those of {original}."
        ]
    sentences += describe_trainings(params)
    names, added = data.averaged_corruptions(), data.added_corruptions()
    main = sum(name in MAIN_CORRUPTIONS for name in names)
    flips = sum(name in PERTURBATIONS for name in data.perturbation_names())  # no variants of the noises
    # Number of images in the data set: known if no limit applied, that is, if `images` is not the requested number.
    there = images if data.corrupted_images is None or images != data.corrupted_images else None
    first = {
        part: f" of the first {count} images" if count and (there is None or count <= there) else ""
        for part, count in (("c", data.corrupted_images), ("p", data.perturbed_images))
    }
    sentences += [
        f"Corrupted and perturbed sets: {origin(data)}; {len(names)} corruptions at 5 severities{first['c']}, "
        f"{main} of them of the benchmark's main set"
        + (
            f"; mFP over {flips} {'perturbations' if flips > 1 else 'perturbation'}{first['p']}."
            if flips
            else "."
        )
    ]
    if added:
        sentences += [
            f"Added to the benchmark's, generated from the test images and in no mean: {', '.join(added)}."
        ]
    sentences += [normaliser]
    undefined = undefined_relative(baseline, names) if baseline else []
    if undefined:
        sentences += [
            f"rCE leaves out {', '.join(undefined)}: that AlexNet errs no more there than on clean images."
        ]
    return " ".join(sentences)


def describe_trainings(params: Params) -> list[str]:
    """Sentences on the number of trainings in the means, the augmentation, and the number of epochs."""
    trainings = {net: params.training(net) for net in params.nets}
    if not trainings:
        return ["One trained net each, as the paper's authors released it; nothing was trained here."]
    seeds = seeds_of_nets(params)
    mean = "Mean" + (" ± standard deviation" if max(map(len, seeds)) > 1 else "")
    (usual, _), *others = seeds.items()
    each = [counted(usual), *(f"{', '.join(nets)}: {counted(own)}" for own, nets in others)]
    sentences = [f"{mean} over {'; '.join(each)}."]
    if own := [f"{name} ({net.own})" for name, net in params.nets.items() if net.own]:
        sentences += [f"Nets with options of their own: {'; '.join(own)}."]
    sentences += describe_augmentation(params)
    epochs: dict[int, list[str]] = {}
    for net, training in trainings.items():
        epochs.setdefault(training.epochs, []).append(net)
    if len(epochs) == 1:
        return [*sentences, f"Measured after the last epoch, {next(iter(epochs))}."]
    each = "; ".join(f"{last} ({', '.join(nets)})" for last, nets in epochs.items())
    return [*sentences, f"Measured after the last epoch: {each}."]


def seeds_of_nets(params: Params) -> dict[tuple[int, ...], list[str]]:
    """Seeds -> the nets that were trained with them, the most frequent seeds first."""
    nets: dict[tuple[int, ...], list[str]] = {}
    for net in params.nets:
        nets.setdefault(tuple(sorted(params.training(net).seeds)), []).append(net)
    return dict(sorted(nets.items(), key=lambda item: -len(item[1])))


def counted(seeds: Sequence[int]) -> str:
    """`2 seeds (0, 1)`."""
    return f"{len(seeds)} {'seeds' if len(seeds) > 1 else 'seed'} ({', '.join(map(str, seeds))})"


def measured_set(data: Data, images: int | None = None) -> str:
    """The name of the data set to print beside results, and the part of its test images that was measured.

    Args:
        data: section `data` of the run.
        images: number of test images, None if it is not known.
    """
    images = images or data.corrupted_images
    name, part = full_name(data.name, images), f", the first {images} test images"
    return name + part if images and images == data.corrupted_images and not name.endswith(part) else name
