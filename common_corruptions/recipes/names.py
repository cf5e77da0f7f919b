"""The names of the benchmark: every corruption and perturbation, in order, and the subsets that are reported.

The names are the file names of the published sets, so these tuples can be used directly to read
``CIFAR-10-C/<name>.npy`` and ``CIFAR-10-P/<name>.npy`` (Hendrycks and Dietterich, *Benchmarking neural network
robustness to common corruptions and perturbations*, ICLR 2019).
"""

CORRUPTION_GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    "weather": ("snow", "frost", "fog", "spatter", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression", "saturate"),
}
"""The 19 corruptions by group."""

CORRUPTIONS: tuple[str, ...] = tuple(name for group in CORRUPTION_GROUPS.values() for name in group)
"""All 19 corruptions, in the order of the groups."""

EXTRA_CORRUPTIONS: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The four extra corruptions, which the benchmark sets aside for choosing hyper-parameters."""

MAIN_CORRUPTIONS: tuple[str, ...] = tuple(name for name in CORRUPTIONS if name not in EXTRA_CORRUPTIONS)
"""The main 15 corruptions of the benchmark."""

SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)

PERTURBATIONS: tuple[str, ...] = (
    "gaussian_noise",
    "shot_noise",
    "speckle_noise",
    "motion_blur",
    "zoom_blur",
    "gaussian_blur",
    "snow",
    "spatter",
    "brightness",
    "translate",
    "rotate",
    "tilt",
    "scale",
    "shear",
)
"""All 14 perturbations: noise, blur, weather, then digital and geometric."""

EXTRA_PERTURBATIONS: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "snow", "shear")
"""The four extra perturbations, as in the CIFAR script and the push-pull authors' code (the benchmark's README has
spatter in place of snow)."""

MAIN_PERTURBATIONS: tuple[str, ...] = tuple(name for name in PERTURBATIONS if name not in EXTRA_PERTURBATIONS)
"""The main ten perturbations of the benchmark."""

NOISE_VARIANTS: tuple[str, ...] = (
    "gaussian_noise_2",
    "gaussian_noise_3",
    "shot_noise_2",
    "shot_noise_3",
    "speckle_noise_2",
    "speckle_noise_3",
)
"""Stronger versions of the three noises, published with the 14 perturbations but not part of any mean."""

NOISE_PERTURBATIONS: tuple[str, ...] = ("gaussian_noise", "shot_noise", "speckle_noise", *NOISE_VARIANTS)
"""The perturbations whose frames are drawn independently, and are therefore compared with the first frame."""

FRAMES: dict[str, int] = {
    **dict.fromkeys((*PERTURBATIONS, *NOISE_VARIANTS), 31),
    "motion_blur": 21,
    "translate": 16,
}
"""The number of frames per sequence, for each perturbation and noise variant."""
