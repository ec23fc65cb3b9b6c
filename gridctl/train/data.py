"""What a run trains on: captioned grids, checked before anything is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gridctl.errors import InputError
from gridctl.geometry import Grid
from gridctl.media.dataset import list_grids, read_caption
from gridctl.media.facts import Facts
from gridctl.media.grid_image import load_facts, load_grid, scale_cells, split
from gridctl.prompt import DEFAULT_LAYOUT, layout_prompt


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A grid image with its caption; `digest` is the SHA-256 of the image file.

    `content` is the caption without its layout prompt: what is said of a frame alone.
    """

    image: Path
    caption: str
    content: str
    digest: str


def read_samples(
    folder: Path, grid: Grid, *, layout: str = DEFAULT_LAYOUT
) -> tuple[list[Sample], list[Sample]]:
    """(training, validation) samples of a dataset folder; validation is its `val/`.

    `layout` is the template of the layout prompt that captions begin with.

    Raises InputError if a caption is missing, a grid is of another layout than `grid`, or
    there is nothing to train on.
    """
    images = list_grids(folder)
    captions = {image: read_caption(image) for image in images}
    without = [image for image, caption in captions.items() if caption is None]
    if without:
        raise InputError(
            f"{len(without)} of {len(images)} grids in {folder} have no caption, such as "
            f"{without[0].name}; run `gridctl caption {folder}`."
        )
    samples = []
    for image, caption in captions.items():
        facts = load_facts(image)
        _check_layout(image, facts, grid)
        opening = layout_prompt(grid, layout, fps=facts.fps if facts else 1.0)
        samples.append(
            Sample(
                image=image,
                caption=caption or "",
                content=(caption or "").removeprefix(opening).strip(),
                digest=hashlib.sha256(image.read_bytes()).hexdigest(),
            )
        )
    is_val = [sample.image.relative_to(folder).parts[0] == "val" for sample in samples]
    train = [sample for sample, val in zip(samples, is_val, strict=True) if not val]
    if not train:
        raise InputError(f"{folder} holds only val/; put grids to train on beside it.")
    return train, [sample for sample, val in zip(samples, is_val, strict=True) if val]


def load_frames(image: Path, grid: Grid) -> npt.NDArray[np.uint8]:
    """The grid's frames (F, h, w, 3), scaled down to `grid`'s cell each by itself."""
    pixels, facts = load_grid(image)
    packed = facts.grid if facts else _guess(pixels.shape[1], pixels.shape[0], grid, image)
    return split(scale_cells(pixels, packed, grid.cell), grid)


def slot_samples(samples: list[Sample], *, seed: int, first: int, count: int) -> list[Sample]:
    """The samples of slots `first` to `first + count`: shuffled anew each time round.

    A pure function of its arguments, so a run goes on after a stop as if nothing had been.
    """
    chosen = []
    for slot in range(first, first + count):
        round_, place = divmod(slot, len(samples))
        generator = torch.Generator().manual_seed(mix_seed(seed, round_))
        chosen.append(samples[int(torch.randperm(len(samples), generator=generator)[place])])
    return chosen


def mix_seed(*parts: int) -> int:
    """One 64-bit seed out of several numbers; neighbours give unrelated ones."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def _check_layout(image: Path, facts: Facts | None, grid: Grid) -> None:
    if facts is None:
        return  # a grid from elsewhere; its size is checked when it is loaded
    packed = facts.grid
    if (packed.rows, packed.cols, packed.order) != (grid.rows, grid.cols, grid.order):
        raise InputError(
            f"{image} is {packed.rows}x{packed.cols} {packed.order}, the profile's grid is "
            f"{grid.rows}x{grid.cols} {grid.order}; set [grid] to match, or pack again."
        )
    if packed.cell[0] < grid.cell[0] or packed.cell[1] < grid.cell[1]:
        raise InputError(
            f"{image} has cells of {packed.cell[0]}x{packed.cell[1]} and the profile wants "
            f"{grid.cell[0]}x{grid.cell[1]}, which would enlarge them; pack with --cell "
            f"{grid.cell[0]}x{grid.cell[1]}, or set grid.cell lower."
        )


def _guess(width: int, height: int, grid: Grid, image: Path) -> Grid:
    """A grid image without facts is taken to be laid out as the profile says."""
    if width % grid.cols or height % grid.rows:
        raise InputError(
            f"{image} has no gridctl facts, and its {width}x{height} pixels are no "
            f"{grid.rows}x{grid.cols} grid; set [grid] to match."
        )
    cell = (width // grid.cols, height // grid.rows)
    return Grid(rows=grid.rows, cols=grid.cols, cell=cell, order=grid.order)
