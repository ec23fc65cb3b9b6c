"""Make the built-in base from nothing: `python -m gridctl.toyworld.pretrain FOLDER`.

VAE, then transformer and text encoders; stopped, it goes on where it was. The result is a
diffusers folder, FOLDER/tiny, with `provenance.json`: how it was made and how good it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    folder: Annotated[Path, typer.Argument(help="Where checkpoints and the result go.")],
    vae_steps: Annotated[int, typer.Option(help="Of the VAE.")] = 7_000,
    base_steps: Annotated[int, typer.Option(help="Of transformer and text encoders.")] = 2_400,
    seed: Annotated[int, typer.Option(help="Of everything drawn by lot.")] = 1,
) -> None:
    """Train the built-in base; about an hour on two CPU cores."""
    import torch

    from gridctl.flux.base import quiet_libraries

    quiet_libraries()
    from gridctl.flux.text import TextEncoders
    from gridctl.toyworld.pretrain.base import train_base
    from gridctl.toyworld.pretrain.export import export_base
    from gridctl.toyworld.pretrain.model import TEXT_TOKENS, build_clip, build_t5
    from gridctl.toyworld.pretrain.pictures import picture_pool
    from gridctl.toyworld.pretrain.vae import psnr, train_vae
    from gridctl.toyworld.pretrain.words import (
        build_clip_tokenizer,
        build_t5_tokenizer,
        world_words,
    )

    folder.mkdir(parents=True, exist_ok=True)
    log: dict[str, object] = {"vae_steps": vae_steps, "base_steps": base_steps, "seed": seed}
    vae = train_vae(folder, steps=vae_steps, seed=seed, log=_say)
    words = world_words()
    clip_tokenizer, t5_tokenizer = build_clip_tokenizer(words), build_t5_tokenizer(words)
    torch.manual_seed(seed)
    text = TextEncoders(
        clip_tokenizer=clip_tokenizer,
        clip=build_clip(
            vocab_size=len(clip_tokenizer),
            bos=clip_tokenizer.bos_token_id,
            eos=clip_tokenizer.eos_token_id,
            pad=clip_tokenizer.pad_token_id,
        ),
        t5_tokenizer=t5_tokenizer,
        t5=build_t5(
            vocab_size=len(t5_tokenizer),
            eos=t5_tokenizer.eos_token_id,
            pad=t5_tokenizer.pad_token_id,
        ),
        text_tokens=TEXT_TOKENS,
    )
    transformer, loss = train_base(folder, vae, text, steps=base_steps, seed=seed, log=_say)
    fresh = picture_pool(folder / "fresh.npy", count=256, seed=seed + 1)
    log |= {"base_loss": loss, "vae_psnr_db": round(psnr(vae, torch.from_numpy(fresh)), 2)}
    export_base(folder / "tiny", transformer=transformer, vae=vae, text=text)
    (folder / "tiny" / "provenance.json").write_text(json.dumps(log, indent=2) + "\n")
    _say(json.dumps(log))


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    typer.run(pretrain)
