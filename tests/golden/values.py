"""Golden values: commands on the built-in model, and what is kept of what they write.

`python -m tests.golden.values` writes `clips.npz` and `training.json` again with the gridctl that
Python finds. Do that only when pixels or weights are meant to change, and say why in the
changelog. `old/` holds an adapter, a run that stands at step 1 of 2, its grids and a clip, all as
the gridctl of 2026-12-01 wrote them, so that later versions are tested on old files; `--old`
replaces them as well. Each takes a minute.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

FOLDER = Path(__file__).parent
OLD = FOLDER / "old"
RED = "a red circle moving right on a black background"
BLUE = "a blue circle moving right on a black background"
STEPS = ("--steps", "3")
SIX = ("--adapter", "six.safetensors", *STEPS)  # grids of 2x3 cells of 64x64
BARE = ("--adapter", "none", "--rows", "2", "--cols", "3", "--cell", "32x32", *STEPS)
# Name → arguments of `gridctl generate`; files are those of `write_inputs`.
CLIPS: dict[str, tuple[str, ...]] = {
    "whole grid": ("t2v", RED, "--steps", "2"),
    "t2v": ("t2v", RED, "--seed", "3", *SIX),
    "t2v, no randomness": (
        *("t2v", RED, *SIX, "--true-cfg-scale", "1"),
        *("--stochastic-min-sigma", "1", "--average-max-sigma", "0"),
    ),
    "t2v, fast": ("t2v", RED, *SIX, "--steps", "5", "--fast"),
    "image": ("image", "a green square on a beige background", *STEPS),
    "i2v": ("i2v", "first.png", RED, "--resample", "2", *SIX),
    "interpolate": ("interpolate", "first.png", "last.png", *SIX),
    "multiview": ("multiview", "first.png", "a red cube on a black background", *SIX),
    "edit": ("edit", "six.webp", BLUE, *SIX),
    "edit, windows": ("edit", "nine.webp", BLUE, "--sample", "windows", *SIX),
    "restore": ("restore", "six.webp", "--strength", "0.5", *SIX),
    "restore, windows": ("restore", "nine.webp", "--sample", "windows", "--strength", "0.7", *SIX),
    "extend": ("extend", "six.webp", RED, "--frames", "9", *SIX),
    "long, keyframes": ("t2v", RED, "--frames", "11", *SIX),
    "long, windows": ("t2v", RED, "--frames", "9", "--long", "windows", *SIX),
    "long, from a picture": ("i2v", "first.png", RED, "--frames", "9", "--at", "4=last.png", *SIX),
    "adapter of old code": ("t2v", RED, "--adapter", "adapter.safetensors", *STEPS),
}

# Each setting below changes the loss or the weights.
PROFILE = """extends = "tiny"
grid = { rows = 2, cols = 3, cell = "32x32" }

[train]
data = "grids"
rank = 1
batch_size = 2
log_every = 1
save_dtype = "float32"
"""
TRAINING = """
steps = 2
accumulate = 2
keep = 0.5
temporal_weight = 0.5
preserve_weight = 0.3
caption_dropout = 0.3
ema = 0.5
"""
RESUMED = "\nkeep = 0.0\nsteps = 2\n"
LOGGED = ("step", "loss", "base", "temporal", "preserve", "grad_norm", "learning_rate")


def gridctl(*arguments: object) -> int:
    """Run the command line in this process; returns its exit code."""
    from gridctl.__main__ import main

    before = sys.argv
    sys.argv = ["gridctl", *map(str, arguments)]
    try:
        return int(main())
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before


def write_inputs(folder: Path) -> None:
    """Write what the commands are given, the old files among it."""
    frames = _circle(9)
    Image.fromarray(frames[0]).save(folder / "first.png")
    Image.fromarray(frames[-1]).save(folder / "last.png")
    noisy = frames + np.random.default_rng(0).normal(0, 12, frames.shape)
    noisy = np.clip(noisy, 0, 255).astype(np.uint8)
    for name, clip in {"six": noisy[:6], "nine": noisy}.items():
        first, *others = map(Image.fromarray, clip)
        first.save(folder / f"{name}.webp", save_all=True, append_images=others, lossless=True)
        (folder / f"{name}.txt").write_text(RED)
    whole = folder / "whole.safetensors"
    assert gridctl("adapter", "convert", "tiny-grid", "--to", "diffusers", "-o", whole) == 0
    _with_six_cells(whole, folder / "six.safetensors")
    shutil.copytree(OLD, folder, dirs_exist_ok=True)
    for packed in folder.rglob("*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
    (folder / "training.toml").write_text(PROFILE + TRAINING)
    (folder / "resumed.toml").write_text(PROFILE + RESUMED)


def _circle(count: int, side: int = 64) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Frames (count, side, side, 3): a red circle that moves to the right on black."""
    y, x = np.mgrid[0:side, 0:side] + 0.5
    centers = np.linspace(side / 4, 3 * side / 4, count)
    distances = np.stack([np.hypot(x - center, y - side / 2) for center in centers])
    inside = np.clip(side / 6 - distances + 0.5, 0, 1)[..., None]
    return np.rint(inside * (220, 40, 40)).astype(np.uint8)


