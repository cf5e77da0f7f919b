"""Sentences about the augmentation of training images, for the notes of tables."""

from stages.files.schema import Params

AUGMENTATIONS = {"trivial": "TrivialAugment", "augmix": "AugMix, without its consistency loss"}
# Overlap of an augmentation with the corruptions and perturbations of the test.
OVERLAPS = {
    "trivial": "Brightness, contrast, color and sharpness of TrivialAugment are close to corruptions of the test; its "
    "turns, shifts and shears are close to perturbations.",
    "augmix": "No operation of AugMix is close to a corruption of the test; its turns, shifts and shears are close to "
    "perturbations.",
}


def by_augmentation(params: Params) -> dict[str, list[str]]:
    """Augmentation (or "none") -> the nets trained with it."""
    nets: dict[str, list[str]] = {}
    for net in params.nets:
        nets.setdefault(params.training(net).augment, []).append(net)
    return nets


def describe_augmentation(params: Params) -> list[str]:
    """Sentences that name each augmentation and the nets trained with it; empty if there is none."""
    nets = by_augmentation(params)
    return [
        f"Trained here on images augmented by {AUGMENTATIONS[augment]}"
        + ("." if len(nets) == 1 else f" ({', '.join(augmented)}).")
        for augment, augmented in nets.items()
        if augment != "none"
    ]


def augmentation_beside_the_test(params: Params) -> list[str]:
    """`describe_augmentation`, and the overlap of the augmentations with the test; empty if there is none."""
    nets = by_augmentation(params)
    others = (
        ["The other nets were trained on clean images alone."] if len(nets) > 1 and "none" in nets else []
    )
    overlaps = [OVERLAPS[augment] for augment in nets if augment != "none"]
    return [*describe_augmentation(params), *others, *overlaps] if overlaps else []
