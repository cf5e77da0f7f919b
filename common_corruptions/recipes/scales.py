"""The two published scales of a corruption's constants."""

from collections.abc import Set

SCALES = ("cifar", "imagenet")
CIFAR_LARGEST = 64  # pixels a side


def scale_of(scale: str | None, height: int, width: int) -> str:
    """The given scale, or by default that of images of this size: "cifar" up to 64 pixels a side, else "imagenet".

    Raises:
        ValueError: another name.
    """
    check_scale(scale)
    return scale or ("cifar" if max(height, width) <= CIFAR_LARGEST else "imagenet")


def check_scale(scale: str | None) -> None:
    """Raise ValueError unless `scale` is None or one of the two."""
    if scale is not None and scale not in SCALES:
        raise ValueError(f'scale must be "cifar" or "imagenet", not {scale!r}')


def check_one_scale(scales: Set[str]) -> None:
    """Raise ValueError if the sizes of images select both scales: a set uses the constants of one publication."""
    if len(scales) > 1:
        raise ValueError(
            "some images are larger than 64 pixels a side and some are not, which would mix the constants of "
            "ImageNet-C and CIFAR-10-C; give scale='cifar' or scale='imagenet' for all"
        )
