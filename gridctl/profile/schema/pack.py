"""`[pack]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gridctl.profile.schema.engine import EngineSection
from gridctl.profile.values import Count, Sampling, Seconds, Whole


class PackSection(EngineSection):
    """Videos and folders of frames → grid images."""

    sample: Sampling = Field(
        default="uniform",
        description="Frames to take from a clip. uniform: one grid per clip, its frames spread "
        "over the whole clip. windows: consecutive frames, as many grids as the clip fills. "
        "fps=8: the same at 8 frames a second. scenes: windows that cross no cut.",
    )
    stride: Count = Field(
        default=1,
        description="Step between the frames of a window: 2 takes every second frame. For "
        "windows, fps and scenes.",
    )
    overlap: Whole = Field(
        default=0,
        description="Number of frames that a window shares with the one before. For windows, fps "
        "and scenes.",
    )
    start: Seconds = Field(default=0.0, description="Time in each clip to start at, in seconds.")
    end: Annotated[Seconds, Field(gt=0)] | None = Field(
        default=None,
        description="Time in each clip to stop at, in seconds. Unset is the end of the clip.",
    )
    max_grids: Count | None = Field(
        default=None, description="Most grids to make from one clip. Unset is no limit."
    )
    fit: Literal["crop", "pad", "stretch"] = Field(
        default="crop",
        description="How a frame fills a cell of another shape: crop cuts off the sides, pad adds "
        "bars, stretch distorts.",
    )
    background: str = Field(
        default="black",
        description="Color of bars and of transparent pixels: a name or #rrggbb.",
    )
    tail: Literal["drop", "pad", "error"] = Field(
        default="drop",
        description="Frames left over that do not fill a grid: drop them and say so, pad the grid "
        "with the last frame, or refuse the clip.",
    )
    format: Literal["jpg", "png", "webp"] = Field(
        default="jpg", description="File format of the grid images. png and webp are lossless."
    )
    quality: Annotated[int, Field(ge=1, le=100)] = Field(
        default=95, description="JPEG quality, 1 to 100."
    )
    to: Literal["folder", "webdataset", "parquet"] = Field(
        default="folder",
        description="folder: the dataset folder only. webdataset, parquet: the grids and captions "
        "also as a few large files in a folder beside it, such as vidgrid-webdataset.",
    )
    max_shard_megabytes: Annotated[int, Field(ge=1, le=10**6)] = Field(
        default=500, description="Size limit of each of these files."
    )
    workers: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None,
        description="Number of processes. Unset is one per CPU core. On a Ray cluster: most clips "
        "at a time, where unset is two per core.",
    )
