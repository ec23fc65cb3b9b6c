"""Room on the card for one model while another waits in main memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gridctl.machine.devices import free_gib


@contextmanager
def make_room(
    gib: float, model: Any, *, free: Callable[[torch.device], float] = free_gib
) -> Iterator[None]:
    """Move `model` to main memory for a while if its device has less than `gib` free.

    A model with group offload stays where it is: most of it is in main memory.
    """
    device = model.device
    if free(device) >= gib:
        yield
        return
    model.to("cpu")  # diffusers ignores this for a model with group offload
    _empty_cache(device)
    try:
        yield
    finally:
        _empty_cache(device)
        model.to(device)


def _empty_cache(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
