"""Make the built-in base from nothing: `python examples/pretrain.py FOLDER`.

The VAE first, then the transformer and the text encoders. A stopped run resumes. The result is a
diffusers folder, FOLDER/tiny, with `provenance.json`: how it was made and how good it is.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

POOL = 20_000  # pictures for the VAE
CODED = 4_000  # pictures of them that decide the code
FRESH = 500  # unseen cells that measure the VAE


def pretrain(
    folder: Annotated[Path, typer.Argument(help="Folder for checkpoints and the result.")],
    vae_steps: Annotated[int, typer.Option(help="Training steps of the VAE's decoder.")] = 12_000,
    base_steps: Annotated[
        int, typer.Option(help="Training steps of transformer and text encoders.")
    ] = 18_000,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    only: Annotated[
        str, typer.Option(help="Train one part, vae or base, and export nothing.")
    ] = "",
    start: Annotated[
        Path | None,
        typer.Option(
            help="Earlier result to start from: its VAE is kept, its transformer trained further."
        ),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the blocks: 0.7 of the time per step. Needs a C++ compiler."
        ),
    ] = False,
) -> None:
    """Train the built-in base, in three to four hours on two CPU cores that multiply bfloat16.

    The VAE's decoder and the base do not need each other: with --only they train side by side.
    """
    import numpy as np
    import torch

    from gridctl.machine.quiet import quiet_libraries

    quiet_libraries()
    from diffusers import AutoencoderKL
    from safetensors.torch import load_model
    from tiny_model.base import train_base
    from tiny_model.batches import draw_picture, picture_pool, to_pixels
    from tiny_model.codec import prepare_vae, read_code
    from tiny_model.meaning import CALM_STEPS, calm_vector
    from tiny_model.model import (
        build_text,
        build_transformer,
        build_vae,
        export_base,
        load_start,
    )
    from tiny_model.vae import psnr, train_decoder

    if only not in ("", "vae", "base"):
        raise typer.BadParameter(f"{only!r} is not a part; choose vae or base.")
    folder.mkdir(parents=True, exist_ok=True)
    _check_settings(
        folder,
        {"seed": seed, "start": start and str(start)},
        {"vae": vae_steps, "base": base_steps},
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    log: dict[str, object] = {"commit": _commit(), "seed": seed}
    log |= {"vae_steps": vae_steps, "base_steps": base_steps}
    torch.manual_seed(seed)
    pool = picture_pool(POOL, seed=seed)
    if start:
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(start / "vae"))
        load_model(vae, start / "vae" / "diffusion_pytorch_model.safetensors")
        code = read_code(vae)
    else:
        vae = build_vae()
        code = prepare_vae(vae, to_pixels(pool[:CODED]))
    if only != "base":
        if not start:
            train_decoder(folder, vae, pool, steps=vae_steps, seed=seed, device=device, log=_say)
            code = read_code(vae)  # a resumed run keeps the encoder of its start
        rng = np.random.default_rng(seed + 1)
        cells = torch.from_numpy(np.stack([draw_picture(rng, 64)[2] for _ in range(FRESH)]))
        log["vae_psnr_db"] = round(psnr(vae, cells), 2)
        _say(f"vae PSNR on fresh cells {log['vae_psnr_db']} dB")
    if only != "vae":
        torch.manual_seed(seed)
        if start:
            transformer, text = load_start(start, folder)
            log["start"] = json.loads((start / "provenance.json").read_text())
        else:
            transformer, text = build_transformer(), build_text(folder)
        log["base_loss"] = train_base(
            folder,
            code,
            transformer,
            text,
            steps=base_steps,
            seed=seed,
            device=device,
            log=_say,
            is_learned=start is not None,
            compiled=compiled,
        )
    if not only:
        log["vector_distance"] = calm_vector(
            text, steps=min(CALM_STEPS, base_steps), seed=seed, log=_say
        )
        export_base(folder / "tiny", transformer=transformer, vae=vae, text=text)
        (folder / "tiny" / "provenance.json").write_text(json.dumps(log, indent=2) + "\n")
    _say(json.dumps(log))


def _check_settings(folder: Path, fixed: dict[str, Any], steps: dict[str, int]) -> None:
    """Note the settings of the run in `folder`, or compare them with those of an earlier start.

    Steps may grow. Raises typer.BadParameter, naming what differs, for anything else.
    """
    from gridctl.files import write_text

    path = folder / "settings.json"
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        differs = [
            f"{name} {earlier[name]} -> {value}"
            for name, value in fixed.items()
            if earlier[name] != value
        ]
        differs += [
            f"{part}_steps {earlier[part]} -> {count}"
            for part, count in steps.items()
            if count < earlier[part]
        ]
        if differs:
            raise typer.BadParameter(
                f"{folder} holds a run with other settings: {', '.join(differs)}. Repeat its "
                "settings (steps may be more), or choose another folder."
            )
    write_text(path, json.dumps(fixed | steps, indent=2) + "\n")


def _commit() -> str | None:
    """The commit of the running code; None outside a repository."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    typer.run(pretrain)
