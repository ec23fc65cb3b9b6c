"""Flags that several tasks share: their panel, help text and key in the profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

Prompt = Annotated[str | None, typer.Argument(help="What to draw.", show_default=False)]
Prompts = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File with one prompt per line; lines may be JSON with prompt, seed, steps or other "
        "settings. - draws each line of stdin as it comes. -o is then a folder. Existing outputs "
        "are skipped.",
        rich_help_panel="Input",
    ),
]
ClipOutput = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help="Clip to write: .mp4, .webm, .gif, .webp or .apng; .png or .jpg for a grid image; "
        "without a suffix, a folder of PNG frames.",
        rich_help_panel="Output",
    ),
]
ClipInput = Annotated[
    Path,
    typer.Argument(
        help="Video, animation, folder of frames, or grid image that gridctl made.",
        show_default=False,
    ),
]
NumFrames = Annotated[
    int | None,
    typer.Option(
        "--frames",
        metavar="N",
        help="Number of frames of the clip; more than the grid has are drawn as several grids.",
        show_default=False,
        rich_help_panel="Output",
    ),
]
HowLong = Annotated[
    str,
    typer.Option(
        help="How clips longer than the grid are drawn. keyframes: frames over the whole clip "
        "first, then those between. windows: one grid after the other.",
        rich_help_panel="Output",
    ),
]
ManyFrames = Annotated[
    int | None,
    typer.Option(
        "--frames",
        metavar="N",
        help="Take N frames, spread over the clip; more than the grid has are drawn as several "
        "grids.",
        show_default="by --sample",
        rich_help_panel="Input",
    ),
]
PictureOutput = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help="Image to write: .png, .jpg or .webp.",
        rich_help_panel="Output",
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(
        help="Frames per second of the clip.",
        show_default="the adapter's",
        rich_help_panel="Output",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag that sets `key` of the profile; unset, the profile's value counts."""

    key: str
    type: Any
    help: str
    panel: str
    metavar: str | None = None
    default: str | bool = False  # what the help says
    parameter: str | None = None

    @property
    def name(self) -> str:
        """The flag's parameter: the key without its section, unless it has its own name."""
        return self.parameter or self.key.partition(".")[2]

    @property
    def annotation(self) -> Any:
        """What Typer reads."""
        option = typer.Option(
            help=self.help,
            metavar="" if self.type is bool else self.metavar,
            show_default=self.default,
            rich_help_panel=self.panel,
        )
        return Annotated[self.type | None, option]


def _model(key: str, type: Any, help: str, **more: Any) -> Flag:
    return Flag(key=f"model.{key}", type=type, help=help, panel="Model", **more)


def _grid(key: str, type: Any, help: str, **more: Any) -> Flag:
    text = f"{help} The adapter's own if unset."
    return Flag(key=f"grid.{key}", type=type, help=text, panel="Grid", **more)


def _sampling(key: str, type: Any, help: str, **more: Any) -> Flag:
    return Flag(key=f"generate.{key}", type=type, help=help, panel="Sampling", **more)


BASE = (
    _model(
        "base",
        str,
        'Base model: a Hub id, a folder, or "tiny", the built-in model.',
        metavar="ID|FOLDER",
        default="tiny",
    ),
)
ADAPTER = (
    _model(
        "adapter",
        str,
        'LoRA file that draws grids; "none" is the bare base model. tiny has its own.',
        metavar="FILE",
    ),
    _model("adapter_scale", float, "Strength of the adapter; 1 is as trained.", default="1"),
)
GRID = (
    _grid("rows", int, "Rows of the grid."),
    _grid("cols", int, "Columns of the grid."),
    _grid("cell", str, "Size of a frame in pixels.", metavar="WxH"),
    _grid("order", str, "Order of the frames: row-major or serpentine."),
)
SIZE = (
    Flag(
        key="generate.size",
        type=str,
        help="Size of the image in pixels; both sides multiples of 16.",
        panel="Output",
        metavar="WxH",
    ),
)
SAMPLING: tuple[Flag, ...] = (
    _sampling("steps", int, "Number of sampling steps.", default="20"),
    _sampling("seed", int, "Random seed; the n-th prompt uses seed + n - 1.", default="0"),
    _sampling(
        "guidance",
        float,
        "Guidance scale for guidance-distilled models (FLUX.1-dev: 3.5). Leave it at 1 for tiny.",
    ),
    _sampling(
        "true_cfg_scale",
        float,
        "Classifier-free guidance scale for models that were not distilled (tiny: 1.5); 1 disables "
        "it. Other values double the time per step.",
    ),
)
FINE_SAMPLING = tuple(
    Flag(key=f"generate.{key}", type=type, help=help, panel="Fine sampling")
    for key, type, help in (
        (
            "true_cfg_max_sigma",
            float,
            "Largest noise level (0 to 1) at which --true-cfg-scale is used.",
        ),
        (
            "stochastic_min_sigma",
            float,
            "Smallest noise level (0 to 1) at which a step adds fresh noise; 1 is never.",
        ),
        (
            "average_max_sigma",
            float,
            "Largest noise level (0 to 1) at which successive predictions are averaged; 0 is off.",
        ),
        (
            "resample",
            int,
            "How often each step is repeated so that drawn frames meet given ones; 1 is off.",
        ),
    )
)
FAST = (
    Flag(
        key="generate.fast",
        type=bool,
        help="Sample faster: skip blocks that hardly change, or take fewer steps (tiny: 0.6 of "
        "them).",
        panel="Speed",
    ),
)
SPEED = (
    Flag(
        key="generate.compile",
        type=bool,
        help="Compile the transformer's blocks: up to a minute once, then faster grids.",
        panel="Speed",
    ),
    Flag(
        key="model.attention",
        type=str,
        help="Attention kernel: auto, flash, cudnn, efficient or math.",
        panel="Speed",
        default="auto",
    ),
)
FIT = tuple(
    Flag(key=f"pack.{key}", type=str, help=help, panel="Input", metavar=metavar, default=default)
    for key, help, metavar, default in (
        (
            "fit",
            "How a picture is fitted to the frame: crop fills it, pad adds bars, stretch distorts.",
            None,
            "crop",
        ),
        (
            "background",
            "Colour of bars and under transparent pixels; a name or #rrggbb.",
            "COLOUR",
            "black",
        ),
    )
)
SAMPLE = (
    Flag(
        key="pack.sample",
        type=str,
        help="uniform takes one grid of frames, spread over the clip; windows takes all frames, "
        "grid after grid.",
        panel="Input",
        default="uniform",
    ),
)
EDIT = (
    _sampling(
        "edit_strength",
        float,
        "Share of the steps that are run; less keeps more of the clip.",
        default="0.9",
        parameter="strength",
    ),
    _sampling("edit_guidance", float, "Guidance of the prompt; more changes more."),
    _sampling("edit_source_guidance", float, "Guidance of --source-prompt."),
)
RESTORE = (
    _sampling(
        "restore_strength",
        float,
        "Noise level (0 to 1) to draw from; more removes more noise, and more detail.",
        default="0.3",
        parameter="strength",
    ),
)
