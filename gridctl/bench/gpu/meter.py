"""Measurements on a GPU: peak memory, seconds of steps and phases, and kernels; rows of results."""

from __future__ import annotations

import fcntl
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gridctl.bench.random_base import wait

GIB = 1024**3
# Parts of the names of GPU kernels, in this order: attention's are full of "cutlass", too.
_KERNELS = {
    "attention": ("flash", "fmha", "sdpa", "attention"),
    "products": ("gemm", "nvjet", "cutlass", "cublas", "splitk"),
}


def cap_memory(gib: float | None) -> None:
    """Let this process take at most `gib` of the card; later allocations beyond it fail."""
    import torch

    if gib is not None and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory / GIB
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib / total))


def peak_memory() -> dict[str, float | None]:
    """GiB at most allocated and reserved since the last `reset_peak`; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {"allocated_gib": None, "reserved_gib": None}
    torch.cuda.synchronize()
    return {
        "allocated_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 2),
    }


def allocated_gib() -> float | None:
    """GiB allocated now; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return round(torch.cuda.memory_allocated() / GIB, 2)


def allocator() -> dict[str, bool]:
    """Whether PyTorch's allocator grows its segments, as PYTORCH_CUDA_ALLOC_CONF can ask for."""
    import torch

    if not torch.cuda.is_available():
        return {}
    settings = torch.cuda.memory._snapshot().get("allocator_settings", {})
    return {"expandable": bool(settings.get("expandable_segments"))}


def reset_peak() -> None:
    """Reset the peak, and free cached memory."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


class StepTimer:
    """Times steps by a progress callback, with the card to itself from the first one on."""

    def __init__(self, lock: Path, text: str, *, steps: int) -> None:
        self.text = text  # progress texts that begin so are steps
        self.steps = steps
        self.times: list[float] = []
        self._lock = lock
        self._file: Any = None

    def __call__(self, done: int, total: int, text: str) -> None:
        """The callback: `done` of `total` with what is being done."""
        if text == "first step":
            self._take()
        if not text.startswith(self.text) or done == 0:
            return
        peak_memory()  # waits for the GPU
        self._take()
        self.times.append(time.monotonic())
        if len(self.times) == self.steps:
            self._file.close()

    def _take(self) -> None:
        if self._file is None:
            self._file = self._lock.open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX)  # an ended process lets go of it

    @property
    def median_seconds(self) -> float | None:
        """Seconds of a step, without the first one."""
        steps = [b - a for a, b in zip(self.times, self.times[1:], strict=False)][: self.steps - 1]
        return round(statistics.median(steps), 4) if steps else None


class Phases:
    """Seconds of each phase of a run, by the texts of its progress; "start" is before the first."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._began = "start", time.monotonic()

    def __call__(self, name: str) -> None:
        """Begin the phase `name`, or continue it."""
        if name != self._name:
            self._end()
            self._name = name

    def close(self) -> dict[str, float]:
        """Seconds so far, those of the current phase too."""
        self._end()
        return self.seconds

    def _end(self) -> None:
        now = time.monotonic()
        took = self.seconds.get(self._name, 0.0) + now - self._began
        self.seconds[self._name], self._began = round(took, 2), now


def matrix_flops(device: Any, *, size: int) -> float:
    """FLOP/s of a square product of random bfloat16 matrices: what the card can do at most.

    The best of several tries, as other processes may be at work in some.
    """
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    wait(device)
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(5):
            a @ b
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 5 * 2 * size**3 / best


def kernel_seconds(step: Callable[[], None]) -> dict[str, Any]:
    """The GPU's seconds in a step by kind of kernel, and the slowest others."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as record:
        step()
    seconds = dict.fromkeys((*_KERNELS, "rest"), 0.0)
    others: dict[str, float] = {}
    for event in record.key_averages():
        if event.device_type.name != "CUDA":
            continue
        name, took = event.key.lower(), event.self_device_time_total / 1e6
        kind = next((k for k, parts in _KERNELS.items() if any(p in name for p in parts)), "rest")
        seconds[kind] += took
        if kind == "rest":
            others[event.key[:120]] = round(took, 4)
    slowest = sorted(others.items(), key=lambda item: -item[1])[:8]
    return {
        "kernel_seconds": {kind: round(took, 4) for kind, took in seconds.items()},
        "slowest_of_the_rest": dict(slowest),
    }


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Keep other jobs from timing steps on the card meanwhile."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line of JSON; safe for several processes, and there even if all end at once."""
    line = json.dumps(row, default=str) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a results file; none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