def _with_six_cells(source: Path, target: Path) -> None:
    """Write the built-in adapter under a header of 2x3 cells: a quarter of the work."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(source, "pt") as file:
        metadata = dict(file.metadata())
    own = json.loads(metadata["gridctl"]) | {"rows": 2, "cols": 3}
    save_file(load_file(source), target, metadata={**metadata, "gridctl": json.dumps(own)})


def read_frames(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read the frames (F, H, W, 3) of an animation or an image."""
    with Image.open(path) as image:
        return np.stack([np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(image)])


def in_blocks(frames: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Average the frames (F, H, W, 3) over blocks of 4x4 pixels: a sixteenth of the values."""
    count, height, width, _ = frames.shape
    blocks = frames.reshape(count, height // 4, 4, width // 4, 4, 3)
    return blocks.mean((2, 4), dtype=np.float32)


def weights_of(path: Path) -> dict[str, Any]:
    """Summarise an adapter of rank 1: the norm of each tensor, and all values of four vectors."""
    from safetensors.numpy import load_file

    tensors = dict(sorted(load_file(path).items()))
    whole = [name for name in tensors if ".0.attn.to_q." in name]
    return {
        "norms": {name: _short(np.linalg.norm(tensor)) for name, tensor in tensors.items()},
        "values": {name: list(map(_short, tensors[name].ravel())) for name in whole},
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def metrics_of(run: Path) -> list[dict[str, float]]:
    """Read what a run logged of its steps."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{key: line[key] for key in LOGGED} for line in lines if "loss" in line]


def _write_old(folder: Path) -> None:
    """Make the files in `old/`, and write them in small: rounded and packed."""
    grids = folder / "grids"
    for number, (count, caption) in enumerate({7: RED, 12: BLUE, 9: "a circle"}.items(), start=1):
        frames = folder / "videos" / f"clip{number}"
        frames.mkdir(parents=True)
        for index, frame in enumerate(_circle(count)[..., :: 1 - 2 * (caption == BLUE)]):
            Image.fromarray(frame).save(frames / f"{index:02}.png")
        (folder / "videos" / f"clip{number}.txt").write_text(caption)
    shape = ("--rows", "2", "--cols", "3", "--cell", "32x32", "--format", "png")
    assert gridctl("pack", folder / "videos", "-o", grids, *shape) == 0
    assert gridctl("caption", grids) == 0
    (folder / "adapter.toml").write_text(PROFILE + "steps = 2\nlearning_rate = 0.05\n")
    (folder / "resumed.toml").write_text(PROFILE + RESUMED)
    assert gridctl("train", "adapter.toml", "-o", "adapter.safetensors") == 0
    assert gridctl("train", "resumed.toml", "--steps", "1", "-o", "resumed.safetensors") == 0
    assert gridctl("generate", "t2v", RED, *BARE, "-o", "drawn.webp") == 0
    shutil.rmtree(OLD, ignore_errors=True)
    shutil.copytree(grids, OLD / "grids")
    shutil.copy(folder / "drawn.webp", OLD)
    run = OLD / "resumed.run"
    run.mkdir()
    shutil.copy(folder / "resumed.run" / "metrics.jsonl", run)
    about = json.loads((folder / "resumed.run" / "run.json").read_text())
    about["about"]["machine"] = "any"
    (run / "run.json").write_text(json.dumps(about, sort_keys=True, ensure_ascii=False) + "\n")
    _pack_rounded(folder / "adapter.safetensors", OLD / "adapter.safetensors.xz")
    step = "step-000001.safetensors"
    _pack_rounded(folder / "resumed.run" / step, run / f"{step}.xz")


def _pack_rounded(source: Path, target: Path) -> None:
    """Write a safetensors file with numbers of 4 significant bits, so that it packs well."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save

    with safe_open(source, "pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(source)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.ndim:
            mantissa, exponent = tensor.float().frexp()
            rounded = (mantissa * 16).round().ldexp(exponent - 4)
            tensors[name] = rounded.to(tensor.dtype)
    target.write_bytes(lzma.compress(save(tensors, metadata), preset=9 | lzma.PRESET_EXTREME))


def _main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--old", action="store_true", help="replace the files in old/, too")
    replace_old = parser.parse_args().old
    torch.cpu._is_avx512_bf16_supported = lambda: False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"GRIDCTL_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
        os.chdir(folder)
        if replace_old:
            (folder / "old").mkdir()
            os.chdir(folder / "old")
            _write_old(folder / "old")
            os.chdir(folder)
        write_inputs(folder)
        clips = {}
        for number, (title, arguments) in enumerate(CLIPS.items()):
            assert gridctl("generate", *arguments, "-o", f"out-{number}.webp") == 0
            clips[title] = in_blocks(read_frames(folder / f"out-{number}.webp")).round()
        np.savez_compressed(
            FOLDER / "clips.npz", **{title: clip.astype(np.uint8) for title, clip in clips.items()}
        )
        training = {}
        for run in ("training", "resumed"):
            assert gridctl("train", f"{run}.toml", "-o", f"{run}.safetensors") == 0
            training[run] = {
                "metrics": metrics_of(folder / f"{run}.run"),
                "weights": weights_of(folder / f"{run}.safetensors"),
            }
        (FOLDER / "training.json").write_text(json.dumps(training) + "\n")


if __name__ == "__main__":
    _main()
