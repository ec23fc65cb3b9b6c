"""The index of a video: times, key frames, and reading it from storage."""

from fractions import Fraction
from pathlib import Path

import av
import fsspec
import numpy as np
import pytest

from gridctl.media.clip import no_tick
from gridctl.media.fit import Fit
from gridctl.media.index import Skimmed
from gridctl.media.open import open_clip
from gridctl.media.video import Video
from gridctl.storage import as_path
from tests.media import clips
from tests.media.clips import cells_of, counted, numbers, textured, write

CLEAN = {"crf": "1", "g": "10", "bf": "2"}
FIT = Fit(cell=(96, 64))


def join(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("counts", [(25, 25), (40, 10), (10, 40, 25)])
def test_joined_transport_streams_play_one_after_the_other(
    tmp_path: Path, codec: str, counts: tuple[int, ...]
) -> None:
    options = CLEAN if codec == "libx264" else {"g": "10", "bf": "2", "b": "8M"}
    parts = [
        write(tmp_path / f"{number}.ts", counted(count), codec=codec, fps=25, options=options)
        for number, count in enumerate(counts)
    ]
    clip = open_clip(join(tmp_path / "all.ts", *parts))
    assert clip.times_seconds == pytest.approx(np.arange(sum(counts)) / 25, abs=2e-3)
    assert clip.duration_seconds == pytest.approx(sum(counts) / 25, abs=2e-3)
    assert clip.fps == pytest.approx(25, abs=0.1)
    assert "restart" in clip.notes()[0]
    assert numbers(cells_of(clip)) == [k % 36 for count in counts for k in range(count)]


@pytest.mark.parametrize(("suffix", "codec"), [("mpg", "mpeg2video"), ("mkv", "libx264")])
def test_other_files_can_be_joined_as_well(tmp_path: Path, suffix: str, codec: str) -> None:
    options = {"b": "8M", "g": "10"} if codec != "libx264" else CLEAN
    parts = [
        write(tmp_path / f"{k}.{suffix}", counted(25), codec=codec, fps=25, options=options)
        for k in range(2)
    ]
    clip = open_clip(join(tmp_path / f"all.{suffix}", *parts))
    # Program streams stamp packs and not frames, so a frame may be a step off, in each part.
    assert clip.times_seconds == pytest.approx(np.arange(50) / 25, abs=0.081)
    assert numbers(cells_of(clip)) == [*range(25), *range(25)]


@pytest.mark.parametrize(
    ("suffix", "seconds", "note"),
    [("ts", 300, "jump"), ("ts", 15, "jump"), ("mkv", 300, "jump"), ("mkv", 15, ""), ("ts", 5, "")],
)
def test_a_jump_of_the_time_stamps_is_closed_and_a_still_picture_is_kept(
    tmp_path: Path, suffix: str, seconds: int, note: str
) -> None:
    stamps = [40 * k + (1000 * seconds if k >= 10 else 0) for k in range(20)]
    path = write(tmp_path / f"jump.{suffix}", counted(20), stamps=stamps, options=CLEAN, fps=25)
    clip = open_clip(path)
    length = 0.8 if note else 0.8 + seconds
    assert clip.duration_seconds == pytest.approx(length, abs=0.05)
    assert numbers(cells_of(clip)) == list(range(20))
    assert bool(clip.notes()) == bool(note)


def test_time_stamps_that_wrap_around(tmp_path: Path) -> None:
    wrap = round(2**33 / 90)  # MPEG's 33 bits, in milliseconds
    stamps = [wrap - 400 + 40 * k for k in range(20)]
    path = write(tmp_path / "wrap.ts", counted(20), stamps=stamps, options=CLEAN, fps=25)
    clip = open_clip(path)
    assert clip.times_seconds == pytest.approx(np.arange(20) / 25, abs=2e-3)
    assert numbers(cells_of(clip)) == list(range(20))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_b_frames_in_avi_keep_a_regular_rate(tmp_path: Path, codec: str) -> None:
    options = {"g": "12", "bf": "3" if codec == "libx264" else "2", "b": "4M"}
    path = write(tmp_path / "clip.avi", counted(30), codec=codec, fps=25, options=options)
    for decode in (False, True):
        clip = open_clip(path, decode=decode)
        assert clip.times_seconds == pytest.approx(np.arange(30) / 25)
        assert clip.notes() == ()
    assert numbers(cells_of(clip)) == list(range(30))


@pytest.mark.parametrize("name", ["slides.mkv", "slides.webm", "slides.mp4"])
def test_the_last_slide_is_shown_as_long_as_the_others(tmp_path: Path, name: str) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    options = {} if name.endswith("webm") else {"crf": "1"}
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(1, 5), options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in counted(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    clip = open_clip(path)
    assert clip.times_seconds == pytest.approx([0, 5, 10, 15])
    assert clip.duration_seconds == pytest.approx(20)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_last_frame_that_is_held(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"held.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for picture in counted(10):
            packets += stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
        packets += stream.encode()
        packets[-1].duration = round(3 / packets[-1].time_base)
        container.mux(packets)
    assert open_clip(path).duration_seconds == pytest.approx(0.36 + 3, abs=0.01)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "libx265"])
@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_an_open_gop_at_the_start_reads_the_same_with_any_number_of_threads(
    tmp_path: Path, codec: str, suffix: str
) -> None:
    options = {
        "libx264": {"bf": "3", "x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"},
        "libx265": {"x265-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:log-level=none"},
        "mpeg2video": {"g": "12", "bf": "2", "b": "4M"},
    }[codec]
    whole = write(tmp_path / f"whole.{suffix}", textured(60), codec=codec, options=options)
    keys = 0
    path = tmp_path / f"cut.{suffix}"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            keys += packet.is_keyframe and packet.size > 0
            if packet.size and keys >= 2:
                packet.stream = copy
                target.mux(packet)
    read = [
        (clip.times_seconds.tolist(), cells_of(clip, FIT.cell))
        for threads in (1, 2, 3, 8)
        for decode in (False, True)
        for clip in [open_clip(path, threads=threads, decode=decode)]
    ]
    assert len(read[0][0]) >= 40
    for times, cells in read[1:]:
        assert times == read[0][0]
        assert np.array_equal(cells, read[0][1])


FRAMES = clips.textured(60)


@pytest.mark.parametrize(
    ("name", "codec", "options", "is_skimmed"),
    [
        ("a.mp4", "libx264", {"g": "12", "bf": "3"}, True),
        ("open-gop.mp4", "libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}, True),
        ("a.mov", "mpeg4", {"g": "12"}, True),
        ("intra.mov", "mjpeg", {}, True),
        ("no-keys.mp4", "libx264", {"g": "12"}, True),
        ("a.mkv", "libx264", {"g": "12"}, False),
        ("a.ts", "libx264", {"g": "12"}, False),
    ],
)
def test_a_video_in_storage_is_the_video(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], is_skimmed: bool
) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    file = clips.write(tmp_path / name, FRAMES, codec=codec, options=options, pix_fmt=pix_fmt)
    if name == "no-keys.mp4":  # without this box, all frames count as key frames
        file.write_bytes(file.read_bytes().replace(b"stss", b"free"))
    fsspec.filesystem("memory").pipe_file(f"/skim/{name}", file.read_bytes())
    url = as_path(f"memory://skim/{name}")
    with url.open("rb") as opened:
        assert (Skimmed.of(opened) is not None) == is_skimmed
    here, there = (Video(path, decode=False, threads=1, tick=no_tick) for path in (file, url))
    assert np.array_equal(there.times_seconds, here.times_seconds)
    assert (there.duration_seconds, there.fps) == (here.duration_seconds, here.fps)
    for wanted in ([0, 17, 18, 41, 59], [33], range(60)):
        ordinals = np.array(wanted, np.int64)
        ours, theirs = (list(v.cells(ordinals, Fit(cell=(48, 32)))) for v in (there, here))
        assert all(map(np.array_equal, ours, theirs))
        assert len(ours) == len(theirs) == len(wanted)
    assert there.packets_decoded == here.packets_decoded


def test_zeros_stand_for_the_pictures_only(tmp_path: Path) -> None:
    file = clips.write(tmp_path / "a.mp4", FRAMES)
    data = file.read_bytes()
    start = data.index(b"mdat") + 4
    end = start - 8 + int.from_bytes(data[start - 8 : start - 4], "big")
    with file.open("rb") as opened:
        skimmed = Skimmed.of(opened)
        assert skimmed is not None
        assert skimmed.readall() == data
        skimmed.skim()
        skimmed.seek(0)
        assert skimmed.readall() == data[:start] + bytes(end - start) + data[end:]
