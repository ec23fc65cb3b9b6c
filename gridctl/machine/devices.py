"""Devices: cards, cores, dtypes; where a model runs and in which precision."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gridctl.errors import UsageError

if TYPE_CHECKING:
    import torch


def pick_device(wanted: str) -> torch.device:
    """ "auto", "cpu" or "cuda" → a device; UsageError for a GPU that is not there.

    ROCm's GPUs are "cuda" to PyTorch. "auto" also takes Apple's, "mps"; that is not tested.
    """
    import torch

    grow_segments()
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise UsageError(
            "the profile asks for a GPU and PyTorch finds none; use the built-in model "
            '(--profile tiny), or set memory.device = "cpu".'
        )
    if wanted == "auto" and not has_cuda and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cuda" if has_cuda and wanted != "cpu" else "cpu")


def grow_segments() -> None:
    """Let PyTorch's CUDA allocator grow its blocks of memory, which wastes less between them.

    On an H200 a resumed run of the preset 12gb reserved 4 % more memory than it allocated, and one
    of 24gb, without this, 7 %. The two were not compared with one preset.
    It takes effect only before CUDA starts. Allocator settings in the environment are left alone.

    PyTorch 2.8 to 2.11 warn that the name is deprecated, but on CUDA they ignore this setting under
    the new one, PYTORCH_ALLOC_CONF (github.com/pytorch/pytorch/issues/183387).
    """
    chosen = any(name in os.environ for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"))
    if sys.platform == "linux" and not chosen:  # elsewhere PyTorch warns that it cannot
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"


def free_gib(device: torch.device) -> float:
    """GiB that PyTorch can still allocate on a GPU; infinite on any other device.

    A limit on this process (`set_per_process_memory_fraction`) counts from PyTorch 2.6 on, which
    can say it.
    """
    import torch

    if device.type != "cuda":
        return math.inf
    index = torch.cuda.current_device() if device.index is None else device.index
    free, total = torch.cuda.mem_get_info(index)
    allocated = torch.cuda.memory_allocated(index)
    cached = torch.cuda.memory_reserved(index) - allocated
    fraction = getattr(torch.cuda, "get_per_process_memory_fraction", lambda index: 1.0)
    return min(free + cached, fraction(index) * total - allocated) / 1024**3


def check_compiler(device: torch.device, setting: str) -> None:
    """UsageError, which names the setting, if torch.compile cannot make code for `device`."""
    missing = []
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))):
        missing.append("a C++ compiler, such as g++ or clang++")
    if device.type == "cuda" and find_spec("triton") is None:
        missing.append("the package triton")
    if missing:
        raise UsageError(
            f"{setting} needs {' and '.join(missing)}; install it, or set {setting} = false."
        )


def pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """A profile's dtype for a model on `device`: "auto" is float32 on a CPU, else bfloat16."""
    if wanted == "auto":
        wanted = "float32" if device.type == "cpu" else "bfloat16"
    return torch_dtype(wanted)


def torch_dtype(name: str) -> torch.dtype:
    """ "bfloat16", "float16" or "float32" as PyTorch's."""
    import torch

    return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[name]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices faster in bfloat16 than in float32.

    A CPU without instructions for it emulates it at a quarter of the speed.
    """
    import torch

    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()  # no public function


@dataclass(frozen=True, kw_only=True)
class Card:
    """An NVIDIA GPU."""

    name: str
    memory_mib: int


def nvidia_cards() -> tuple[Card, ...]:
    """Every NVIDIA GPU that the driver lists; none without a driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=memory.total,name", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()  # if the driver does not answer, the card cannot be used
    cards = []
    for line in answer.stdout.splitlines():
        memory, _, name = line.partition(",")
        if memory.strip().isdigit():
            cards.append(Card(name=name.strip(), memory_mib=int(memory)))
    return tuple(cards)


def num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
