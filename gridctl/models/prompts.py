"""Encoded prompts, kept on disk: a prompt that is known needs no text encoders."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gridctl.errors import InputError
from gridctl.machine.caches import cache_file, cache_folder
from gridctl.machine.devices import free_gib
from gridctl.models.base import BaseModel
from gridctl.models.family import Prompt


def join_prompts(prompts: Sequence[Prompt]) -> Prompt:
    """Several prompts as one batch."""
    return {name: torch.cat([prompt[name] for prompt in prompts]) for name in prompts[0]}


def move_prompt(prompt: Prompt, device: torch.device) -> Prompt:
    """The prompt on `device`."""
    return {name: tensor.to(device) for name, tensor in prompt.items()}


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


def encode_prompts(
    base: BaseModel,
    prompts: Iterable[str],
    *,
    text_tokens: int | None,
    room: AbstractContextManager[None] | None = None,
) -> dict[str, Prompt]:
    """Each prompt encoded, a batch of one, in main memory: FLUX.1's take 4 MB each.

    One at a time, so that a prompt's numbers do not depend on the others. Training encodes its
    captions in batches, into entries of its own. The text encoders are loaded inside `room`
    (`make_room`).
    """
    files = {prompt: _entry(base, prompt, text_tokens) for prompt in prompts}
    found = {prompt: _read(path) for prompt, path in files.items()}
    missing = {prompt: path for prompt, path in files.items() if found[prompt] is None}
    new: dict[str, Prompt] = {}
    if missing:
        with room or nullcontext():
            new = _encode(base, missing, text_tokens)
    return {prompt: known or new[prompt] for prompt, known in found.items()}


def _encode(
    base: BaseModel, files: Mapping[str, Path | None], text_tokens: int | None
) -> dict[str, Prompt]:
    """Encode prompts into their files. The text encoders are gone when this returns."""
    encoded = {}
    with base.text_encoders(text_tokens) as encode, torch.inference_mode():
        for prompt, path in files.items():
            encoded[prompt] = move_prompt(encode([prompt]), torch.device("cpu"))
            _write(path, encoded[prompt])
    return encoded


def _entry(base: BaseModel, prompt: str, text_tokens: int | None) -> Path | None:
    """The file of a prompt's entry; None for a user who has no place for a cache."""
    weights = base.fingerprint(*base.family.TEXT_FOLDERS)
    decides = f"{weights} {text_tokens} {base.dtype} {base.text_quantize} {base.device.type}"
    name = hashlib.sha256(f"{decides}\n{prompt}".encode()).hexdigest()
    with suppress(InputError):
        return cache_folder() / "single-prompts" / name[:2] / f"{name}.safetensors"
    return None


def _read(path: Path | None) -> Prompt | None:
    """An entry; None if there is none or it is damaged."""
    with suppress(SafetensorError, OSError):
        if path is not None:
            return dict(load_file(path))
    return None


def _write(path: Path | None, prompt: Prompt) -> None:
    """Keep an entry; a cache that cannot be written is no reason not to draw."""
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in prompt.items()}
    with suppress(InputError):
        if path is not None:
            with cache_file(path) as temporary:
                save_file(own, temporary)
