"""Errors of the AlexNets that normalise corruption errors, on CIFAR-10-C and on ImageNet-C. All values in percent.

CIFAR-10-C: Strisciuglio, Lopez-Antequera, Petkov, *Enhanced robustness of convolutional networks with a
push-pull inhibition layer*, Neural Computing and Applications, 2020, appendix 2.
ImageNet-C: Hendrycks, Dietterich, *Benchmarking neural network robustness to common corruptions and perturbations*,
ICLR 2019, and its authors' code: torchvision's AlexNet, and the 15 corruptions that its mCE averages.
For any other data set, pass the errors of an AlexNet trained on it.
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
"""Error on each corruption of CIFAR-10-C, averaged over its five severities. Read-only."""

IMAGENET_ALEXNET_CLEAN_ERROR: float = 43.48
"""Error on the clean validation images of ImageNet."""

IMAGENET_ALEXNET_ERRORS: Mapping[str, float] = MappingProxyType(
    {
        "gaussian_noise": 88.6428,
        "shot_noise": 89.4468,
        "impulse_noise": 92.2640,
        "defocus_blur": 81.9880,
        "glass_blur": 82.6268,
        "motion_blur": 78.5948,
        "zoom_blur": 79.8360,
        "snow": 86.6816,
        "frost": 82.6572,
        "fog": 81.9324,
        "brightness": 56.4592,
        "contrast": 85.3204,
        "elastic_transform": 64.6056,
        "pixelate": 71.7840,
        "jpeg_compression": 60.6500,
    }
)
"""Error on each of the main 15 corruptions of ImageNet-C, averaged over its five severities. Read-only."""
