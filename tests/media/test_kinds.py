"""Which files count as videos and images, whatever they are called."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.media.kinds import is_hidden, kind_of
from tests.media.clips import counted, make_clip, write

FORMATS = {
    "mp4": "libx264", "mov": "libx264", "mkv": "libx264", "webm": "libvpx-vp9", "flv": "libx264",
    "avi": "mpeg4", "mpg": "mpeg2video", "ts": "libx264", "m2ts": "libx264", "wmv": "wmv2",
    "nut": "libx264", "ogv": "libvpx", "ivf": "libvpx-vp9", "y4m": "rawvideo", "m2v": "mpeg2video",
}  # fmt: skip


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_video_without_its_suffix_is_known_by_its_content(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"clip.{suffix}", counted(6), codec=FORMATS[suffix], fps=25)
    for name in ("clip", "clip.download", "clip.2024"):
        assert kind_of(path.rename(tmp_path / name)) == "video"
        path = tmp_path / name


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif", "avif", "jp2"])
def test_an_image_without_its_suffix_is_known_by_its_content(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"frame.{suffix}"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    assert kind_of(path) == "image"
    assert kind_of(path.rename(tmp_path / "frame")) == "image"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.xyz", b"no film"),
        ("empty", b""),
        ("sound.dat", b"OggS\0\2" + 20 * b"\0" + b"\x01\x1evorbis" + 60 * b"\0"),
        ("sound.m4a", b"\0\0\0\x1cftypM4A " + 60 * b"\0"),
        ("sound", b"\0\0\0\x1cftypM4A " + 60 * b"\0"),
        ("photo", b"\0\0\0\x18ftypheic" + 60 * b"\0"),
        ("sound.x", b"RIFF\0\0\0\0WAVEfmt "),
        ("clip.txt", b"\x1aE\xdf\xa3"),
    ],
)
def test_what_is_neither(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert kind_of(path) is None
    assert kind_of(tmp_path / "missing") is None
    assert kind_of(tmp_path) is None


@pytest.mark.parametrize(
    "name", ["@eaDir", "$RECYCLE.BIN", "__MACOSX", "#recycle", ".hidden", "Thumbs.db", "._a.mp4"]
)
def test_system_names_are_hidden(name: str) -> None:
    assert is_hidden(name)
    assert not is_hidden(f"a{name}")


def test_a_clip_of_any_name_can_be_opened(tmp_path: Path) -> None:
    from gridctl.media.open import open_clip

    assert (
        len(
            open_clip(
                make_clip(tmp_path / "a.mp4", counted(4)).rename(tmp_path / "a")
            ).times_seconds
        )
        > 1
    )
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "b.png")
    assert len(open_clip((tmp_path / "b.png").rename(tmp_path / "b")).times_seconds) == 1
