"""Jobs: what a task is asked for (`Request`), and a task that is ready to run (`Job`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridctl.errors import InputError, UsageError
from gridctl.generate.steps import Steps
from gridctl.geometry import Grid
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.machine.hub import local_adapter
from gridctl.profile import BUILT_IN, BUILT_IN_ADAPTER, Profile
from gridctl.prompt import grid_prompt, layout_template
from gridctl.text import is_encodable

if TYPE_CHECKING:
    from gridctl.media.images import Picture


def check_text(prompt: str) -> None:
    """Raise UsageError for a prompt that UTF-8 cannot hold: characters of it would be lost."""
    if not is_encodable(prompt):
        shown = prompt.encode("utf-8", "backslashreplace").decode()
        raise UsageError(f"the prompt '{shown}' is not UTF-8; type it again, or save it as UTF-8.")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every task takes: prompts, where the outputs go, and the profile.

    `many` makes `output` a folder with a file for each prompt, numbered from `number` on with
    `digits`. `seeds` has one for each prompt. Without it they count on from the profile's.
    With `best_of` above 1, that many seeds are drawn for each prompt, and the clip with the best
    checks is kept.

    Raises UsageError for a prompt that is not text.
    """

    prompts: tuple[str, ...]
    output: Path
    profile: Profile
    many: bool = False
    seeds: tuple[int, ...] | None = None
    best_of: int = 1
    number: int = 1
    digits: int = 3

    def __post_init__(self) -> None:
        for prompt in self.prompts:
            check_text(prompt)

    def require_prompts(self) -> None:
        """Raise UsageError if a prompt is empty."""
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts):
            raise UsageError("a prompt is empty; say what to draw.")


@dataclass(frozen=True, kw_only=True)
class Output:
    """One file of a job: the whole prompt as the model reads it, the random seed, and the path.

    `content` is the prompt as the user gave it. With the job's `best_of` above 1, that many seeds
    are drawn, from `seed` on.
    """

    prompt: str
    content: str
    seed: int
    path: Path


@dataclass(frozen=True, kw_only=True)
class Job:
    """What `draw` will do: for each output the same grid steps, with its own prompt and seed.

    `references` holds given frames (H, W, 3) of the clip by number. `arguments` are what the task
    was given besides the request; they are recorded in the files. `keep_clean` says that the
    adapter was trained to see given frames without noise.
    """

    task: str
    profile: Profile
    adapter: Path | None
    grid: Grid
    num_frames: int
    fps: float
    steps: Steps
    outputs: tuple[Output, ...]
    references: Mapping[int, Picture] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    keep_clean: bool = False
    best_of: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        """Whether it draws single images, not clips."""
        return self.task == "image"

    @property
    def prompts(self) -> tuple[str, ...]:
        """All whole prompts that the model reads, each once."""
        sources = [step.source_prompt for step in self.steps if step.source_prompt is not None]
        return tuple(dict.fromkeys([*(output.prompt for output in self.outputs), *sources]))

    def to_json(self) -> dict[str, Any]:
        """What `--dry-run --json` prints; `grids` has the frames and the actions of each grid."""
        return {
            "task": self.task,
            "base": self.profile.model.base,
            "adapter": self.adapter and str(self.adapter),
            **self.grid.to_json(),
            "grids": [step.to_json() for step in self.steps],
            "num_frames": self.num_frames,
            "fps": self.fps,
            "outputs": [
                {"output": str(output.path), "prompt": output.prompt, "seed": output.seed}
                for output in self.outputs
            ],
        }

    def __str__(self) -> str:
        lines = [
            f"base     {self.profile.model.base}",
            f"adapter  {self.adapter or 'none'}",
        ]
        for number, step in enumerate(self.steps, start=1):
            label = f"grid {number}/{len(self.steps)}" if len(self.steps) > 1 else "grid"
            lines += [f"{label:<8} {self.grid}:", str(step)]
        if not self.steps:
            lines.append("grid     none: every frame is given")
        for output in self.outputs:
            lines += [f"prompt   {output.prompt}", f"output   {output.path} (seed {output.seed})"]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """The adapter of a profile, with the grid, layout prompt and frame rate that it draws.

    `keep_clean` says whether it was trained to see given frames without noise, `words` are those
    that its captions taught the built-in base.
    """

    adapter: Path | None
    grid: Grid
    layout: str
    fps: float
    keep_clean: bool = False
    words: tuple[str, ...] = ()

    def prompt(self, content: str) -> str:
        """The whole prompt, worded as the adapter's captions were."""
        return grid_prompt(self.grid, content, self.layout, fps=self.fps)


def adapter_settings(profile: Profile) -> AdapterSettings:
    """The adapter's own grid, layout prompt and rate; the profile's if it has none.

    Raises UsageError if the adapter was trained on another grid than the flags ask for, or on
    another base; and what `find_adapter` raises.
    """
    adapter, grid = find_adapter(profile), profile.grid.to_grid()
    metadata = read_adapter_metadata(adapter) if adapter else None
    if metadata is None:
        return AdapterSettings(
            adapter=adapter,
            grid=grid,
            layout=layout_template(profile.caption.layout),
            fps=profile.generate.fps,
        )
    flags = [key for key in ("rows", "cols", "cell", "order") if profile.is_flag(f"grid.{key}")]
    wanted = replace(metadata.grid, **{key: getattr(grid, key) for key in flags})
    if wanted != metadata.grid:
        raise UsageError(
            f"{adapter} was trained on {metadata.grid}, and {wanted} is asked for; leave the grid "
            "to the adapter, or train one for this grid."
        )
    base = profile.model.base
    if BUILT_IN in (metadata.base, base) and metadata.base != base:
        raise UsageError(
            f"{adapter} was trained on {metadata.base}, and the base is {base}; "
            "take a profile with that base, or another adapter."
        )
    return AdapterSettings(
        adapter=adapter,
        grid=metadata.grid,
        layout=metadata.layout,
        fps=metadata.fps,
        keep_clean=bool(metadata.keep),
        words=metadata.words,
    )


def find_adapter(profile: Profile) -> Path | None:
    """The file of the profile's adapter; None for "none", the bare base.

    The built-in base comes with an adapter. Raises UsageError if another base has none,
    InputError if the file is missing.
    """
    name, base = profile.model.adapter, profile.model.base
    if name is None and base == BUILT_IN:
        name = BUILT_IN_ADAPTER
    if name is None:
        raise UsageError(
            f"{base} draws grids only with an adapter; name one with --adapter, or "
            "use --adapter none for the bare base."
        )
    if name == "none":
        return None
    path = local_adapter(name)
    if not path.is_file():
        raise InputError(
            f"{name} is not an adapter file; name one that `gridctl train` has written, or another "
            "FLUX LoRA in safetensors."
        )
    return path
