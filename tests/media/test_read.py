import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gridctl.errors import InputError
from gridctl.geometry import Grid
from gridctl.media.read import (
    IMAGE_SEQUENCE_FPS,
    image_files,
    natural_key,
    read_frames,
    sample_indices,
)

GRID = Grid(rows=2, cols=3, cell=(32, 16))


def make_clip(path: Path, frames: np.ndarray, fps: int = 12) -> Path:
    """H.264 by PyAV alone, so that reading is not tested with our own writer."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "1"}
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def counted(count: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Frames whose grey level tells their number: 6 k + 20."""
    width, height = size
    levels = (np.arange(count) * 6 + 20).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def numbers(frames: np.ndarray) -> list[int]:
    return [round((float(frame.mean()) - 20) / 6) for frame in frames]


@given(st.integers(1, 500), st.integers(1, 60))
def test_sampling_is_even_and_keeps_both_ends(count: int, wanted: int) -> None:
    picks = sample_indices(count, wanted)
    assert len(picks) == min(count, wanted)
    assert picks[0] == 0
    if wanted > 1:
        assert picks[-1] == count - 1
    steps = {b - a for a, b in pairwise(picks)}
    assert all(step >= 1 for step in steps)
    assert not steps or max(steps) - min(steps) <= 1


def test_a_clip_is_sampled_from_its_first_frame_to_its_last(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", counted(36), fps=12)
    clip = read_frames(path, GRID)
    assert clip.frames.shape == (6, 16, 32, 3)
    assert clip.frames.dtype == np.uint8
    assert numbers(clip.frames) == [0, 7, 14, 21, 28, 35]
    assert clip.times_seconds == pytest.approx([k / 12 for k in (0, 7, 14, 21, 28, 35)], abs=1e-6)
    assert len(clip.frames) / clip.fps == pytest.approx(36 / 12)  # the clip's own duration


def test_a_clip_that_is_as_long_as_the_grid_keeps_its_rate(tmp_path: Path) -> None:
    clip = read_frames(make_clip(tmp_path / "clip.mp4", counted(6), fps=10), GRID)
    assert numbers(clip.frames) == [0, 1, 2, 3, 4, 5]
    assert clip.fps == pytest.approx(10)


def test_a_single_cell_takes_the_first_frame(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", counted(5))
    clip = read_frames(path, Grid(rows=1, cols=1, cell=(16, 16)))
    assert numbers(clip.frames) == [0]
    assert clip.times_seconds == (0.0,)


def test_frames_are_cropped_about_the_centre_not_stretched(tmp_path: Path) -> None:
    frames = np.zeros((6, 48, 128, 3), np.uint8)
    frames[:, :, 32:96] = 255  # the middle half; a 2:1 cell of a 48 px high frame shows 96 px
    clip = read_frames(make_clip(tmp_path / "wide.mp4", frames), GRID)
    row = clip.frames[0, 8, :, 1].astype(int)
    # 16 of 96 px at each side stay black: 5.3 of 32 cell pixels.
    assert row[:4].max() < 30
    assert row[-4:].max() < 30
    assert row[7:-7].min() > 225


def test_a_phone_clip_is_turned_upright(tmp_path: Path) -> None:
    frames = np.zeros((6, 32, 64, 3), np.uint8)
    frames[:, :, :32] = 255  # the left half is bright
    path = make_clip(tmp_path / "phone.mp4", frames)
    data = path.read_bytes()
    # The track header's matrix (ISO 14496-12, 8.3.2): identity → 90 degrees clockwise.
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    at = data.index(identity, data.index(b"tkhd"))
    path.write_bytes(data[:at] + clockwise + data[at + len(identity) :])
    clip = read_frames(path, Grid(rows=2, cols=3, cell=(16, 32)))
    assert clip.frames[0, :12].mean() > 225  # turned clockwise, left is up
    assert clip.frames[0, -12:].mean() < 30


def test_a_frame_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number, picture in enumerate(counted(12)):
        Image.fromarray(picture).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    clip = read_frames(tmp_path, GRID)
    assert numbers(clip.frames) == [0, 2, 4, 7, 9, 11]
    assert len(clip.frames) / clip.fps == pytest.approx(12 / IMAGE_SEQUENCE_FPS)


def test_frames_that_fit_are_untouched(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 16, 32, 3), dtype=np.uint8)
    for number, picture in enumerate(frames):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    assert np.array_equal(read_frames(tmp_path, GRID).frames, frames)


def test_natural_order(tmp_path: Path) -> None:
    names = ["frame_2.png", "frame_10.png", "Frame_1.png", "a.png", "10.png", "9.png"]
    assert sorted(names, key=lambda name: natural_key(Path(name))) == [
        "9.png",
        "10.png",
        "a.png",
        "Frame_1.png",
        "frame_2.png",
        "frame_10.png",
    ]
    for name in [*names, ".hidden.png"]:
        (tmp_path / name).touch()
    assert [path.name for path in image_files(tmp_path)][:2] == ["9.png", "10.png"]
    assert tmp_path / ".hidden.png" not in image_files(tmp_path)


def test_a_short_clip_says_what_fits(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", counted(12))
    with pytest.raises(InputError) as caught:
        read_frames(path, Grid(rows=4, cols=6, cell=(16, 16)))
    assert str(caught.value) == (
        f"{path} has 12 frames; a 4x6 grid needs 24. Use --rows 3 --cols 4, or --tail pad."
    )


def test_a_short_clip_gives_what_it_has_with_pad(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", counted(4), fps=8)
    clip = read_frames(path, GRID, tail="pad")
    assert numbers(clip.frames) == [0, 1, 2, 3]
    assert clip.fps == pytest.approx(8)


def _text(path: Path) -> None:
    path.write_text("this is no film " * 50)


def _noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(20_000))


def _header_only(path: Path) -> None:
    make_clip(path, counted(30))
    path.write_bytes(path.read_bytes()[:200])


def _audio_only(path: Path) -> None:
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (Path.touch, "0 bytes"),
        (_text, "cannot be read as a video"),
        (_noise, "cannot be read as a video"),
        (_header_only, "cannot be read as a video"),
        (_audio_only, "no video stream"),
        (lambda path: None, "does not exist"),
        (Path.mkdir, "no video and no images"),
    ],
)
def test_what_is_no_clip_is_one_line(tmp_path: Path, spoil, fact: str) -> None:
    path = tmp_path / "clip.mp4"
    spoil(path)
    with pytest.raises(InputError) as caught:
        read_frames(path, GRID)
    assert fact in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_image_in_a_folder_is_named(tmp_path: Path) -> None:
    for number, picture in enumerate(counted(6)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    data = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"3\.png"):
        read_frames(tmp_path, GRID)


def test_a_name_with_a_colon_is_no_protocol(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", counted(6))
    odd = path.rename(tmp_path / "http:take 2%.mp4")
    assert numbers(read_frames(odd, GRID).frames) == [0, 1, 2, 3, 4, 5]
