"""A drawing: a task that is ready to run, and what `--dry-run` shows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridctl.errors import UsageError
from gridctl.flux.plan import Plan
from gridctl.profile import Profile

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio
    from gridctl.media.images import Frames


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every task takes: prompts, where the outputs go, and the profile.

    `many` makes `output` a folder, with a file for each prompt. `insist` holds the fields of
    `Grid` that the user set; a grid of the adapter that differs in them is refused. `fps`
    plays clips at another rate than the adapter's.

    Raises UsageError for an empty prompt.
    """

    prompts: tuple[str, ...]
    output: Path
    profile: Profile
    many: bool = False
    insist: Mapping[str, Any] = field(default_factory=dict)
    fps: float | None = None

    def __post_init__(self) -> None:
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts):
            raise UsageError("a prompt is empty; say what to draw.")


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One output: the whole prompt as the model reads it, the random seed, and the file."""

    prompt: str
    seed: int
    output: Path


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What `draw` will do.

    `make` draws the frames (F, H, W, 3) of a shot with a loaded model, and `write` writes
    them to its output.
    """

    task: str
    plan: Plan
    shots: tuple[Shot, ...]
    make: Callable[[Studio, Shot], Frames]
    write: Callable[[Frames, Path, float, bool], None]
    adapter: Path | None
    fps: float
    profile: Profile
    many: bool = False
    learned: tuple[str, ...] = ()  # words that the adapter's captions taught the base

    def __str__(self) -> str:
        lines = [
            f"base     {self.profile.model.base}",
            f"adapter  {self.adapter or 'none'}",
            f"grid     {self.plan}",
        ]
        for shot in self.shots:
            lines += [f"prompt   {shot.prompt}", f"output   {shot.output} (seed {shot.seed})"]
        return "\n".join(lines)
