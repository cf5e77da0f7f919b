"""Errors of the AlexNet that normalises corruption errors on CIFAR-10-C.

Source: Strisciuglio, Lopez-Antequera, Petkov, *Enhanced robustness of convolutional networks with a
push-pull inhibition layer*, Neural Computing and Applications, 2020, appendix 2. All values in percent.
They belong to CIFAR-10-C; on any other data set pass the errors of an AlexNet trained there.
"""

from collections.abc import Mapping
from types import MappingProxyType

ALEXNET_CLEAN_ERROR: float = 13.87
"""Error on the original CIFAR-10 test set."""

ALEXNET_ERRORS: Mapping[str, float] = MappingProxyType(
    {
        "gaussian_noise": 38.44,
        "shot_noise": 31.82,
        "impulse_noise": 46.13,
        "speckle_noise": 31.26,
        "defocus_blur": 23.53,
        "glass_blur": 40.97,
        "motion_blur": 29.32,
        "zoom_blur": 26.89,
        "gaussian_blur": 27.78,
        "snow": 26.94,
        "frost": 28.26,
        "fog": 30.31,
        "spatter": 25.19,
        "brightness": 17.84,
        "contrast": 46.77,
        "elastic_transform": 22.25,
        "pixelate": 18.36,
        "jpeg_compression": 18.48,
        "saturate": 22.15,
    }
)
"""Error for each corruption, the mean over its five severities. Read-only."""
