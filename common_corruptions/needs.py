"""What to install if a package is missing: the packages themselves, or an extra in the folder of the repository."""

import shlex
from importlib.util import find_spec

# For each extra: import names, and what to install for them.
IMAGES = {
    "PIL": "pillow",
    "click": "click",
    "cv2": "opencv-python-headless>=5",
    "numpy": "numpy",
    "scipy": "scipy",
    "tqdm": "tqdm",
}
NETS = {
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "pandas": "pandas",
    "torch": "torch>=2.11",
}
EXTRAS = {"common-corruptions": IMAGES, "benchmark": IMAGES | NETS}


def what_to_install(what: str, extra: str, error: ModuleNotFoundError) -> str:
    """The error message if `what`, which needs the packages of `extra`, could not import one of them."""
    known = EXTRAS[extra]
    missing = [package for module, package in known.items() if not _installed(module)]
    if error.name is not None and error.name not in known:
        missing.append(error.name)
    return (
        f"{what} needs {error.name}, which is not installed: pip install {shlex.join(missing)}, or, in the folder of "
        f"the repository, pip install '.[{extra}]'"
    )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # import hooks may raise it
        return False
