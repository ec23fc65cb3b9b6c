import random
from pathlib import Path

import av
import numpy as np
import pytest

from gridctl.errors import InputError
from gridctl.media.clip import WrongIndexError
from gridctl.media.open import open_clip
from gridctl.media.truncation import is_cut_off
from tests.media.clips import textured

FRAMES = textured(48)
KINDS = {
    "faststart.mp4": ("libx264", "aac", {"movflags": "+faststart"}),
    "plain.mp4": ("libx264", "aac", {}),
    "fragments.mp4": ("libx264", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    "clip.mov": ("mjpeg", "pcm_s16le", {}),
    "clip.mkv": ("libx264", "aac", {}),
    "clip.webm": ("libvpx", "libopus", {}),
    "clip.flv": ("flv1", "aac", {}),
    "clip.avi": ("mpeg4", "libmp3lame", {}),
    "clip.ogv": ("libvpx", "libopus", {}),
    "clip.wmv": ("wmv2", "libmp3lame", {}),
    "clip.mxf": ("mpeg2video", "pcm_s16le", {}),
}


def with_sound(path: Path, codec: str, sound: str, options: dict[str, str]) -> Path:
    """A clip of two seconds whose sound and picture packets alternate."""
    rate = 48_000
    with av.open(str(path), "w", options=options) as container:
        film = container.add_stream(codec, rate=24, options={"g": "12"})
        film.width, film.height = 96, 64
        film.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        audio = container.add_stream(sound, rate=rate, layout="mono")
        for number, picture in enumerate(FRAMES):
            container.mux(film.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            random = np.random.default_rng(number)
            tone = random.integers(-9000, 9000, (1, rate // 24), dtype=np.int16)
            samples = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            samples.sample_rate, samples.pts = rate, number * (rate // 24)
            container.mux(audio.encode(samples))
        container.mux(film.encode())
        container.mux(audio.encode())
    return path


def frames_read(path: Path) -> int | None:
    """How many frames a clip claims to have, or None if it is refused."""
    try:
        return len(open_clip(path).times_seconds)
    except (InputError, WrongIndexError):
        return None


@pytest.mark.parametrize("name", KINDS)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    path = with_sound(tmp_path / name, *KINDS[name])
    assert not is_cut_off(path)
    assert frames_read(path) == len(FRAMES)
    data = path.read_bytes()
    lengths = random.Random(0).sample(range(len(data) // 20, len(data) * 97 // 100), 25)
    for length in lengths:
        path.write_bytes(data[:length])
        assert frames_read(path) is None, f"cut at {length} of {len(data)}"


def test_a_cut_inside_a_sound_packet(tmp_path: Path) -> None:
    path = with_sound(tmp_path / "clip.mp4", *KINDS["faststart.mp4"])
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(container.streams.audio[0]) if p.size]
    start, size = packets[len(packets) // 2]
    path.write_bytes(path.read_bytes()[: start + size // 2])
    with pytest.raises(InputError, match=r"clip\.mp4 is cut off: .* of 2\.0"):
        open_clip(path)


@pytest.mark.parametrize("name", KINDS)
def test_appended_bytes_are_no_cut(tmp_path: Path, name: str) -> None:
    path = with_sound(tmp_path / name, *KINDS[name])
    for tail in (bytes(40), b"TAG" + bytes(125), b"\n"):
        whole = path.read_bytes()
        path.write_bytes(whole + tail)
        if not name.endswith((".flv", ".ogv")):  # FFmpeg reads on in these
            assert frames_read(path) == len(FRAMES)
        path.write_bytes(whole)


def test_other_files_do_not_say(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"text", b"\x47" * 376, bytes(64))):
        (tmp_path / f"{number}").write_bytes(data)
        assert is_cut_off(tmp_path / f"{number}") is None
