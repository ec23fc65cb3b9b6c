"""Cases: scenes that training never saw, a prompt for each, and what a task is given of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from gridctl.media.images import Frames
from gridctl.tiny.captions import clip_caption, still_caption
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import Kind, Scene, sample_scene
from gridctl.tiny.words import BACKGROUNDS, COLORS, SHAPES, STYLES

Part = Literal[
    "t2v", "turn", "base", "image", "image+adapter", "vae",
    "i2v", "interpolate", "multiview", "edit", "restore", "long keyframes", "long windows",
]  # fmt: skip
PARTS: tuple[Part, ...] = get_args(Part)
QUICK: tuple[Part, ...] = ("t2v", "image", "vae")
LONG = ("long keyframes", "long windows")
LONG_FRAMES = 96
STILLS = ("image", "image+adapter")
SOLIDS_ONLY = ("turn", "multiview")
# Motions that a clip's first and last frame tell.
_TOLD_BY_ENDS = (
    "moving right", "moving left", "moving up", "moving down", "growing", "shrinking",
)  # fmt: skip
# What an edit changes, in turns; each is scored apart.
EDITS = {
    "color": tuple(COLORS),
    "background": tuple(BACKGROUNDS),
    "shape": SHAPES,
    "style": STYLES,
}
_FLICKER = 0.15  # of the brightness, from frame to frame
_NOISE = 12.0  # 8-bit levels


@dataclass(frozen=True, kw_only=True)
class Case:
    """A scene, and a prompt for it. An edit starts from another scene, `source`, and its prompt."""

    part: Part
    scene: Scene
    prompt: str
    index: int
    source: Scene | None = None
    source_prompt: str = ""

    @property
    def is_still(self) -> bool:
        return self.part in STILLS

    @property
    def changed(self) -> str:
        """The attribute that an edit changes."""
        return tuple(EDITS)[self.index % len(EDITS)]

    def truth(self, count: int, cell: tuple[int, int]) -> Frames:
        """What a perfect model draws, (F, H, W, 3)."""
        return render_clip(self.scene, count, cell)

    def given(self, count: int, cell: tuple[int, int]) -> Frames:
        """The clip that a task changes or takes frames from."""
        frames = render_clip(self.source or self.scene, count, cell)
        return self._degraded(frames) if self.part == "restore" else frames

    def _degraded(self, frames: Frames) -> Frames:
        """With flickering brightness and noise."""
        rng = np.random.default_rng((7, self.index))
        gains = 1 + _FLICKER * rng.uniform(-1, 1, (len(frames), 1, 1, 1))
        noisy = frames * gains + rng.normal(0, _NOISE, frames.shape)
        degraded: Frames = noisy.round().clip(0, 255).astype(np.uint8)
        return degraded


def make_cases(part: Part, count: int, seed: int) -> list[Case]:
    """`count` cases of a part; the first ones are the same for any count."""
    return [_make_case(part, index, seed) for index in range(count)]


def _make_case(part: Part, index: int, seed: int) -> Case:
    rng = np.random.default_rng((seed, index))
    kind: Kind = "solid" if part in SOLIDS_ONLY else "shape"
    scene = sample_scene(rng, kind=kind, held_out=True)
    while part == "interpolate" and scene.motion not in _TOLD_BY_ENDS:
        scene = sample_scene(rng, kind=kind, held_out=True)
    word = still_caption if part in STILLS else clip_caption
    case = Case(part=part, scene=scene, prompt=word(scene, rng), index=index)
    if part != "edit":
        return case
    choices = [name for name in EDITS[case.changed] if name != getattr(scene, case.changed)]
    change: dict[str, Any] = {case.changed: choices[int(rng.integers(len(choices)))]}
    edited = replace(scene, **change)
    # The same wording of both: only the words for what is asked differ.
    state = int(rng.integers(2**32))
    before, after = (clip_caption(s, np.random.default_rng(state)) for s in (scene, edited))
    return replace(case, scene=edited, prompt=after, source=scene, source_prompt=before)
