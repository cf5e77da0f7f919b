"""How the C library hands out the memory of large arrays in a process that runs nets on the CPU."""

import ctypes
import os
import sys

# Names and numbers of `mallopt` in glibc, and the variables by which a user sets the same.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Keep the memory of freed arrays, up to 1 GiB each, for later ones in this process, and do not return it.

    By default glibc returns the activations of every batch, and the system clears their pages again for the next one.
    A setting of the user's own is left alone, and so are other C libraries.
    """
    if sys.platform != "linux" or any(name in os.environ for name in OWN):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
