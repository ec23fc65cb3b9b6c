"""The cache: latents and prompt embeddings, computed once and addressed by their inputs.

An entry's name is the hash of everything that decides its content (the image file, its
preparation, the encoder's weights), so an entry is never outdated, only missing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gridctl.diffusion.cells import join_cells
from gridctl.errors import InputError
from gridctl.geometry import Grid
from gridctl.machine.caches import cache_file, cache_folder
from gridctl.models.base import BaseModel
from gridctl.models.family import Prompt
from gridctl.progress import Progress
from gridctl.train.data import Sample, load_frames

_PROMPTS_AT_ONCE = 8
_READ_AHEAD = 4  # batches of grids that are read while the VAE works
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The entries of a run: their folder, and the parts of their names that all of them share."""

    folder: Path
    vae_hash: str
    text_hash: str

    @classmethod
    def of(cls, base: BaseModel, text_tokens: int | None) -> Cache:
        text = base.fingerprint(*base.family.TEXT_FOLDERS)
        quantised = "" if base.text_quantize == "none" else f" {base.text_quantize}"
        return cls(
            folder=cache_folder(),
            vae_hash=base.fingerprint("vae"),
            text_hash=f"{text} {text_tokens} {base.dtype}{quantised}",
        )

    def latents(self, sample: Sample, grid: Grid) -> Tensor:
        """(C, H/16, W/16) of the sample's image as `grid`, in float32."""
        return _read(self._latents_path(sample, grid))["latents"]

    def prompt(self, caption: str) -> Prompt:
        """The encoded caption, a batch of one."""
        entry = _read(self._prompt_path(caption))
        return {name: tensor[None] for name, tensor in entry.items()}

    def grids(self, samples: Mapping[Grid, Sequence[Sample]]) -> dict[Path, _Grid]:
        """The entries of grid images, by path, with their inputs."""
        return {
            self._latents_path(sample, grid): _Grid(image=sample.image, grid=grid)
            for grid, some in samples.items()
            for sample in some
        }

    def prompts(self, captions: Iterable[str]) -> dict[Path, str]:
        """The entries of captions, by path."""
        return {self._prompt_path(caption): caption for caption in captions}

    def _latents_path(self, sample: Sample, grid: Grid) -> Path:
        width, height = grid.cell
        layout = f"{grid.rows} {grid.cols} {grid.order} {width}x{height}"
        return self._path("latents", f"tokens {sample.digest} {layout} {self.vae_hash}")

    def _prompt_path(self, caption: str) -> Path:
        return self._path("prompts", f"{self.text_hash}\n{caption}")

    def _path(self, kind: str, content: str) -> Path:
        name = hashlib.sha256(content.encode()).hexdigest()
        return self.folder / kind / name[:2] / f"{name}.safetensors"


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """A grid image, to be encoded as `grid`."""

    image: Path
    grid: Grid


def missing(entries: Mapping[Path, _T]) -> dict[Path, _T]:
    """The entries that are not in the cache. A loss of power may leave empty files: not there."""

    def is_there(path: Path) -> bool:
        try:
            return path.stat().st_size > 0
        except OSError:
            return False

    return {path: wanted for path, wanted in entries.items() if not is_there(path)}


def encode_grids(
    base: BaseModel, entries: Mapping[Path, _Grid], *, batch: int, progress: Progress
) -> None:
    """Encode grids into the cache, in full batches of `batch` frames.

    Threads read images and write entries while the VAE works.
    """
    if not entries:
        return
    done = 0
    by_grid: dict[Grid, list[tuple[Path, _Grid]]] = {}
    for path, wanted in entries.items():
        by_grid.setdefault(wanted.grid, []).append((path, wanted))
    progress(0, len(entries), "loading the VAE")
    with base.vae() as vae, ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(1) as writer:
        for grid, same in by_grid.items():
            together = batch // math.gcd(batch, grid.num_frames)  # grids that fill whole batches
            writes: list[Future[None]] = []
            for some in _read_ahead(readers, _chunks(same, together)):
                frames = np.concatenate([pixels for _, pixels in some])
                latents = vae.encode(frames, batch=batch).cpu()
                for (path, _), own in zip(some, latents.split(grid.num_frames), strict=True):
                    tensors = {"latents": join_cells(own, grid)}
                    writes.append(writer.submit(_save, path, tensors))
                done += len(some)
                progress(done, len(entries), "encoding grids")
                while len(writes) > together:
                    writes.pop(0).result()
            for write in writes:
                write.result()


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _read_ahead(
    pool: ThreadPoolExecutor, chunks: Iterator[Sequence[tuple[Path, _Grid]]]
) -> Iterator[list[tuple[Path, Any]]]:
    """Yield the frames of each chunk; a few chunks are read in advance."""

    def start(chunk: Sequence[tuple[Path, _Grid]]) -> list[tuple[Path, Future[Any]]]:
        return [
            (path, pool.submit(load_frames, wanted.image, wanted.grid)) for path, wanted in chunk
        ]

    waiting = [start(chunk) for chunk in islice(chunks, _READ_AHEAD)]
    while waiting:
        ready = [(path, frames.result()) for path, frames in waiting.pop(0)]
        waiting += [start(chunk) for chunk in islice(chunks, 1)]
        yield ready


def encode_prompts(
    base: BaseModel, entries: Mapping[Path, str], *, text_tokens: int | None, progress: Progress
) -> None:
    """Encode captions into the cache."""
    if not entries:
        return
    progress(0, len(entries), "loading the text encoders")
    with base.text_encoders(text_tokens) as encode, torch.inference_mode():
        done = 0
        for some in _chunks(list(entries.items()), _PROMPTS_AT_ONCE):
            encoded = encode([caption for _, caption in some])
            for index, (path, _) in enumerate(some):
                _save(path, {name: tensors[index] for name, tensors in encoded.items()})
            done += len(some)
            progress(done, len(entries), "encoding captions")


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with cache_file(path) as temporary:
        save_file(own, temporary)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        entry: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} in the cache cannot be read ({error}); delete it and start again."
        ) from error
    return entry
