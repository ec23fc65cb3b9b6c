"""Captions of the toy world's pictures and clips, in several wordings.

All words are lower case and few, so that a small text encoder can learn them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gridctl.tiny.scene import TURN, Scene
from gridctl.tiny.words import MOTION_WORDINGS

# {thing} has its article; {bare} has none; {on} and {back} word the background.
_CLIPS = (
    "{thing} {motion} {on}",
    "{thing} is {motion} {on}",
    "{on}, {thing} is {motion}",
    "{on}, {thing} {motion}",
    "{thing} {on}, {motion}",
    "{back} with {thing} {motion}",
    "a clip of {thing} {motion} {on}",
    "{motion}: {thing} {on}",
    "the {bare} is {motion} {on}",
    "{bare}, {motion}, {background} background",
)
_TURNS = (
    "a full turn of {thing} {on}",
    "{on}, a full turn of {thing}",
    "{thing} making a full turn {on}",
    "{thing} {on}, seen from all sides",
    "{thing} turning around {on}",
    "all sides of {thing} {on}",
    "{back} with a full turn of {thing}",
    "a turn around {thing} {on}",
    "full turn, {bare}, {background} background",
)
_STILLS = (
    "{thing} {on}",
    "{on}, {thing}",
    "{back} with {thing}",
    "a picture of {thing} {on}",
    "the {bare} {on}",
    "{bare}, {background} background",
    "there is {thing} {on}",
    "{thing}, and the background is {background}",
)
_COLLAGES = (
    "a collage of {count} pictures: {contents}",
    "{count} pictures in a collage: {contents}",
    "a collage with {contents}, {count} pictures",
)
_SHEETS = (
    "{count} pictures of {thing} {on}",
    "a sheet of {count} pictures, {thing} {on}",
    "{on}, a sheet of {count} pictures of {thing}",
    "a sheet with {thing} {on}, {count} pictures",
)
_ON = ("on a {background} background", "in front of a {background} background", "on {background}")
# A flat fill is not mentioned.
_STYLES = {
    "flat": ("{color} {shape}",),
    "outline": ("outlined {color} {shape}", "{color} outlined {shape}", "{color} {shape} outline"),
    "striped": (
        "striped {color} {shape}",
        "{color} striped {shape}",
        "{color} {shape} with stripes",
    ),
    "sketch": ("sketched {color} {shape}", "{color} sketched {shape}", "{color} {shape} sketch"),
}
_LISTED = 4  # contents named in a collage's caption; CLIP reads 77 tokens


def clip_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A wording of the whole clip."""
    return _fill(_pick(_TURNS if scene.kind == "solid" else _CLIPS, rng), scene, rng)


def still_caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """A wording of one frame, without motion or time; the plainest one without `rng`."""
    return _fill(_pick(_STILLS, rng), scene, rng)


def collage_caption(scenes: Sequence[Scene], rng: np.random.Generator) -> str:
    """A wording of unrelated pictures in one image; names at most four, in their order."""
    contents = [_fill("{thing} on {background}", scene, rng) for scene in scenes[:_LISTED]]
    listed = ", ".join(contents)
    return _pick(_COLLAGES, rng).format(count=len(scenes), contents=listed)


def sheet_caption(scene: Scene, count: int, rng: np.random.Generator) -> str:
    """A wording of `count` unrelated pictures of one kind of thing in one image."""
    return _fill(_pick(_SHEETS, rng).replace("{count}", str(count)), scene, rng)


def _fill(template: str, scene: Scene, rng: np.random.Generator | None) -> str:
    bare = _pick(_STYLES[scene.style], rng).format(color=scene.color, shape=scene.shape)
    return template.format(
        bare=bare,
        thing=_with_article(bare),
        motion="" if scene.motion == TURN else _pick(MOTION_WORDINGS[scene.motion], rng),
        on=_pick(_ON, rng).format(background=scene.background),
        back=_with_article(f"{scene.background} background"),
        background=scene.background,
    )


def _pick(choices: Sequence[str], rng: np.random.Generator | None) -> str:
    """A random one of `choices`; the first one without a generator."""
    return choices[0 if rng is None else int(rng.integers(len(choices)))]


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
