import random
from pathlib import Path

import av
import numpy as np
import pytest

from gridctl.errors import InputError
from gridctl.media.clip import WrongIndexError
from gridctl.media.fit import Fit
from gridctl.media.open import open_clip
from gridctl.media.truncation import is_cut_off
from tests.media.clips import textured, write

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
    "clip.ts": ("libx264", "aac", {}),
    "clip.m2ts": ("libx264", "ac3", {"mpegts_m2ts_mode": "1"}),
    "clip.mpg": ("mpeg2video", "mp2", {}),
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


def reports_its_end(path: Path) -> bool:
    """Whether a clip that ends too soon is refused or noted, now or when its frames are read."""
    try:
        clip = open_clip(path)
        for _ in clip.cells(np.arange(len(clip.times_seconds)), Fit(cell=(16, 16))):
            pass
    except (InputError, WrongIndexError):
        return True
    return any(note.startswith("ends abruptly") for note in clip.notes())


@pytest.mark.parametrize("name", ["clip.ts", "clip.m2ts"])
def test_a_cut_between_packets_of_a_transport_stream(tmp_path: Path, name: str) -> None:
    path = with_sound(tmp_path / name, *KINDS[name])
    assert not reports_its_end(path)
    data = path.read_bytes()
    cuts = range(60, 160, 8)
    reports = 0
    for packets in cuts:
        path.write_bytes(data[: packets * (192 if name == "clip.m2ts" else 188)])
        reports += reports_its_end(path)
    assert reports > len(cuts) / 2  # where a frame and a sound packet end, it looks whole


def test_a_promised_duration_tells_of_a_cut(tmp_path: Path) -> None:
    """RealMedia has no check of its own, only a header that says how long it is."""
    path = write(tmp_path / "clip.rm", np.concatenate([FRAMES] * 10), codec="rv10")
    data = path.read_bytes()
    assert frames_read(path) == 10 * len(FRAMES)
    for length in random.Random(0).sample(range(len(data) // 20, len(data) * 9 // 10), 10):
        path.write_bytes(data[:length])
        assert is_cut_off(path) is None
        assert frames_read(path) is None, f"cut at {length} of {len(data)}"


def test_sound_that_begins_late(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.flv", np.repeat(FRAMES, 3, axis=0), codec="flv1")
    sound = b"\x3e" + bytes(200)  # a tag: kind, length, time, sound, length of the tag
    tag = b"\x08" + len(sound).to_bytes(3, "big") + (12_000).to_bytes(3, "big") + bytes(4) + sound
    path.write_bytes(path.read_bytes() + tag + len(tag).to_bytes(4, "big"))
    assert frames_read(path) == 3 * len(FRAMES)


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


def test_a_cut_jpeg(tmp_path: Path) -> None:
    """One picture, or several in a row without a container, and anything behind them."""
    path = write(tmp_path / "clip.mjpeg", FRAMES[:3], codec="mjpeg", pix_fmt="yuvj420p")
    data = path.read_bytes()
    ends = [at + 2 for at in range(len(data)) if data[at : at + 2] == b"\xff\xd9"]
    assert len(ends) == 3
    for length in range(1000, len(data) + 1, 7):
        path.write_bytes(data[:length])
        scan = data.rfind(b"\xff\xda", 0, length)
        assert is_cut_off(path) is (scan > max((e for e in ends if e <= length), default=0)), length
    path.write_bytes(data + bytes(30))
    assert is_cut_off(path) is False


def test_a_riff_may_lack_its_last_padding_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    for length in (5, 6):  # of the inner chunk: padded to 6, or as it is
        chunk = b"VP8 " + length.to_bytes(4, "little") + bytes(length + length % 2)
        whole = b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk
        for lacks, is_cut in ((0, False), (1, False), (2, True)):
            path.write_bytes(whole[: len(whole) - lacks])
            assert is_cut_off(path) is is_cut, (length, lacks)
    path.write_bytes(b"RIFF" + (3).to_bytes(4, "little") + b"ABC")  # odd, without its padding
    assert is_cut_off(path) is False
    path.write_bytes(b"RIFF" + (3).to_bytes(4, "little") + b"AB")
    assert is_cut_off(path) is True


def test_other_files_do_not_say(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"text", b"\x47" * 376, bytes(64))):
        (tmp_path / f"{number}").write_bytes(data)
        assert is_cut_off(tmp_path / f"{number}") is None
