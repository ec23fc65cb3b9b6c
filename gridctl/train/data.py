"""What a run trains on: the stages of its curriculum, and the captioned grids of each."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gridctl.dataset.captions import Captioned, find_faults, refuse_useless_captions
from gridctl.dataset.fetch import as_folder, local_folder
from gridctl.dataset.folder import caption_path, list_grids, read_caption
from gridctl.dataset.grid_image import load_grid, load_metadata, scale_cells, split
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError, UsageError, counted
from gridctl.geometry import Grid
from gridctl.models.hub import text_limits
from gridctl.profile import Profile, StageSection, TrainSection
from gridctl.progress import Progress, silent
from gridctl.prompt import DEFAULT_LAYOUT, layout_prompt

_MAX_EXCLUDED = 0.1  # share of a dataset; more looks like a mistake


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of a run.

    `data` is a dataset folder on this machine: storage and shards were copied to the cache.
    Learning rate and temporal weight are (start, end) of straight lines. `batch_size` counts
    the grids of a forward pass, `accumulate` the passes of a step.
    """

    data: Path
    grid: Grid
    steps: int
    batch_size: int
    accumulate: int
    learning_rates: tuple[float, float]
    temporal_weights: tuple[float, float]
    logit_mean: float

    @property
    def slots(self) -> int:
        """Grids per optimizer step."""
        return self.batch_size * self.accumulate

    @property
    def has_ramp(self) -> bool:
        """Whether a step's values depend on how long the stage is."""
        return any(start != end for start, end in (self.learning_rates, self.temporal_weights))

    def learning_rate(self, step: int) -> float:
        """Learning rate at `step` of this stage, counted from 0."""
        return self._between(self.learning_rates, step)

    def temporal_weight(self, step: int) -> float:
        """Weight of the temporal loss at `step` of this stage, counted from 0."""
        return self._between(self.temporal_weights, step)

    def _between(self, ends: tuple[float, float], step: int) -> float:
        return ends[0] + (ends[1] - ends[0]) * step / max(1, self.steps - 1)


def resolve_stages(train: TrainSection, grid: Grid, *, progress: Progress = silent) -> list[Stage]:
    """The profile's stages, with [train] and [grid] for the keys that a stage leaves out.

    A run without stages has one. Raises UsageError for a stage without data, or a last stage
    whose cells are not the grid's: the adapter draws cells of that size.
    """
    stages = []
    for stage in train.stages or (StageSection(),):
        data = stage.data or train.data
        if data is None:
            raise UsageError(
                "train.data is not set; name the dataset folder in the profile, or with --data."
            )
        rate = stage.learning_rate or train.learning_rate
        weight = _set_or(stage.temporal_weight, train.temporal_weight)
        stages.append(
            Stage(
                data=local_folder(as_folder(data), progress=progress),
                grid=replace(grid, cell=stage.cell or grid.cell),
                steps=stage.steps or train.steps,
                batch_size=stage.batch_size or train.batch_size,
                accumulate=stage.accumulate or train.accumulate,
                learning_rates=(rate, _set_or(stage.learning_rate_end, rate)),
                temporal_weights=(weight, _set_or(stage.temporal_weight_end, weight)),
                logit_mean=_set_or(stage.logit_mean, train.logit_mean),
            )
        )
    if stages[-1].grid != grid:
        width, height = stages[-1].grid.cell
        raise UsageError(
            f"the last stage trains cells of {width}x{height}, and grid.cell is "
            f"{grid.cell[0]}x{grid.cell[1]}; the adapter draws cells of the last stage's size, so "
            "make them equal."
        )
    return stages


def _set_or(value: float | None, default: float) -> float:
    """`value`, which may be 0, or `default` if it is not set."""
    return default if value is None else value


def stage_at(stages: Sequence[Stage], step: int) -> tuple[int, int]:
    """(index of the stage, step within it) of a run's `step`."""
    for index, stage in enumerate(stages):
        if step < stage.steps:
            return index, step
        step -= stage.steps
    raise IndexError(f"step {step} past the last stage")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A grid image with its captions and metadata; `digest` is the SHA-256 of the image file.

    Each line of the caption file is a caption. `contents` are the captions without the layout
    prompt: they also describe a single frame.
    """

    image: Path
    captions: tuple[str, ...]
    contents: tuple[str, ...]
    metadata: GridMetadata | None
    digest: str


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A grid image that cannot be trained on, with the remedy."""

    image: Path
    reason: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder's grids: for training, for validation (its `val/`), and the excluded ones."""

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    excluded: tuple[Exclusion, ...]

    @property
    def fps(self) -> float | None:
        """The median rate of the packed frames; None if no image has metadata."""
        rates = [sample.metadata.fps for sample in self.train if sample.metadata]
        return statistics.median(rates) if rates else None

    def __str__(self) -> str:
        """The dataset in one line, for the user."""
        parts = [f"{counted(len(self.train), 'grid')} to train on"]
        if self.validation:
            parts.append(f"{len(self.validation)} to validate on")
        extra = sum(len(sample.captions) - 1 for sample in self.train)
        if extra:
            parts.append(f"{extra + len(self.train)} captions")
        if self.fps:
            frames = statistics.median(s.metadata.num_frames for s in self.train if s.metadata)
            parts.append(f"{self.fps:.3g} frames a second, {frames / self.fps:.1f} seconds a grid")
        if same := len(self.train) - len({sample.digest for sample in self.train}):
            parts.append(f"{same} of them copies of others")
        if self.excluded:
            parts.append(f"{counted(len(self.excluded), 'grid')} left out: {_why(self.excluded)}")
        return ", ".join(parts)


