from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gridctl.errors import InputError, UsageError
from gridctl.media.write import clip_format, write_clip
from tests.full_disk import needs_limits, room_for
from tests.media.clips import picture_book


def decode(path: Path) -> tuple[np.ndarray, av.VideoStream, float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        seconds = float(stream.duration * stream.time_base)
        return np.stack(frames), stream, seconds


@pytest.mark.parametrize("fps", [8, 14.4, 30000 / 1001])
def test_mp4_keeps_frames_colors_and_duration(tmp_path: Path, fps: float) -> None:
    path = tmp_path / "clip.mp4"
    frames = picture_book()
    write_clip(frames, path, fps=fps)
    back, stream, seconds = decode(path)
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).max() <= 6
    assert seconds == pytest.approx(5 / fps, rel=1e-3)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it downloads


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, codec: str) -> None:
    """Whatever was in memory before: x264 with B-frames failed here in one of two runs."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (6, 12, 12, 3), np.uint8)
    frames = coarse.repeat(8, axis=1).repeat(8, axis=2)
    files = set()
    for _ in range(10):
        garbage = [random.bytes(size) for size in random.integers(100, 200_000, 30)]
        del garbage[::2]
        write_clip(frames, tmp_path / "clip.mp4", fps=8, codec=codec, force=True)
        files.add((tmp_path / "clip.mp4").read_bytes())
    assert len(files) == 1


def test_mp4_takes_odd_sides(tmp_path: Path) -> None:
    frames = picture_book(width=33, height=17)
    write_clip(frames, tmp_path / "odd.mp4", fps=8)
    back, _, _ = decode(tmp_path / "odd.mp4")
    assert back.shape == (5, 18, 34, 3)
    assert np.abs(back[:, :17, :33].astype(int) - frames).max() <= 8


@pytest.mark.parametrize("name", ["frames", "take.1/"])
def test_a_folder_of_frames_is_exact(tmp_path: Path, name: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 32, 3), dtype=np.uint8)
    write_clip(frames, f"{tmp_path}/{name}", fps=8)
    files = sorted((tmp_path / name).iterdir())
    assert [file.name for file in files] == [f"frame_{k:04}.png" for k in (1, 2, 3)]
    assert np.array_equal(np.stack([np.asarray(Image.open(file)) for file in files]), frames)


def test_an_unknown_suffix_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.txt"):
        write_clip(picture_book(), tmp_path / "clip.txt", fps=8)
    with pytest.raises(UsageError, match=r"\.avi"):
        clip_format("clip.avi")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_an_impossible_frame_rate_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UsageError, match="fps"):
        write_clip(picture_book(), tmp_path / "clip.mp4", fps=fps)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "frames"])
def test_nothing_is_overwritten_without_force(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_clip(picture_book(2), path, fps=8)
    before = path.stat().st_mtime_ns
    with pytest.raises(InputError, match="--force"):
        write_clip(picture_book(3), path, fps=8)
    assert path.stat().st_mtime_ns == before
    write_clip(picture_book(3), path, fps=8, force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "frames"])
def test_a_failed_write_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        write_clip(np.zeros((2, 16, 16, 7), np.uint8), tmp_path / name, fps=8)
    assert list(tmp_path.iterdir()) == []


@needs_limits
@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.webp", "a.apng", "frames"])
def test_a_disk_that_takes_a_part_is_an_error(tmp_path: Path, name: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    with (
        room_for(4_000),
        pytest.raises(InputError, match=f"{name} cannot be written .File too large.; free some"),
    ):
        write_clip(frames, tmp_path / name, fps=8)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "letter.txt").write_text("keep me")
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(InputError, match=r"letter\.txt"):
        write_clip(frames, folder, fps=8, force=True)
    assert (folder / "letter.txt").read_text() == "keep me"


def test_a_folder_of_frames_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    write_clip(np.zeros((3, 16, 16, 3), np.uint8), folder, fps=8)
    write_clip(np.zeros((2, 16, 16, 3), np.uint8), folder, fps=8, force=True)
    assert [path.name for path in sorted(tmp_path.rglob("*.png"))] == [
        "frame_0001.png",
        "frame_0002.png",
    ]
    assert list(tmp_path.iterdir()) == [folder]
