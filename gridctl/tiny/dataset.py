"""Datasets of real clips of the toy world: H.264 files, each with its caption in a .txt.

python -m gridctl.tiny.dataset videos --count 64 --seed 0 --val 8
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from gridctl.errors import GridctlError, UsageError
from gridctl.files import write_text
from gridctl.geometry import parse_size
from gridctl.media.write import write_clip
from gridctl.tiny.captions import clip_caption
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import Kind, sample_scene

_VAL_STREAM = 1  # random numbers of val/, which repeats no scene of train/


def write_clips(
    folder: Path,
    *,
    count: int,
    seed: int,
    num_frames: int = 48,
    size: tuple[int, int] = (128, 128),
    fps: float = 24,
    kind: Kind | None = None,
    stream: int = 0,
) -> list[Path]:
    """Write clip_0001.mp4, clip_0002.mp4 and so on, each with its caption in a .txt.

    `size` is (width, height) in pixels. Clip k is the same for the same (seed, stream, k),
    whatever `count` is. Existing clips are kept. `kind` is `sample_scene`'s. Returns the paths of
    all `count` clips, in order.

    Raises UsageError for an impossible count, length or seed, or if an existing clip was made with
    other settings; InputError for a folder that cannot be written.
    """
    least = {"count": (count, 0), "frames": (num_frames, 1), "seed": (seed, 0)}
    for name, (value, limit) in {**least, "size": (min(size), 16)}.items():
        if value < limit:
            raise UsageError(f"{name} is {value}; it is at least {limit}.")
    paths = [folder / f"clip_{number:04}.mp4" for number in range(1, count + 1)]
    for number, path in enumerate(paths, start=1):
        rng = np.random.default_rng((seed, stream, number))
        scene = sample_scene(rng, kind=kind)
        caption = clip_caption(scene, rng)
        if path.exists():
            _check_existing(path, caption, (num_frames, size, fps))
            continue
        # The caption first, so that an existing clip always has one.
        write_text(path.with_suffix(".txt"), caption + "\n")
        write_clip(render_clip(scene, num_frames, size), path, fps=fps)
    return paths


def _check_existing(path: Path, caption: str, wanted: tuple[int, tuple[int, int], float]) -> None:
    """UsageError if a clip has another caption, or other (frames, size, fps) than `wanted`."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = (stream.frames, (stream.width, stream.height), float(stream.average_rate or 0))
    text = path.with_suffix(".txt")
    differs = []
    if not text.is_file() or text.read_text(encoding="utf-8").strip() != caption:
        differs.append("another seed or kind")
    if found[0] != wanted[0]:
        differs.append(f"{found[0]} frames instead of {wanted[0]}")
    if found[1] != wanted[1]:
        sizes = ["x".join(map(str, size)) for size in (found[1], wanted[1])]
        differs.append(f"{sizes[0]} pixels instead of {sizes[1]}")
    if abs(found[2] - wanted[2]) > 0.01 * wanted[2]:
        differs.append(f"{found[2]:g} fps instead of {wanted[2]:g}")
    if differs:
        raise UsageError(
            f"{path} was made with other settings: {', '.join(differs)}. Choose another folder, or "
            "delete these clips."
        )


def main() -> None:
    """The command line: clips into FOLDER, or into its train/ and val/ with --val."""
    parser = argparse.ArgumentParser(
        prog="python -m gridctl.tiny.dataset", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=64, help="clips to train on (%(default)s)")
    parser.add_argument("--val", type=int, default=0, help="clips for val/ (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=48, help="per clip (%(default)s)")
    parser.add_argument("--size", default="128x128", help="WxH in pixels (%(default)s)")
    parser.add_argument("--fps", type=float, default=24)
    parser.add_argument("--kind", choices=("shape", "solid"), help="one kind of scene only")
    args = parser.parse_args()
    # (folder, count, stream)
    parts = [(args.folder / "train", args.count, 0), (args.folder / "val", args.val, _VAL_STREAM)]
    if not args.val:
        parts = [(args.folder, args.count, 0)]
    try:
        size = parse_size(args.size)
        for folder, count, stream in parts:
            paths = write_clips(
                folder,
                count=count,
                seed=args.seed,
                num_frames=args.frames,
                size=size,
                fps=args.fps,
                kind=args.kind,
                stream=stream,
            )
            for path in paths:
                print(path)
    except GridctlError as error:
        raise SystemExit(f"gridctl: {error}") from None


if __name__ == "__main__":
    main()
