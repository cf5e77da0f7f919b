"""The push-pull inhibition layer (Strisciuglio, Lopez-Antequera, Petkov, NCAA 2020) for PyTorch."""

from pushpull.conversion import convert
from pushpull.functional import pull_kernel, push_pull_conv2d
from pushpull.module import PushPull2d

__all__ = ["PushPull2d", "convert", "pull_kernel", "push_pull_conv2d"]
