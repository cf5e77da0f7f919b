"""Times of calls on the device, and replays of a call as a CUDA graph."""

import statistics
import time
from collections.abc import Callable

import torch

Call = Callable[[], object]


def choose_device() -> torch.device:
    """The GPU, or the CPU for a rehearsal."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(call: Call, device: torch.device, budget: float = 0.03, rounds: int = 5) -> float:
    """Median milliseconds of a call, of rounds of as many calls as take about `budget` seconds together.

    On CUDA the time between two events, so a call that the GPU waits for counts with the wait.
    """
    for _ in range(3):
        call()
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    count = max(1, min(200, int(budget / rounds / max(time.perf_counter() - start, 1e-6))))
    times = []
    for _ in range(rounds):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(count):
                call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / count)
        else:
            start = time.perf_counter()
            for _ in range(count):
                call()
            times.append(1e3 * (time.perf_counter() - start) / count)
    return statistics.median(times)


def replayed(call: Call, device: torch.device) -> Call:
    """A call that replays what `call` launches; on the CPU the call itself."""
    if device.type != "cuda":
        return call
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def kernels(call: Call, device: torch.device) -> dict[str, list[float]]:
    """Microseconds of every launch, by kernel, of what a call launches on a CUDA device, copies and fills counted."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    call()
    synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        call()
        synchronise(device)
    launched: dict[str, list[float]] = {}
    for event in profiler.events():
        if event.device_type == DeviceType.CUDA:
            launched.setdefault(event.name, []).append(event.device_time)
    return launched