def read_dataset(
    folder: Path, grid: Grid, *, layout: str = DEFAULT_LAYOUT, progress: Progress = silent
) -> Dataset:
    """Read and check the grids of a dataset folder, to be trained on as `grid`.

    `layout` is the template of the layout prompt that captions begin with. A few grids that
    cannot be used are excluded.

    Raises InputError if more than a tenth cannot be used, or if none are left to train on.
    """
    images = list_grids(folder)
    samples: list[Sample] = []
    excluded: list[Exclusion] = []
    with ThreadPoolExecutor(4) as pool:
        read = pool.map(lambda image: _read_sample(image, grid, layout, folder), images)
        for done, found in enumerate(read, start=1):
            progress(done, len(images), "reading grids")
            if isinstance(found, Sample):
                samples.append(found)
            else:
                excluded.append(found)
    if len(excluded) > _MAX_EXCLUDED * len(images):
        raise InputError(
            f"{len(excluded)} of {len(images)} grids in {folder} cannot be trained on: "
            f"{_why(excluded)}."
        )
    train: list[Sample] = []
    val: list[Sample] = []
    for sample in samples:
        (val if sample.image.relative_to(folder).parts[0] == "val" else train).append(sample)
    if not train:
        raise InputError(f"{folder} has grids in val/ only; put grids to train on beside it.")
    return Dataset(train=tuple(train), validation=tuple(val), excluded=tuple(excluded))


def check_captions(datasets: Sequence[Dataset], profile: Profile) -> list[str]:
    """List the faults of captions, a line each.

    Raises InputError for captions that are not worth training on.
    """
    layout = profile.caption.layout
    samples = {s.image: s for d in datasets for s in (*d.train, *d.validation)}
    grids = [
        Captioned(image=sample.image, text="\n".join(sample.captions), metadata=sample.metadata)
        for sample in samples.values()
    ]
    refuse_useless_captions(grids, layout=layout)
    faults = find_faults(grids, layout=layout, limit=text_limits(profile).whole)
    return [f"{caption_path(image)}: {fault}" for image, fault in faults]


def load_frames(image: Path, grid: Grid) -> npt.NDArray[np.uint8]:
    """The frames of a grid image (F, h, w, 3), each scaled down on its own to `grid`'s cell.

    Without metadata the image is assumed to have `grid`'s rows, columns and order. Raises
    InputError if its size does not fit that.
    """
    pixels, metadata = load_grid(image)
    if metadata:
        packed = metadata.grid
    else:
        height, width = pixels.shape[:2]
        if width % grid.cols or height % grid.rows:
            raise InputError(
                f"{image} has no gridctl metadata, and its {width}x{height} pixels are not a "
                f"{grid.rows}x{grid.cols} grid; set [grid] to match."
            )
        packed = replace(grid, cell=(width // grid.cols, height // grid.rows))
    return split(scale_cells(pixels, packed, grid.cell), grid)


def _read_sample(image: Path, grid: Grid, layout: str, folder: Path) -> Sample | Exclusion:
    try:
        caption, metadata = read_caption(image), load_metadata(image)
        state = image.stat()
        digest = _digest(image, state.st_size, state.st_mtime_ns)
    except (InputError, OSError) as error:
        return Exclusion(image=image, reason="that cannot be read", remedy=str(error).rstrip("."))
    if caption is None:
        return Exclusion(
            image=image, reason="without a caption", remedy=f"run `gridctl caption {folder}`"
        )
    if metadata and (misfit := _misfit(image, metadata.grid, grid)):
        return misfit
    captions = tuple(line.strip() for line in caption.splitlines() if line.strip())
    opening = layout_prompt(grid, layout, fps=metadata.fps if metadata else 1.0)
    return Sample(
        image=image,
        captions=captions,
        contents=tuple(text.removeprefix(opening).strip() for text in captions),
        metadata=metadata,
        digest=digest,
    )


@cache  # several stages may use one folder
def _digest(image: Path, size: int, modified: int) -> str:
    """SHA-256 of a file. A changed file has another `size` or `modified`, and is read again."""
    return hashlib.sha256(image.read_bytes()).hexdigest()


def _misfit(image: Path, packed: Grid, grid: Grid) -> Exclusion | None:
    """The reason why an image packed as `packed` cannot be trained on as `grid`, if any."""
    if (packed.rows, packed.cols, packed.order) != (grid.rows, grid.cols, grid.order):
        return Exclusion(
            image=image,
            reason="of another layout",
            remedy=f"it is {packed.rows}x{packed.cols} {packed.order} and the profile's grid is "
            f"{grid.rows}x{grid.cols} {grid.order}; set [grid] to match, or pack again",
        )
    if packed.cell[0] < grid.cell[0] or packed.cell[1] < grid.cell[1]:
        wanted = f"{grid.cell[0]}x{grid.cell[1]}"
        return Exclusion(
            image=image,
            reason="with cells that are too small",
            remedy=f"{packed.cell[0]}x{packed.cell[1]} would be enlarged to {wanted}; pack with "
            f"--cell {wanted}, or set grid.cell lower",
        )
    return None


def _why(excluded: Iterable[Exclusion]) -> str:
    """The reasons, each with its count and an example; the most frequent one first."""
    ordered = sorted(excluded, key=lambda exclusion: exclusion.reason)
    groups = [list(group) for _, group in groupby(ordered, key=lambda e: e.reason)]
    groups.sort(key=len, reverse=True)
    return "; ".join(
        f"{len(group)} {group[0].reason}, such as {group[0].image.name} ({group[0].remedy})"
        for group in groups
    )
