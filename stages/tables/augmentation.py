"""What a table says of augmented training images."""

from stages.files.schema import Params

AUGMENTATIONS = {"trivial": "TrivialAugment", "augmix": "AugMix, without its consistency loss"}


def describe_augmentation(params: Params) -> list[str]:
    """By what the training images were augmented, and of which nets; nothing where none were."""
    nets: dict[str, list[str]] = {}
    for net in params.nets:
        nets.setdefault(params.training(net).augment, []).append(net)
    return [
        f"Trained here on images augmented by {AUGMENTATIONS[augment]}"
        + ("." if len(nets) == 1 else f" ({', '.join(augmented)}).")
        for augment, augmented in nets.items()
        if augment != "none"
    ]
