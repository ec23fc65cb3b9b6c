"""Write the built-in base as a FLUX.1 pipeline in diffusers' folder layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline

from gridctl.files import atomic_folder
from gridctl.models.text import TextEncoders
from gridctl.tiny.pretrain.model import build_scheduler
from gridctl.tiny.pretrain.words import lowercase_twins

STORED = torch.float16  # half the size; the VAE's weights are small numbers, which bf16 blurs


def export_base(folder: Path, *, transformer: Any, vae: Any, text: TextEncoders) -> None:
    """Save the whole pipeline into `folder`, in 16 bits, overwriting it."""
    with torch.no_grad():
        table = text.t5.get_input_embeddings().weight
        for capitalised, lower in lowercase_twins(text.t5_tokenizer):
            table[capitalised] = table[lower]
    for tokenizer in (text.clip_tokenizer, text.t5_tokenizer):
        # A tokenizer would store the length of its last call.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    pipeline = FluxPipeline(
        scheduler=build_scheduler(),
        vae=vae.to(STORED),
        text_encoder=text.clip.to(STORED),
        tokenizer=text.clip_tokenizer,
        text_encoder_2=text.t5.to(STORED),
        tokenizer_2=text.t5_tokenizer,
        transformer=transformer.to(STORED),
    )
    with atomic_folder(folder, force=True) as temporary:
        pipeline.save_pretrained(temporary, safe_serialization=True)
