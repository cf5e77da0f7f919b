"""Training in several processes under torchrun, each on its part of every batch, with the result of one process.

Gradients and batch statistics are those of the whole batch: gradients are averaged over the processes, and batch
normalisation takes its mean and variance over all of them. Without torchrun every function here works as for one
process.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

T = TypeVar("T")


# Variables in which launchers other than torchrun tell a process how many processes they started.
STARTED = {"SLURM_STEP_NUM_TASKS": "srun", "OMPI_COMM_WORLD_SIZE": "mpirun", "PMI_SIZE": "mpiexec"}


def is_first() -> bool:
    """Whether this is torchrun's first process or the only process; works before the processes have joined."""
    return not dist.is_torchelastic_launched() or os.environ["RANK"] == "0"


def check_launch(device: torch.device) -> None:
    """Raise ValueError unless the started processes can train one net together.

    Without torchrun each process would train the whole net, all into the same folder. A GPU takes only one process.
    """
    if not dist.is_torchelastic_launched():
        for variable, launcher in STARTED.items():
            if int(os.environ.get(variable) or 1) > 1:
                raise ValueError(
                    f"{launcher} started {os.environ[variable]} processes without torchrun, and each would train the "
                    f"same net; start one, or `{launcher} torchrun ...` with one process per machine"
                )
    elif device.type == "cuda":
        processes, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if processes > gpus:
            raise ValueError(
                f"torchrun started {processes} processes on a machine with {gpus} "
                f"GPU{'s' if gpus > 1 else ''}; set --nproc-per-node to {gpus} or less"
            )


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the process group if torchrun started this process, and yield the device of this process."""
    if not dist.is_torchelastic_launched():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        # Bound to its GPU from the start, a process creates no context on another GPU.
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Rank of this process, 0 for the first or only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def summed(value: Tensor) -> Tensor:
    """Sum of a tensor over the processes."""
    if dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
    return value


def in_any(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process."""
    return bool(summed(torch.tensor(int(flag), device=device)).item()) if dist.is_initialized() else flag


def from_first(make: Callable[[], T]) -> T:
    """Call `make` in the first process only, and return its result in all processes."""
    if not dist.is_initialized():
        return make()
    made = [make() if rank() == 0 else None]
    dist.broadcast_object_list(made)
    return made[0]


def distributed(net: nn.Module) -> nn.Module:
    """Wrap `net` so that its backward pass averages the gradients over the processes; the parameters are shared.

    Batch normalisations in `net` are replaced by ones over all processes, under the same names.
    """
    if ranks() == 1:
        return net
    on_gpu = next(net.parameters()).is_cuda
    net = nn.SyncBatchNorm.convert_sync_batchnorm(net) if on_gpu else synchronise_norms(net)
    # Every process already has the same statistics; broadcasting them would cost a message per step.
    return nn.parallel.DistributedDataParallel(net, broadcast_buffers=False)


def synchronise_norms(net: nn.Module) -> nn.Module:
    """Replace every batch normalisation inside `net` by a `SyncedBatchNorm` with its parameters and statistics.

    Raises:
        ValueError: a batch normalisation without parameters, running statistics or a fixed momentum.
    """
    for name, child in net.named_children():
        if isinstance(child, _BatchNorm):
            if child.momentum is None or not (child.affine and child.track_running_stats):
                raise ValueError(
                    f"{child} cannot be synchronised on the CPU: train in one process or on GPUs"
                )
            synced = SyncedBatchNorm(child.num_features, child.eps, child.momentum)
            synced.weight, synced.bias = child.weight, child.bias
            for buffer, value in child.named_buffers():
                synced.register_buffer(buffer, value)
            setattr(net, name, synced)
        else:
            synchronise_norms(child)
    return net


class SyncedBatchNorm(_BatchNorm):
    """Batch normalisation over the images of all processes, for the CPU, where `nn.SyncBatchNorm` does not run.

    Takes (N, C, ...); N may differ between the processes and be 0 in some.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (N, C, ...), got {input.ndim} dimensions")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        axes = [0, *range(2, input.ndim)]
        shape = (1, -1, *[1] * (input.ndim - 2))
        own = input.new_full((1,), input.numel() / input.shape[1])
        *sums, count = all_reduce(torch.cat((input.sum(axes), own))).split(input.shape[1])
        mean = sums[0] / count
        centred = input - mean.view(shape)
        # Squares of centred values cost a second message, but the difference of two large sums would be inexact.
        variance = all_reduce(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        factor = self.weight * (variance + self.eps).rsqrt()
        return centred * factor.view(shape) + self.bias.view(shape)
