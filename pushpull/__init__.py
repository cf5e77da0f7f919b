"""The push-pull inhibition layer (Strisciuglio, Lopez-Antequera, Petkov, NCAA 2020) for PyTorch."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "pushpull needs torch, which is not installed: pip install 'torch>=2.11', or, in the folder of the repository, "
        "pip install '.[layer]'",
        name="torch",
    ) from error

from pushpull.conversion import convert
from pushpull.functional import pull_kernel, push_pull_conv2d
from pushpull.fusion import fuse
from pushpull.module import PushPull1d, PushPull2d, PushPull3d

__all__ = ["PushPull1d", "PushPull2d", "PushPull3d", "convert", "fuse", "pull_kernel", "push_pull_conv2d"]
