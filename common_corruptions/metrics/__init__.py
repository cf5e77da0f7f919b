"""Metrics of the CIFAR-10-C and CIFAR-10-P benchmarks, on whole arrays.

Corruption robustness follows Strisciuglio et al. 2020 (section 4.2.2): classification error, corruption
error (CE, eq. 1) and relative corruption error (rCE, eq. 2). CE and rCE are normalised by a baseline network and
averaged over corruptions as a mean of ratios. Perturbation robustness follows Hendrycks and Dietterich
2019: flip probability, top-5 distance and Zipf distance between the frames of a sequence.

Errors are in percent; flip probabilities are fractions. Arrays may be numpy arrays, torch tensors on any
device, or nested lists; all are computed in numpy, which takes milliseconds for a whole benchmark set.
"""

from common_corruptions.metrics.errors import (
    LEAST_RISE,
    Errors,
    classification_error,
    corruption_error,
    mean_corruption_error,
    mean_flip_probability,
    mean_flip_rate,
    relative_corruption_error,
)
from common_corruptions.metrics.sequences import (
    PROTOCOLS,
    Protocol,
    flip_probability,
    ordinal_ranks,
    top5_distance,
    zipf_distance,
)

__all__ = [
    "LEAST_RISE",
    "PROTOCOLS",
    "Errors",
    "Protocol",
    "classification_error",
    "corruption_error",
    "flip_probability",
    "mean_corruption_error",
    "mean_flip_probability",
    "mean_flip_rate",
    "ordinal_ranks",
    "relative_corruption_error",
    "top5_distance",
    "zipf_distance",
]
