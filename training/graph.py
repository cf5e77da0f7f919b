"""Epochs that a GPU replays from a CUDA graph of one step, so that it never waits for the next kernel launch.

A step of a small net consists of hundreds of kernels that take less time than the host needs to launch them. A CUDA
graph launches all of them at once. This requires that everything that changes between steps is on the device: draws,
position in the epoch, learning rate and sums. Without CUDA the same steps run one by one.
"""

import contextlib
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from common_corruptions.evaluation import float32_as
from training.batches import Draws, TrainingSet, cut
from training.epoch import counted_together, training_step
from training.recipe import Precision

log = logging.getLogger(__name__)

WARM_UP = 3  # steps before a recording, in which libraries choose algorithms and allocate memory


class RecordedEpochs:
    """A callable that trains one epoch, bit-identical to `training.epoch.train_epoch`.

    On CUDA the constructor records one step for each batch size (full batches and a smaller last one), and leaves net
    and optimizer unchanged. A net whose step reads something back from the device cannot be recorded: the reason is
    logged, and its steps run one by one.

    Args:
        net, optimizer: the net to train and its optimizer, whose learning rate is a tensor on the device.
        data: its images are on the device.
        draws: those of any epoch; the draws of each epoch are copied into them.
        batch_size, precision, layout: as for `train_epoch`.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: TrainingSet,
        draws: Draws,
        batch_size: int,
        precision: Precision,
        layout: torch.memory_format | None = None,
    ) -> None:
        if not isinstance(data.images, Tensor):
            raise ValueError("a recorded step needs its images on the device; place them there")
        self.net, self.optimizer, self.data, self.draws = net, optimizer, data, draws
        self.precision = precision
        count, device = len(data), data.device
        self.sizes = [min(batch_size, count - start) for start in range(0, count, batch_size)]
        self.first = torch.zeros((), dtype=torch.int64, device=device)  # start of the next batch in the order
        self.places = torch.arange(batch_size, device=device)
        self.loss_sum = torch.zeros((), device=device)
        self.wrong = torch.zeros((), dtype=torch.int64, device=device)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                # Created now, so that the first step is no special case that a recording would repeat.
                state = optimizer.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
        self._step = training_step(net, optimizer, data, precision, layout)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        if device.type == "cuda":
            self._record()

    def __call__(self, draws: Draws, on_batch: Callable[[], object] = lambda: None) -> tuple[Tensor, Tensor]:
        """Sum of the losses and number of errors of an epoch, on the device; the next epoch overwrites them."""
        self.draws.copy_(draws)
        for start in (self.first, self.loss_sum, self.wrong):
            start.zero_()
        self.net.train()
        # Recorded steps keep their float32 precision; only steps launched one by one need it set, for all threads.
        arithmetic = contextlib.nullcontext() if self.recorded else float32_as(self._float32())
        with arithmetic, counted_together(self.net, len(self.sizes)):
            for size in self.sizes:
                if size in self._graphs:
                    self._graphs[size].replay()
                else:
                    self._work(size)
                on_batch()
        return self.loss_sum, self.wrong

    @property
    def recorded(self) -> bool:
        """Whether the steps are replayed from a recording."""
        return bool(self._graphs)

    def _float32(self) -> str:
        return "tf32" if self.precision == "tf32" else "ieee"

    def _work(self, size: int) -> None:
        """Run one step on the next `size` images from the current position."""
        part = self.draws.order[self.first + self.places[:size]]
        images = cut(self.data.images, part, self.draws, part)
        loss, errors = self._step(images, self.data.labels[part], 1 / size)
        self.loss_sum += loss
        self.wrong += errors
        self.first += size

    def _record(self) -> None:
        kept = [*self.net.parameters(), *self.net.buffers(), *self._momentum()]
        before = [value.detach().clone() for value in kept]
        self.net.train()
        # A separate stream, because cuBLAS has one workspace per stream: recordings that share one must not overlap.
        stream = torch.cuda.Stream(self.data.device)
        with float32_as(self._float32()), counted_together(self.net, 0):
            reason = self._warm_up(stream)
            if reason is None:
                for size in set(self.sizes):
                    graph = torch.cuda.CUDAGraph()
                    self.first.zero_()
                    # "thread_local" lets other threads, such as one that monitors the GPU, go on meanwhile.
                    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                        self._work(size)
                    self._graphs[size] = graph
            else:
                log.warning("this net's training step is not recorded as a CUDA graph: %s", reason)
        with torch.no_grad():
            for value, old in zip(kept, before, strict=True):
                value.copy_(old)
        self.optimizer.zero_grad(set_to_none=True)  # the gradients belong to the recordings

    def _warm_up(self, stream: torch.cuda.Stream) -> str | None:
        """Run steps of each size on the stream that will record them; return why they cannot be recorded, or None.

        A step that reads something back is detected here, where it raises an ordinary error. During a recording it
        would leave the device in an unusable state.
        """
        device = self.data.device
        stream.wait_stream(torch.cuda.current_stream(device))
        mode = torch.cuda.get_sync_debug_mode()
        reason = None
        with torch.cuda.stream(stream):
            for size in set(self.sizes):
                for _ in range(WARM_UP):
                    self.first.zero_()
                    self._work(size)
            torch.cuda.synchronize(device)
            torch.cuda.set_sync_debug_mode("error")
            try:
                for size in set(self.sizes):
                    self.first.zero_()
                    self._work(size)
            except RuntimeError as error:
                if "synchronizing" not in str(error):
                    raise
                reason = str(error).splitlines()[0]
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        torch.cuda.current_stream(device).wait_stream(stream)
        return reason

    def _momentum(self) -> list[Tensor]:
        return [
            self.optimizer.state[parameter]["momentum_buffer"]
            for group in self.optimizer.param_groups
            for parameter in group["params"]
        ]
