"""The two published scales: whose constants a corruption has."""

SCALES = ("cifar", "imagenet")
CIFAR_LARGEST = 64  # pixels a side


def scale_of(scale: str | None, height: int, width: int) -> str:
    """The scale that is named, or by default that of images of this size: "cifar" up to 64 pixels a side.

    Raises:
        ValueError: another name.
    """
    if scale is None:
        return "cifar" if max(height, width) <= CIFAR_LARGEST else "imagenet"
    if scale not in SCALES:
        raise ValueError(f'scale must be "cifar" or "imagenet", not {scale!r}')
    return scale
