"""Tables of the other sections, and the profile as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from gridctl.geometry import Grid, Order
from gridctl.profile.settings import (
    Cell,
    Count,
    FilePath,
    Fps,
    Fraction,
    Layout,
    Limits,
    ModelName,
    Name,
    Question,
    Sampling,
    Scale,
    Seconds,
    Section,
    Seed,
    Setting,
    Text,
    Whole,
    setting,
    settings_of,
)
from gridctl.profile.training import MemorySection, ModelSection, TrainSection
from gridctl.prompt import DEFAULT_QUESTION, LAYOUT_FIELDS, LAYOUTS, View

DEFAULT_VLM = "zai-org/GLM-4.1V-9B-Thinking"  # of the kind that the method's authors caption with


@dataclass(frozen=True, kw_only=True)
class GridSection(Section):
    """The grid: how many cells, how large, in which order."""

    rows: Count = setting(4, "Number of cells from top to bottom.")
    cols: Count = setting(6, "Number of cells from left to right.")
    cell: Cell = setting(
        (256, 256), "Size of one cell in pixels, WIDTHxHEIGHT; both multiples of 16."
    )
    order: Order = setting(
        "row-major",
        "Path of the frames through the cells: row-major reads like a page, "
        "serpentine turns around at the end of each row, so that each frame is next to the last.",
    )

    def to_grid(self) -> Grid:
        """The same as a `Grid`."""
        return Grid(rows=self.rows, cols=self.cols, cell=self.cell, order=self.order)


@dataclass(frozen=True, kw_only=True)
class EngineSection(Section):
    """Where the work of a section runs."""

    engine: Literal["local", "ray"] = setting(
        "local",
        "Where the work runs. local: processes on this machine. ray: tasks on a Ray "
        "cluster, or on a Ray that is started for this run.",
    )
    ray_address: Name | None = setting(
        None,
        "Address of the Ray cluster, such as auto or head:6379. Unset starts a Ray on "
        "this machine, unless $RAY_ADDRESS is set.",
    )


@dataclass(frozen=True, kw_only=True)
class PackSection(EngineSection):
    """Videos and folders of frames → grid images."""

    sample: Sampling = setting(
        "uniform",
        "Frames to take from a clip. uniform: one grid per clip, its frames spread "
        "over the whole clip. windows: consecutive frames, as many grids as the clip fills. "
        "fps=8: the same at 8 frames a second. scenes: windows that cross no cut.",
    )
    stride: Count = setting(
        1,
        "Step between the frames of a window: 2 takes every second frame. For "
        "windows, fps and scenes.",
    )
    overlap: Whole = setting(
        0, "Number of frames that a window shares with the one before. For windows, fps and scenes."
    )
    start: Seconds = setting(0.0, "Time in each clip to start at, in seconds.")
    end: Annotated[float, Limits(gt=0, le=1e7)] | None = setting(
        None, "Time in each clip to stop at, in seconds. Unset is the end of the clip."
    )
    max_grids: Count | None = setting(None, "Most grids to make from one clip. Unset is no limit.")
    fit: Literal["crop", "pad", "stretch"] = setting(
        "crop",
        "How a frame fills a cell of another shape: crop cuts off the sides, pad adds "
        "bars, stretch distorts.",
    )
    background: str = setting(
        "black", "Color of bars and of transparent pixels: a name or #rrggbb."
    )
    tail: Literal["drop", "pad", "error"] = setting(
        "drop",
        "Frames left over that do not fill a grid: drop them and say so, pad the grid "
        "with the last frame, or refuse the clip.",
    )
    format: Literal["jpg", "png", "webp"] = setting(
        "jpg", "File format of the grid images. png and webp are lossless."
    )
    quality: Annotated[int, Limits(ge=1, le=100)] = setting(95, "JPEG quality, 1 to 100.")
    to: Literal["folder", "webdataset", "parquet"] = setting(
        "folder",
        "folder: the dataset folder only. webdataset, parquet: the grids and captions "
        "also as a few large files in a folder beside it, such as vidgrid-webdataset.",
    )
    max_shard_megabytes: Annotated[int, Limits(ge=1, le=10**6)] = setting(
        500, "Size limit of each of these files."
    )
    workers: Annotated[int, Limits(ge=1, le=4096)] | None = setting(
        None,
        "Number of processes. Unset is one per CPU core. On a Ray cluster: most clips "
        "at a time, where unset is two per core.",
    )


@dataclass(frozen=True, kw_only=True)
class UnpackSection(Section):
    """Grid images → clips or frames."""

    format: Literal["mp4", "webm", "gif", "webp", "apng", "frames", "jpg"] = setting(
        "mp4",
        "Format of the clips in an output folder. frames is a folder of PNG images "
        "for each clip, jpg a folder of JPEG images. A single clip takes its format from its name.",
    )
    codec: Literal["h264", "hevc", "av1", "vp9"] | None = setting(
        None, "Video codec. mp4: h264, hevc or av1. webm: vp9 or av1. Unset is the first of them."
    )
    crf: Annotated[int, Limits(ge=0, le=63)] | None = setting(
        None,
        "Quality of mp4 and webm: 0 is best, 51 (h264, hevc) or 63 (av1, vp9) is "
        "smallest. Unset is near-lossless.",
    )
    fps: Fps | None = setting(
        None, "Frame rate of the clips. Unset is the rate stored in each grid image."
    )


@dataclass(frozen=True, kw_only=True)
class CaptionSection(EngineSection):
    """Grid images → captions."""

    backend: Literal["template", "vlm", "server"] = setting(
        "template",
        "Source of the content. template: text that is there already. vlm: a "
        "vision-language model on this machine. server: an OpenAI-compatible server.",
    )
    layout: Layout = setting(
        "video",
        "Layout prompt, the sentence that describes the grid: "
        f"{', '.join(LAYOUTS)}, or a sentence with {LAYOUT_FIELDS}.",
    )
    subject: Text | None = setting(
        None, "Content for clips that came without text. vlm and server get it as a hint."
    )
    mapping: FilePath | None = setting(
        None,
        "File with the content of each clip: CSV or JSONL with file_name and text, or "
        'TOML with name = "text".',
    )
    model: ModelName | None = setting(
        None,
        f"Vision-language model. For vlm a Hub id or folder, {DEFAULT_VLM} if unset. "
        "For server the name that the server knows it by.",
    )
    revision: str | None = setting(None, "Branch, tag or commit of the vlm model on the Hub.")
    server: Name | None = setting(
        None, "URL of an OpenAI-compatible server, such as http://localhost:8000/v1."
    )
    prompt: Question = setting(
        DEFAULT_QUESTION,
        "Question for the model. {shown} and {task} stand for sentences that fit the "
        "view and the layout.",
    )
    view: View = setting(
        "grid",
        "What the model sees: the grid as one picture, a few keyframes, or all frames as pictures.",
    )
    keyframes: Count = setting(4, "Number of frames for view = keyframes.")
    image_side: Annotated[int, Limits(ge=16, le=65536)] = setting(
        1536, "Longest side of a picture for the model, in pixels. Larger pictures are scaled down."
    )
    max_tokens: Count = setting(
        1024, "Length limit of an answer in tokens, including what the model thinks aloud."
    )
    batch: Count = setting(4, "Grids that vlm describes at once. Lower it to save memory.")
    concurrency: Annotated[int, Limits(ge=1, le=10000)] = setting(
        8, "Requests to the server at the same time."
    )
    rate: Annotated[float, Limits(gt=0, le=1e6)] | None = setting(
        None, "Most requests per minute. Unset is no limit."
    )
    retries: Annotated[int, Limits(ge=0, le=1000)] = setting(
        6, "Number of times a failed request is repeated, if the failure may pass."
    )
    timeout_seconds: Annotated[float, Limits(gt=0, le=1e7)] = setting(
        120.0, "Seconds to wait for the server before a request is repeated."
    )
    key_variable: Name = setting(
        "OPENAI_API_KEY",
        "Name of the environment variable that holds the server's key. The key itself "
        "is never written.",
    )
    request: dict[str, Any] = setting(
        {}, "Extra fields of each request to the server, such as { temperature = 0.2 }."
    )


@dataclass(frozen=True, kw_only=True)
class GenerateSection(Section):
    """A prompt → a clip."""

    steps: Count = setting(20, "Number of sampling steps. More are slower and cleaner.")
    guidance: Scale = setting(
        3.5,
        "Guidance scale for guidance-distilled models (FLUX.1-dev: 3.5). Models "
        "without it, such as FLUX.1-schnell and tiny, do not use it.",
    )
    true_cfg_scale: Annotated[float, Limits(ge=1, le=100)] = setting(
        1.0,
        "Classifier-free guidance scale. 1 disables it. Other values double the time "
        "per step. For models that are not guidance-distilled, such as tiny.",
    )
    true_cfg_max_sigma: Annotated[float, Limits(gt=0, le=1)] = setting(
        1.0, "Largest noise level (sigma, 0 to 1) at which true_cfg_scale is used. 1 is always."
    )
    stochastic_min_sigma: Fraction = setting(
        1.0,
        "Smallest noise level (sigma, 0 to 1) at which a step adds fresh noise. It "
        "lets the sampler correct early errors. 1 is never, 0 is in every step.",
    )
    average_max_sigma: Fraction = setting(
        0.0,
        "Largest noise level (sigma, 0 to 1) at which the predictions of successive "
        "stochastic steps are averaged. It makes clips steadier. 0 is off.",
    )
    resample: Annotated[int, Limits(ge=1, le=100)] = setting(
        1,
        "How often each sampling step is repeated to make drawn frames meet kept ones "
        "(time travel). 1 is off; 2 doubles the time. For adapters that were not trained with "
        "clean cells.",
    )
    edit_strength: Fraction = setting(
        0.9,
        "Share of the sampling steps that `generate edit` runs, the last ones. Less "
        "keeps more of the clip.",
    )
    edit_guidance: Scale = setting(
        5.5,
        "Guidance scale of the new prompt in `generate edit`. It replaces "
        "true_cfg_scale where that is set, otherwise guidance. Higher values change more.",
    )
    edit_source_guidance: Scale = setting(
        1.5,
        "Guidance scale of the source prompt, which says what the clip shows; used "
        "like edit_guidance.",
    )
    restore_strength: Annotated[float, Limits(gt=0, lt=1)] = setting(
        0.3,
        "Noise level (sigma) from which `generate restore` draws a clip again. More "
        "removes more noise, and more detail.",
    )
    fast: bool = setting(
        False,
        "Sample faster: skip blocks that hardly change (FirstBlockCache), or take 0.6 "
        "of the steps where steps add fresh noise (stochastic_min_sigma below 1).",
    )
    compile: bool = setting(
        False,
        "Compile the transformer's blocks (torch.compile): up to a minute once, then "
        "less time a grid. Needs a C++ compiler.",
    )
    seed: Seed = setting(0, "Random seed. The n-th of several prompts uses seed + n - 1.")
    fps: Fps = setting(8.0, "Frames per second of a clip, if the adapter does not say.")
    size: Cell = setting(
        (1024, 1024), "Size of a single image in pixels, WIDTHxHEIGHT; both multiples of 16."
    )
    max_mu: Annotated[float, Limits(gt=0, le=100)] | None = setting(
        None,
        "Limit of the schedule's time shift (mu), which grows with the size of the "
        "grid. Unset is no limit.",
    )


@dataclass(frozen=True, kw_only=True)
class BenchSection(Section):
    """Benchmarks."""

    repeats: Count = setting(5, "Runs of each measurement. The median is reported.")


@dataclass(frozen=True, kw_only=True)
class Profile(Section):
    """One frozen profile: what every command takes its values from.

    `origins` says where the value of each dotted key comes from: "flag", a file, a shipped
    profile's name, "preset 24gb" or "default". It is empty if no profile was loaded.
    """

    grid: GridSection = setting(
        GridSection(), "Shape of the grid, which is one image of many frames."
    )
    model: ModelSection = setting(ModelSection(), "Base model, and the adapter on top of it.")
    memory: MemorySection = setting(MemorySection(), "How the model fits into memory.")
    pack: PackSection = setting(PackSection(), "Videos and folders of frames → grid images.")
    unpack: UnpackSection = setting(UnpackSection(), "Grid images → clips or frames.")
    caption: CaptionSection = setting(CaptionSection(), "Grid images → captions.")
    train: TrainSection = setting(TrainSection(), "Captioned grids → a LoRA adapter.")
    generate: GenerateSection = setting(GenerateSection(), "Prompts → clips and images.")
    bench: BenchSection = setting(BenchSection(), "Benchmarks.")
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def is_set(self, key: str) -> bool:
        """Whether a flag, a file or a preset sets a dotted key."""
        return self.origins.get(key, "default") != "default"

    def is_flag(self, key: str) -> bool:
        """Whether a flag sets a dotted key."""
        return self.origins.get(key) == "flag"

    def with_values(self, values: Mapping[str, Any]) -> Profile:
        """The profile with other values by dotted key. They are not checked."""
        sections: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = value
        changed = {name: replace(getattr(self, name), **keys) for name, keys in sections.items()}
        return replace(self, **changed)


def find_setting(key: str) -> Setting:
    """The row of a dotted key, such as generate.steps. Raises KeyError if there is none."""
    rows = {
        f"{section.key}.{row.key}": row
        for section in settings_of(Profile)
        for row in settings_of(section.kind)
    }
    return rows[key]
