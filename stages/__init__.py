"""The commands of dvc.yaml, one module each; the subfolders hold their shared code."""

import os
import sys

from common_corruptions.allocator import keep_freed_memory

# By default OpenMP threads spin at barriers: two trainings on one machine, or one beside any other load, then run at a
# tenth of their speed. Sleeping at barriers costs only about a fifth. Read once, when torch is loaded.
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

keep_freed_memory()


def name_exception(kind, exception, traceback, usual=sys.excepthook) -> None:
    """Print an exception that ends a process; of Ctrl-C, here while a command imports its packages, one word."""
    if issubclass(kind, KeyboardInterrupt):
        print("Stopped.", file=sys.stderr)
    else:
        usual(kind, exception, traceback)


sys.excepthook = name_exception
