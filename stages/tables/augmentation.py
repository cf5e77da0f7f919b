"""What a table says of augmented training images."""

from stages.files.schema import Params

AUGMENTATIONS = {"trivial": "TrivialAugment", "augmix": "AugMix, without its consistency loss"}
# What an augmentation has in common with the test.
OVERLAPS = {
    "trivial": "Brightness, contrast, color and sharpness of TrivialAugment are close to corruptions of the test; its "
    "turns, shifts and shears are close to perturbations.",
    "augmix": "No operation of AugMix is close to a corruption of the test; its turns, shifts and shears are close to "
    "perturbations.",
}


def by_augmentation(params: Params) -> dict[str, list[str]]:
    """Augmentation, "none" among them -> the nets trained with it."""
    nets: dict[str, list[str]] = {}
    for net in params.nets:
        nets.setdefault(params.training(net).augment, []).append(net)
    return nets


def describe_augmentation(params: Params) -> list[str]:
    """By what the training images were augmented, and of which nets; nothing where none were."""
    nets = by_augmentation(params)
    return [
        f"Trained here on images augmented by {AUGMENTATIONS[augment]}"
        + ("." if len(nets) == 1 else f" ({', '.join(augmented)}).")
        for augment, augmented in nets.items()
        if augment != "none"
    ]


def augmentation_beside_the_test(params: Params) -> list[str]:
    """`describe_augmentation`, and what the augmentations have in common with the test; nothing where there is none."""
    nets = by_augmentation(params)
    others = (
        ["The other nets were trained on clean images alone."] if len(nets) > 1 and "none" in nets else []
    )
    overlaps = [OVERLAPS[augment] for augment in nets if augment != "none"]
    return [*describe_augmentation(params), *others, *overlaps] if overlaps else []
