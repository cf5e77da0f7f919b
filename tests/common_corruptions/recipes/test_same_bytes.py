"""A set has the same bytes whatever code the libraries choose for the processor, and with any number of threads."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from common_corruptions import CORRUPTIONS, corrupt, perturb
from common_corruptions.recipes.names import FRAMES, SEVERITIES
from common_corruptions.sweeps import SWEEPS, add_gaussian_noise, add_poisson_noise

ROOT = Path(__file__).parents[3]


def without_newer_instructions() -> dict[str, str]:
    """What makes OpenCV and NumPy use the instructions alone that every processor they run on has."""
    line = cv2.getCPUFeaturesLine().split()
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return {
        "OPENCV_CPU_DISABLE": ",".join(word.strip("*?") for word in line if word.startswith("*")),
        "NPY_DISABLE_CPU_FEATURES": " ".join(found),
    }


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
# Two changes in a process, of which neither decides what the other changes: OpenCV's own code with old instructions,
# and with new ones in place of Intel's; libraries of mathematics as they are and as on an old processor.
ELSEWHERE = {
    "instructions and threads": without_newer_instructions() | dict.fromkeys(THREADS, "3"),
    # The first names of a tunable are those of glibc before 2.33.
    "intel and mathematics": {
        "OPENCV_IPP": "disabled",
        "OPENBLAS_CORETYPE": "Prescott",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2_Usable,-FMA_Usable,-AVX2,-FMA",
    },
}


def digests() -> dict[str, str]:
    """A digest of what each recipe makes of images of two sizes, with and without colour."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(-60, 316, (24, 9, 9, 3)).repeat(4, axis=1).repeat(4, axis=2)
    small = np.clip(coarse[:, 2:34, 1:33] + rng.integers(-9, 10, (24, 32, 32, 3)), 0, 255).astype(np.uint8)
    large = np.clip(coarse[:2, :, :34, :1].repeat(2, axis=1) + 3, 0, 255).astype(np.uint8)
    found = {}
    for name in CORRUPTIONS:
        made = [corrupt(images, name, severity) for severity in SEVERITIES for images in (small, large)]
        found[f"corruption {name}"] = made
    for name in FRAMES:
        found[f"perturbation {name}"] = [perturb(small[:12], name), perturb(large, name)]
    for sweep, add in (("gaussian_noise", add_gaussian_noise), ("poisson_noise", add_poisson_noise)):
        found[f"sweep {sweep}"] = [add(small, level) for level in SWEEPS[sweep]]
    return {
        name: hashlib.sha256(b"".join(array.tobytes() for array in made)).hexdigest()
        for name, made in found.items()
    }


def digests_in_a_process(environment: dict[str, str]) -> dict[str, str]:
    """The digests, and under `instructions` the instructions that OpenCV chooses where there are any."""
    # Nets, for which the sweeps would load torch, are not evaluated.
    command = (
        "import cv2, json, sys; from unittest.mock import MagicMock; "
        "rooms = 'common_corruptions.evaluation', 'common_corruptions.evaluation.onnx_runtime'; "
        "sys.modules.update({room: MagicMock() for room in rooms}); "
        f"from {__name__} import digests; "
        "print(json.dumps(digests() | {'instructions': cv2.getCPUFeaturesLine()}))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    return digests()


@pytest.mark.parametrize("change", ELSEWHERE)
def test_other_code_makes_the_same_bytes(here, change):
    elsewhere = digests_in_a_process(ELSEWHERE[change])
    chosen = elsewhere.pop("instructions").split()
    assert [name for name in here if here[name] != elsewhere[name]] == []
    if change == "instructions and threads":  # the switches are obeyed: without this the test could not fail
        assert [word for word in chosen if word.startswith("*") and not word.endswith("?")] == []
