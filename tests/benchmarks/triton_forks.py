"""Scripts that use Triton in a way which a process has to choose before its first kernel."""

import os
import subprocess
import sys

from tests import forked_python
from tests.conftest import ROOT


def run(module: str, what: str, **environment: str) -> list[str]:
    """Words that a module of the tests prints as a script, in a fork that has torch already."""
    done = subprocess.run(
        [forked_python.commands() / "python", "-m", module, what],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


def forget_triton() -> None:
    """Let Triton be imported anew: torch._dynamo has imported it before TRITON_INTERPRET could be set."""
    for name in [name for name in sys.modules if name.split(".")[0] == "triton" and "._C" not in name]:
        del sys.modules[name]


def compile_without_gpu() -> None:
    """Let kernels be compiled for an H100 that need not be there."""
    import triton
    from triton.backends.compiler import GPUTarget

    class Driver:
        """As much of a driver as compiling asks for."""

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 90, 32)

    triton.runtime.driver.set_active(Driver())


class Compiled:
    """Stands for a kernel: a launch compiles it and leaves the results as they are."""

    def __init__(self, name: str, kernel):
        self.name, self.kernel = name, kernel

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            assert self.kernel.warmup(*arguments, grid=grid, **options).asm["cubin"]
            print(self.name, flush=True)

        return launch
