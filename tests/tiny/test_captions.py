from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gridctl.tiny.captions import (
    clip_caption,
    collage_caption,
    sheet_caption,
    still_caption,
)
from gridctl.tiny.scene import TURN, Scene, sample_scene

SCENE = Scene(kind="shape", shape="circle", color="red", background="black", motion="moving right")
TURNING = Scene(kind="solid", shape="cube", color="orange", background="gray", motion=TURN)
# Whatever tells of time; "still" is there for "standing still".
TIME_WORDS = re.compile(
    r"mov|go|slid|ris|fall|clockwise|circling|grow|get|becom|bigger|smaller|larger|shrink|bounc"
    r"|jump|hop|still|stay|turn|sides|around|clip|to the"
)
seeds = st.integers(0, 2**32 - 1)


def words(caption: str) -> list[str]:
    return re.findall(r"[a-z-]+|\d+", caption)


def test_the_standard_wording() -> None:
    assert still_caption(SCENE) == "a red circle on a black background"


@given(seeds)
def test_captions_name_all_attributes_in_lower_case(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, held_out=None)
    for caption in (clip_caption(scene, rng), still_caption(scene, rng)):
        assert re.fullmatch(r"[a-z,: -]+", caption)
        assert "  " not in caption
        assert {scene.color, scene.shape, scene.background} <= set(words(caption))
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", caption)
        style = {"flat": "", "outline": "outline", "striped": "stripe", "sketch": "sketch"}
        assert style[scene.style] in caption


@given(seeds)
def test_still_captions_know_no_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, held_out=None) for _ in range(6)]
    for caption in (*(still_caption(scene, rng) for scene in scenes), collage_caption(scenes, rng)):
        assert not TIME_WORDS.search(caption)


@given(seeds)
def test_clip_captions_tell_of_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert TIME_WORDS.search(clip_caption(sample_scene(rng), rng))


def test_no_wording_fits_two_motions() -> None:
    rng = np.random.default_rng(0)
    seen: dict[str, str] = {}
    for _ in range(4000):
        motion = sample_scene(rng, kind="shape", held_out=None).motion
        scene = Scene(kind="shape", shape="star", color="pink", background="white", motion=motion)
        assert seen.setdefault(clip_caption(scene, rng), motion) == motion


def test_there_are_many_wordings_of_few_words() -> None:
    rng = np.random.default_rng(0)
    assert len({clip_caption(SCENE, rng) for _ in range(1000)}) >= 40
    assert len({clip_caption(TURNING, rng) for _ in range(1000)}) >= 8
    assert len({still_caption(SCENE, rng) for _ in range(1000)}) >= 8
    vocabulary = set()
    for _ in range(4000):
        scene = sample_scene(rng, held_out=None)
        for caption in (clip_caption(scene, rng), still_caption(scene, rng)):
            vocabulary |= set(words(caption))
            assert len(words(caption)) <= 18
    assert len(vocabulary) < 110


def test_a_collage_counts_all_and_names_four_in_order() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, kind="shape", held_out=None) for _ in range(9)]
    caption = collage_caption(scenes, rng)
    assert "9 pictures" in caption
    named = [word for word in words(caption) if word in {scene.shape for scene in scenes}]
    assert named == [scene.shape for scene in scenes[:4]]
    assert len(words(caption)) <= 50  # CLIP keeps 77 tokens


@given(seeds)
def test_a_sheet_counts_pictures_of_one_kind(seed: int) -> None:
    caption = sheet_caption(SCENE, 6, np.random.default_rng(seed))
    assert "6 pictures" in caption
    assert {"red", "circle", "black"} <= set(words(caption))
    assert not TIME_WORDS.search(caption)
