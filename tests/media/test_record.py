"""The record of how a file was made: it comes back, and changes no picture."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from gridctl.media.record import RECORD_FILE, add_record, read_record, record_text
from gridctl.media.truncation import is_cut_off
from gridctl.media.write import write_clip
from tests.media.clips import textured

# Longer than a GIF's data block, with signs that JSON and the formats escape.
RECORD = {"prompt": 'a "cat" \\ 猫\n' + 100 * "word ", "seed": 2**63 - 1}


def frames(path: Path) -> np.ndarray:
    if path.is_dir():
        return np.stack([np.asarray(Image.open(p)) for p in sorted(path.glob("frame_*"))])
    if path.suffix in (".mp4", ".webm"):
        with av.open(str(path)) as container:
            return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with Image.open(path) as image:
        return np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)])


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.webp", "a.apng", "a"])
def test_a_clip_carries_its_record(name: str, tmp_path: Path) -> None:
    pictures = textured(5)
    write_clip(pictures, tmp_path / "plain" / name, fps=8)
    write_clip(pictures, tmp_path / name, fps=8, record=record_text(RECORD))
    assert read_record(tmp_path / name) == {"gridctl": 1, **RECORD}
    assert read_record(tmp_path / "plain" / name) is None
    assert np.array_equal(frames(tmp_path / name), frames(tmp_path / "plain" / name))
    if name != "a":
        assert is_cut_off(tmp_path / name) is False
    write_clip(pictures, tmp_path / name, fps=8, force=True)  # a folder is ours to replace
    assert read_record(tmp_path / name) is None


def test_a_folders_record_has_the_name_it_had(tmp_path: Path) -> None:
    write_clip(textured(1), tmp_path / "a", fps=8, record=record_text(RECORD))
    assert (tmp_path / "a" / ".making.json").is_file()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_image_carries_its_record_beside_its_metadata(suffix: str, tmp_path: Path) -> None:
    from gridctl.dataset.grid_image import load_grid, save_grid
    from gridctl.dataset.metadata import GridMetadata
    from gridctl.geometry import Grid

    grid = Grid(rows=1, cols=1, cell=(64, 48))
    metadata = GridMetadata(grid=grid, source="a", times_seconds=(0.0,), fps=1.0, num_frames=1)
    path = tmp_path / f"grid.{suffix}"
    save_grid(textured(1)[0][:48, :64], path, metadata)
    before, known = load_grid(path)
    add_record(path, record_text(RECORD))
    after, known_after = load_grid(path)
    assert read_record(path) == {"gridctl": 1, **RECORD}
    assert np.array_equal(before, after)
    assert known == known_after == metadata


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.webp", "a.apng"])
def test_a_clip_without_its_end_has_none(name: str, tmp_path: Path) -> None:
    """So that a later run writes it again, and does not skip it."""
    write_clip(textured(5), tmp_path / name, fps=8, record=record_text(RECORD))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 9 // 10])
    assert read_record(tmp_path / name) is None


def test_a_picture_without_its_end_has_none(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(textured(1)[0]).save(path)
        add_record(path, record_text(RECORD))
        assert read_record(path) is not None
        path.write_bytes(path.read_bytes()[:-20])
        assert read_record(path) is None


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8", b"RIFF", b"text", b'{"a": 1}'])
def test_other_files_have_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_record(tmp_path / "file") is None
    assert read_record(tmp_path / "missing") is None
    assert read_record(tmp_path) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX")
def test_a_pipe_has_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert read_record(tmp_path / "a.mp4") is None
    (tmp_path / "frames").mkdir()
    os.mkfifo(tmp_path / "frames" / RECORD_FILE)
    assert read_record(tmp_path / "frames") is None


def test_a_record_of_brackets_is_none(tmp_path: Path) -> None:
    (tmp_path / RECORD_FILE).write_text("[" * 100_000)
    assert read_record(tmp_path) is None
