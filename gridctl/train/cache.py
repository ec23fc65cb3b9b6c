"""The cache: latents and prompt embeddings, computed once, found by what they are made of.

A name is the hash of everything that decides the content (the image file, how it was
prepared, the encoder's weights), so an entry is never wrong, only missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gridctl.errors import InputError
from gridctl.flux.base import BaseModel
from gridctl.flux.conditioning import Conditioning
from gridctl.flux.latents import encode_frames, join_cells
from gridctl.geometry import Grid
from gridctl.machine.caches import cache_file, cache_folder
from gridctl.progress import Progress
from gridctl.train.data import Sample, load_frames

_PROMPTS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The entries of one run: where they lie and what goes into their names."""

    folder: Path
    grid: Grid
    vae_hash: str
    text_hash: str

    @classmethod
    def of(cls, base: BaseModel, grid: Grid, text_tokens: int | None) -> Cache:
        text = base.fingerprint("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
        return cls(
            folder=cache_folder(),
            grid=grid,
            vae_hash=base.fingerprint("vae"),
            text_hash=f"{text} {text_tokens} {base.dtype}",
        )

    def latents(self, sample: Sample) -> Tensor:
        """(C, H, W), in float32."""
        return _read(self._latents_path(sample))["latents"]

    def prompt(self, caption: str) -> Conditioning:
        """The encoded caption, a batch of one."""
        entry = _read(self._prompt_path(caption))
        return Conditioning(embeds=entry["embeds"][None], pooled=entry["pooled"][None])

    def fill(
        self,
        base: BaseModel,
        samples: Sequence[Sample],
        captions: Sequence[str],
        *,
        text_tokens: int | None,
        encode_batch: int,
        progress: Progress,
    ) -> None:
        """Compute what is missing; each encoder is loaded only for that, and let go."""
        images = {self._latents_path(s): s for s in samples}
        images = {path: sample for path, sample in images.items() if not path.exists()}
        if images:
            with base.vae() as vae:
                for done, (path, sample) in enumerate(images.items()):
                    progress(done, len(images), "encoding grids")
                    frames = encode_frames(
                        vae, load_frames(sample.image, self.grid), batch=encode_batch
                    )
                    self._save(path, {"latents": join_cells(frames, self.grid)})
        texts = {self._prompt_path(caption): caption for caption in captions}
        texts = {path: caption for path, caption in texts.items() if not path.exists()}
        if texts:
            with base.text_encoders(text_tokens) as encode, torch.inference_mode():
                entries = list(texts.items())
                for start in range(0, len(entries), _PROMPTS_AT_ONCE):
                    progress(start, len(entries), "encoding captions")
                    some = entries[start : start + _PROMPTS_AT_ONCE]
                    encoded = encode([caption for _, caption in some])
                    for index, (path, _) in enumerate(some):
                        self._save(
                            path, {"embeds": encoded.embeds[index], "pooled": encoded.pooled[index]}
                        )

    def _latents_path(self, sample: Sample) -> Path:
        width, height = self.grid.cell
        layout = f"{self.grid.rows} {self.grid.cols} {self.grid.order} {width}x{height}"
        return self._path("latents", f"{sample.digest} {layout} {self.vae_hash}")

    def _prompt_path(self, caption: str) -> Path:
        return self._path("prompts", f"{self.text_hash}\n{caption}")

    def _path(self, kind: str, content: str) -> Path:
        name = hashlib.sha256(content.encode()).hexdigest()
        return self.folder / kind / name[:2] / f"{name}.safetensors"

    def _save(self, path: Path, tensors: dict[str, Tensor]) -> None:
        own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        with cache_file(path) as temporary:
            save_file(own, temporary)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        entry: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} of the cache cannot be read ({error}); delete it, and it is made again."
        ) from error
    return entry
