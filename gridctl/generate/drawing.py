"""A drawing: a task that is ready to run, and what `--dry-run` shows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridctl.diffusion.plan import Plan
from gridctl.errors import UsageError
from gridctl.profile import Profile
from gridctl.text import is_encodable

if TYPE_CHECKING:
    from gridctl.generate.studio import Studio
    from gridctl.media.images import Frames


Make = Callable[["Studio", "Shot"], "Frames"]


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
    `insist` has the fields of `Grid` that the user set: an adapter with another grid is refused.
    `fps` plays clips at another rate than the adapter's. With `best_of` above 1, that many seeds
    are drawn for each prompt, and the clip with the best checks is kept.

    Raises UsageError for a prompt that is not text.
    """

    prompts: tuple[str, ...]
    output: Path
    profile: Profile
    many: bool = False
    seeds: tuple[int, ...] | None = None
    insist: Mapping[str, Any] = field(default_factory=dict)
    fps: float | None = None
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
class Shot:
    """One output: the whole prompt as the model reads it, the random seed, and the file.

    `content` is the prompt as the user gave it, and `arguments` are what the task was given
    besides the request; both are recorded in the file. With `best_of` above 1, that many seeds
    are drawn, from `seed` on. `make` draws it in place of the drawing's.
    """

    prompt: str
    seed: int
    output: Path
    content: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    best_of: int = 1
    make: Make | None = None


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What `draw` will do.

    `make` draws the frames (F, H, W, 3) of a shot with a loaded model, and `write` writes
    them to its output, with a record of how they were made. `prompts` are further whole prompts
    that `make` needs. A shot is `num_grids` grids, and `plan` is that of the first one.
    `reference` (F, H, W, 3) holds a frame for each of its cells, of which the plan keeps some or
    starts from them. `frames` are the numbers of its cells in the clip, counted from 0.
    """

    task: str
    plan: Plan
    shots: tuple[Shot, ...]
    make: Make
    write: Callable[[Drawing, Shot, Frames, str, bool], None]
    adapter: Path | None
    fps: float
    profile: Profile
    many: bool = False
    reference: Frames | None = None
    keep_clean: bool = False
    prompts: tuple[str, ...] = ()
    num_grids: int = 1
    frames: Sequence[int] = ()  # empty: the first ones
    notes: tuple[str, ...] = ()

    @property
    def cell_frames(self) -> Sequence[int]:
        """The clip's frame in each cell of the first grid."""
        return self.frames or range(self.plan.grid.num_frames)

    def to_json(self) -> dict[str, Any]:
        """What `--dry-run --json` prints.

        `frames` and `release` are the number and the strength of each cell of the first grid.
        """
        return {
            "task": self.task,
            "base": self.profile.model.base,
            "adapter": self.adapter and str(self.adapter),
            **self.plan.grid.to_json(),
            "grids": self.num_grids,
            "frames": list(self.cell_frames),
            "release": list(self.plan.release),
            "fps": self.fps,
            "outputs": [
                {"output": str(shot.output), "prompt": shot.prompt, "seed": shot.seed}
                for shot in self.shots
            ],
        }

    def __str__(self) -> str:
        lines = [
            f"base     {self.profile.model.base}",
            f"adapter  {self.adapter or 'none'}",
            f"grid     {self.plan}",
        ]
        if self.num_grids > 1:
            numbers = ", ".join(map(str, self.cell_frames))
            lines.append(f"grids    {self.num_grids}; this is the first, of frames {numbers}")
        for shot in self.shots:
            lines += [f"prompt   {shot.prompt}", f"output   {shot.output} (seed {shot.seed})"]
        return "\n".join(lines)


def combine(drawings: Sequence[Drawing]) -> Drawing:
    """Drawings of one task with one model as a single one, so that it is loaded once.

    They differ in their shots, references and prompts only.
    """
    return replace(
        drawings[0],
        shots=tuple(
            replace(shot, make=drawing.make) for drawing in drawings for shot in drawing.shots
        ),
        many=True,
        prompts=tuple(prompt for drawing in drawings for prompt in drawing.prompts),
        notes=tuple(dict.fromkeys(note for drawing in drawings for note in drawing.notes)),
    )
