"""The commands of dvc.yaml, one module each; the subfolders hold their shared code."""

import os

from common_corruptions.allocator import keep_freed_memory

# By default OpenMP threads spin at barriers: two trainings on one machine, or one beside any other load, then run at a
# tenth of their speed. Sleeping at barriers costs only about a fifth. Read once, when torch is loaded.
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

keep_freed_memory()
