"""Tables of `[grid]`, `[pack]`, `[unpack]` and `[caption]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from gridctl.formats import CLIP_FORMATS, CODECS, PICTURE_FORMATS
from gridctl.geometry import Grid, Order
from gridctl.profile.settings import (
    Cell,
    Choice,
    Count,
    FilePath,
    Fps,
    Layout,
    Limits,
    ModelName,
    Name,
    Question,
    Sampling,
    Section,
    Text,
    Time,
    Whole,
    setting,
)
from gridctl.prompt import DEFAULT_QUESTION, LAYOUT_FIELDS, LAYOUTS, View

DEFAULT_VLM = "zai-org/GLM-4.1V-9B-Thinking"  # of the kind that the method's authors caption with


@dataclass(frozen=True, kw_only=True)
class GridSection(Section):
    """The grid: how many cells, how large, in which order."""

    rows: Count = setting(4, "Number of cells from top to bottom.", panel="Grid")
    cols: Count = setting(6, "Number of cells from left to right.", panel="Grid")
    cell: Cell = setting(
        (256, 256), "Size of one cell in pixels; both sides multiples of 16.", panel="Grid"
    )
    order: Order = setting(
        "row-major",
        "Path of the frames through the cells. row-major reads like a page. serpentine turns "
        "around at the end of each row, so that each frame is next to the last.",
        panel="Grid",
    )

    def to_grid(self) -> Grid:
        """The same as a `Grid`."""
        return Grid(rows=self.rows, cols=self.cols, cell=self.cell, order=self.order)


@dataclass(frozen=True, kw_only=True)
class EngineSection(Section):
    """Where the work of a section runs."""

    engine: Literal["local", "ray"] = setting(
        "local",
        "Where the work runs. local: processes on this machine. ray: tasks on a Ray cluster.",
        panel="Run",
    )
    ray_address: Name | None = setting(
        None,
        "Address of the Ray cluster, such as auto or head:6379. Unset starts a Ray on this "
        "machine, unless $RAY_ADDRESS is set.",
        panel="Run",
        metavar="ADDRESS",
    )


@dataclass(frozen=True, kw_only=True)
class PackSection(EngineSection):
    """Videos and folders of frames → grid images."""

    sample: Sampling = setting(
        "uniform",
        "Frames to take from a clip. uniform: one grid per clip, its frames spread over the whole "
        "clip. windows: consecutive frames, as many grids as the clip fills. fps=8: the same at 8 "
        "frames a second. scenes: windows that cross no cut.",
        panel="Sampling",
    )
    stride: Count = setting(
        1,
        "Step between the frames of a window: 2 takes every second frame.",
        unit="frames",
        panel="Sampling",
    )
    overlap: Whole = setting(
        0,
        "Number of frames that a window shares with the one before.",
        unit="frames",
        panel="Sampling",
    )
    start: Time = setting(0.0, "Time in each clip to start at.", panel="Input")
    end: Time | None = setting(
        None, "Time in each clip to stop at. Unset is the end of the clip.", panel="Input"
    )
    max_grids: Count | None = setting(
        None,
        "Maximum number of grids per clip. Unset is no limit.",
        unit="grids",
        panel="Sampling",
    )
    fit: Literal["crop", "pad", "stretch"] = setting(
        "crop",
        "How a frame fills a cell of another shape: crop cuts off the sides, pad adds bars, "
        "stretch distorts.",
        panel="Grid",
    )
    background: str = setting(
        "black",
        "Color of bars and of transparent pixels: a name or #rrggbb.",
        panel="Grid",
        metavar="COLOR",
    )
    tail: Literal["drop", "pad", "error"] = setting(
        "drop",
        "Frames left over that do not fill a grid: drop them and say so, pad the grid with the "
        "last frame, or report an error.",
        panel="Sampling",
    )
    format: Annotated[str, Choice(PICTURE_FORMATS)] = setting(
        "jpg", "File format of the grid images. png and webp are lossless.", panel="Output"
    )
    quality: Annotated[int, Limits(ge=1, le=100)] = setting(
        95, "JPEG quality, 1 to 100.", panel="Output"
    )
    to: Literal["folder", "webdataset", "parquet"] = setting(
        "folder",
        "Storage of the grids. folder: image files. webdataset, parquet: also a few large files "
        "in a folder beside it, such as vidgrid-webdataset, with the captions that exist by then.",
        panel="Output",
    )
    max_shard_megabytes: Annotated[int, Limits(ge=1, le=10**6)] = setting(
        500,
        "Size limit of each large file, in megabytes.",
        panel="Output",
        metavar="MB",
    )
    workers: Annotated[int, Limits(ge=1, le=4096)] | None = setting(
        None,
        "Number of processes. Unset is one per CPU core. On a Ray cluster: maximum number of clips "
        "at a time; unset is two per core.",
        panel="Run",
    )


@dataclass(frozen=True, kw_only=True)
class UnpackSection(Section):
    """Grid images → clips or frames."""

    format: Annotated[str, Choice(CLIP_FORMATS)] = setting(
        "mp4",
        "Format of the clips in an output folder: mp4, webm, gif, webp, apng, frames (a folder of "
        "PNG images per clip) or jpg (a folder of JPEG images). A single clip takes its format "
        "from its name.",
        panel="Output",
    )
    codec: Annotated[str, Choice(tuple(CODECS))] | None = setting(
        None,
        "Video codec. mp4: h264, hevc or av1. webm: vp9 or av1. Unset is the first of them.",
        panel="Output",
    )
    crf: Annotated[int, Limits(ge=0, le=63)] | None = setting(
        None,
        "Quality of mp4 and webm: 0 is best, 51 (h264, hevc) or 63 (av1, vp9) is smallest. Unset "
        "is near-lossless.",
        panel="Output",
    )
    fps: Fps | None = setting(
        None,
        "Frames per second of the clips. Unset is the rate stored in each grid image.",
        panel="Output",
    )


@dataclass(frozen=True, kw_only=True)
class CaptionSection(EngineSection):
    """Grid images → captions."""

    backend: Literal["template", "vlm", "server"] = setting(
        "template",
        "Source of the content. template: existing text. vlm: a vision-language model on this "
        "machine. server: an OpenAI-compatible server.",
        panel="Model",
    )
    layout: Layout = setting(
        "video",
        "Layout prompt, the sentence that describes the grid: "
        f"{', '.join(LAYOUTS)}, or a sentence with {LAYOUT_FIELDS}.",
        panel="Content",
    )
    subject: Text | None = setting(
        None,
        "Content for clips that came without text. vlm and server get it as a hint.",
        panel="Content",
    )
    mapping: FilePath | None = setting(
        None,
        "File with the content of each clip: CSV or JSONL with file_name and text, or TOML with "
        'name = "text".',
        panel="Content",
        metavar="FILE",
    )
    model: ModelName | None = setting(
        None,
        f"Vision-language model. For vlm a Hub id or folder; unset is {DEFAULT_VLM}. "
        "For server the name that the server knows it by.",
        panel="Model",
        metavar="ID|FOLDER",
    )
    revision: str | None = setting(None, "Branch, tag or commit of the vlm model on the Hub.")
    server: Name | None = setting(
        None,
        "URL of an OpenAI-compatible server, such as http://localhost:8000/v1. As a flag it "
        "implies --backend server. The key is read from $OPENAI_API_KEY.",
        panel="Server",
        metavar="URL",
    )
    prompt: Question = setting(
        DEFAULT_QUESTION,
        "Question for the model. {shown} and {task} stand for sentences that fit the view and the "
        "layout.",
        panel="Model",
    )
    view: View = setting(
        "grid",
        "What the model sees: the grid as one picture, a few keyframes, or all frames as pictures.",
        panel="Model",
    )
    keyframes: Count = setting(4, "Number of frames for view = keyframes.", unit="frames")
    image_side: Annotated[int, Limits(ge=16, le=65536)] = setting(
        1536,
        "Longest side of a picture for the model. Larger pictures are scaled down.",
        unit="pixels",
    )
    max_tokens: Count = setting(
        1024, "Length limit of an answer, including what the model thinks aloud.", unit="tokens"
    )
    batch: Count = setting(
        4, "Grids that vlm describes at once. Lower it to save memory.", unit="grids"
    )
    concurrency: Annotated[int, Limits(ge=1, le=10000)] = setting(
        8, "Number of requests to the server at the same time.", panel="Server"
    )
    rate: Annotated[float, Limits(gt=0, le=1e6)] | None = setting(
        None, "Maximum number of requests per minute. Unset is no limit.", panel="Server"
    )
    retries: Annotated[int, Limits(ge=0, le=1000)] = setting(
        6, "Number of times a request is repeated after a failure that may be temporary."
    )
    timeout_seconds: Annotated[float, Limits(gt=0, le=1e7)] = setting(
        120.0, "Time to wait for the server before a request is repeated.", unit="seconds"
    )
    key_variable: Name = setting(
        "OPENAI_API_KEY",
        "Name of the environment variable that holds the server's key. The key itself is never "
        "written.",
    )
    request: dict[str, Any] = setting(
        {}, "Extra fields of each request to the server, such as { temperature = 0.2 }."
    )
