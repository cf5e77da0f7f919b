"""The push-pull inhibition layer (Strisciuglio, Lopez-Antequera, Petkov, NCAA 2020) for PyTorch."""

from pushpull.conversion import convert
from pushpull.functional import pull_kernel, push_pull_conv2d
from pushpull.fusion import fuse
from pushpull.module import PushPull1d, PushPull2d, PushPull3d

__all__ = ["PushPull1d", "PushPull2d", "PushPull3d", "convert", "fuse", "pull_kernel", "push_pull_conv2d"]
