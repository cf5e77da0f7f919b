"""The commands of dvc.yaml, one module each, and in folders what they share."""

import os

# OpenMP's threads spin at their barriers, so that two trainings on one machine, or one beside anything else, fall to a
# tenth of their speed; asleep at a barrier they lose about a fifth alone. Read once, as torch is loaded.
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
