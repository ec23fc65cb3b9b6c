"""Animations keep every frame and its time."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gridctl.media.open import open_clip
from gridctl.media.write import write_clip
from tests.media.clips import picture_book


def test_gif_keeps_frames_and_duration(tmp_path: Path) -> None:
    write_clip(picture_book(), tmp_path / "clip.gif", fps=7)
    with Image.open(tmp_path / "clip.gif") as gif:
        assert gif.n_frames == 5
        assert gif.info["loop"] == 0
        milliseconds = 0
        for k in range(5):
            gif.seek(k)
            milliseconds += gif.info["duration"]
            color = np.asarray(gif.convert("RGB"))[4, 4].astype(int)
            assert np.abs(color - picture_book()[k, 4, 4]).max() <= 8
    assert milliseconds == pytest.approx(5000 / 7, abs=10)


@pytest.mark.parametrize("kind", ["gif", "webp", "apng"])
@pytest.mark.parametrize("fps", [7.0, 25.0])
@pytest.mark.parametrize(
    "runs", [(4, 4, 4), (1, 3, 1, 1, 2), (12,), (1, 1, 1), (5, 1)], ids=lambda runs: str(len(runs))
)
def test_equal_frames_stay_frames_of_their_own(
    tmp_path: Path, kind: str, fps: float, runs: tuple[int, ...]
) -> None:
    book = picture_book(len(runs), width=47, height=31)
    frames = np.repeat(book, runs, axis=0)
    path = tmp_path / f"clip.{kind}"
    write_clip(frames, path, fps=fps)
    with Image.open(path) as image:
        assert image.n_frames == len(frames)
        for number, frame in enumerate(frames):
            image.seek(number)
            shown = np.asarray(image.convert("RGB")).astype(int)
            assert np.abs(shown - frame).max() <= (8 if kind == "gif" else 0)
    with av.open(str(path)) as container:
        if kind != "webp":  # FFmpeg before 8.1 does not read animated WebP
            assert sum(1 for _ in container.decode(video=0)) == len(frames)
    clip = open_clip(path)
    ends = [*clip.times_seconds, clip.duration_seconds]
    assert ends == pytest.approx(np.arange(len(frames) + 1) / fps, abs=0.011)


@pytest.mark.parametrize(("kind", "seconds"), [("gif", 0.02), ("webp", 0.011), ("apng", 0.011)])
def test_steps_are_no_shorter_than_browsers_play(tmp_path: Path, kind: str, seconds: float) -> None:
    write_clip(picture_book(), tmp_path / f"fast.{kind}", fps=500)
    assert np.diff(open_clip(tmp_path / f"fast.{kind}").times_seconds) == pytest.approx(seconds)
