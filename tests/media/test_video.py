import struct
from pathlib import Path

import av
import numpy as np
import pytest

from gridctl.errors import InputError
from gridctl.media.clip import WrongIndexError
from gridctl.media.fit import Fit
from gridctl.media.open import open_clip, with_clip
from gridctl.media.video import Video
from tests.media.clips import cells_of, counted, make_clip, numbers, textured, write

FIT = Fit(cell=(96, 64))


def video(path: Path, **options: bool) -> Video:
    clip = open_clip(path, **options)
    assert isinstance(clip, Video)
    return clip


def by_full_decoding(path: Path) -> np.ndarray:
    return cells_of(open_clip(path, decode=True), FIT.cell)


H264 = {"crf": "25", "g": "15", "bf": "3"}
KINDS = {
    "closed.mp4": ("libx264", H264),
    "open-gop.mp4": ("libx264", {**H264, "x264-params": "open-gop=1:keyint=12:min-keyint=4"}),
    "open-gop.ts": ("libx264", {**H264, "x264-params": "open-gop=1:keyint=12:min-keyint=4"}),
    "pyramid.mkv": ("libx264", {**H264, "bf": "5", "x264-params": "b-pyramid=normal"}),
    "refresh.ts": ("libx264", {"crf": "25", "x264-params": "intra-refresh=1:keyint=12"}),
    "hevc.mp4": ("libx265", {"crf": "28", "x265-params": "keyint=12:log-level=none"}),
    "hevc.mkv": ("libx265", {"crf": "28", "x265-params": "keyint=12:open-gop=1:log-level=none"}),
    "vp8.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "15", "b": "200k"}),
    "vp9.webm": ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "15"}),
    "av1.mp4": ("libsvtav1", {"preset": "12", "g": "15", "svtav1-params": "log-level=0"}),
    "mpeg2.mpg": ("mpeg2video", {"g": "12", "bf": "2", "b": "2M"}),
    "mpeg2.ts": ("mpeg2video", {"g": "12", "bf": "2", "b": "2M"}),
    "mpeg4.avi": ("mpeg4", {"g": "12", "bf": "2", "b": "2M"}),
    "mpeg4.mp4": ("mpeg4", {"g": "12", "bf": "2", "b": "2M"}),
    "h264.avi": ("libx264", H264),
    "flash.flv": ("flv1", {"g": "12"}),
    "raw.h264": ("libx264", H264),
    "motion.mjpeg": ("mjpeg", {}),
    "lossless.mkv": ("ffv1", {"g": "12"}),
    "wmv2.wmv": ("wmv2", {"g": "12"}),
    "prores.mov": ("prores_ks", {}),
    "huffyuv.avi": ("ffvhuff", {}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    frames = textured(50)
    formats = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}
    return {
        name: write(
            folder / name,
            frames,
            codec=codec,
            fps=25,
            pix_fmt=formats.get(codec, "yuv420p"),
            options=options,
        )
        for name, (codec, options) in KINDS.items()
    }


@pytest.mark.parametrize("name", KINDS)
def test_seeking_gives_the_frames_that_full_decoding_gives(
    made: dict[str, Path], name: str
) -> None:
    path = made[name]
    full = by_full_decoding(path)
    with av.open(str(path)) as container:
        assert len(full) == sum(1 for _ in container.decode(video=0))
    try:
        clip = video(path)
        assert len(clip.times_seconds) == len(full)
        for picks in ([0], [len(full) - 1], [3, 17, 18, 44], [13, 14, 15, 16], [0, 49], [24]):
            got = list(clip.cells(np.array(picks), FIT))
            assert np.array_equal(np.stack(got), full[picks])
        assert np.array_equal(cells_of(clip, FIT.cell), full)
    except WrongIndexError:
        # Only for files whose packets do not tell. They are opened again and decoded.
        assert name in {"vp8.webm", "refresh.ts", "mpeg4.avi"}


@pytest.mark.parametrize("name", ["refresh.ts", "vp8.webm", "closed.mp4"])
def test_a_clip_whose_packets_are_wrong_is_decoded_as_a_whole(
    made: dict[str, Path], name: str
) -> None:
    cells = with_clip(made[name], lambda clip: cells_of(clip, FIT.cell))
    assert np.array_equal(cells, by_full_decoding(made[name]))


def test_at_most_one_gop_is_decoded_for_each_frame(tmp_path: Path) -> None:
    gop, count = 10, 200
    options = {"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0", "bf": "2"}
    for suffix in ("mp4", "mkv", "ts"):
        path = write(tmp_path / f"long.{suffix}", textured(count), fps=25, options=options)
        clip = video(path)
        picks = np.array([5, 57, 109, 161, 199])
        got = np.stack(list(clip.cells(picks, FIT)))
        assert np.array_equal(got, by_full_decoding(path)[picks])
        assert 5 <= clip.packets_decoded <= len(picks) * (gop + 4)  # 4: the decoder's delay


def test_times_start_at_zero_wherever_the_file_starts(tmp_path: Path) -> None:
    stamps = [5000 + 80 * k for k in range(20)]
    path = write(tmp_path / "late.mkv", counted(20), stamps=stamps, options={"crf": "1"})
    clip = video(path)
    assert clip.times_seconds == pytest.approx([0.08 * k for k in range(20)], abs=2e-3)
    assert numbers(cells_of(clip)) == list(range(20))


def test_a_variable_rate_keeps_each_frames_time(tmp_path: Path) -> None:
    stamps = [0, 40, 80, 120, 1120, 2120, 2160, 2200]
    path = write(tmp_path / "screen.mkv", counted(8), stamps=stamps, options={"crf": "1"})
    assert video(path).times_seconds == pytest.approx([s / 1000 for s in stamps], abs=2e-3)


def test_frames_before_the_first_key_frame_are_left_out(tmp_path: Path) -> None:
    options = {"g": "10", "keyint_min": "10", "sc_threshold": "0", "crf": "1", "bf": "0"}
    whole = write(tmp_path / "whole.ts", counted(30), options=options)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.ts"), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for number, packet in enumerate(source.demux(stream)):
            if packet.size and number >= 4:
                packet.stream = copy
                target.mux(packet)
    clip = video(tmp_path / "cut.ts")
    assert numbers(cells_of(clip)) == list(range(10, 30))
    assert numbers(cells_of(open_clip(tmp_path / "cut.ts", decode=True))) == list(range(10, 30))


def test_frames_that_an_edit_list_hides_are_left_out(tmp_path: Path) -> None:
    options = {"g": "10", "keyint_min": "10", "sc_threshold": "0", "crf": "1", "bf": "0"}
    path = write(tmp_path / "clip.mp4", counted(30), fps=10, options=options)
    data = path.read_bytes()
    at = data.index(b"elst") + 12  # version and flags, count, duration; then the media time
    start = struct.unpack(">i", data[at + 4 : at + 8])[0]
    with av.open(str(path)) as container:
        ticks = int(0.4 / float(container.streams.video[0].time_base))
    path.write_bytes(data[: at + 4] + struct.pack(">i", start + ticks) + data[at + 8 :])
    clip = video(path)
    assert numbers(cells_of(clip)) == list(range(4, 30))
    assert clip.times_seconds[:2] == pytest.approx([0, 0.1])


def test_the_largest_video_stream_is_read(tmp_path: Path) -> None:
    path = tmp_path / "several.mkv"
    with av.open(str(path), "w") as container:
        small, large = (container.add_stream("libx264", rate=10) for _ in range(2))
        sound = container.add_stream("pcm_s16le", rate=8000)
        sound.layout = "mono"
        for stream, size in ((small, 32), (large, 128)):
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
        for level in range(8):
            for stream, gray in ((small, 250), (large, 6 * level + 20)):
                picture = np.full((stream.height, stream.width, 3), gray, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
            noise.sample_rate = 8000
            container.mux(sound.encode(noise))
        for stream in (small, large, sound):
            container.mux(stream.encode())
    assert numbers(cells_of(video(path))) == list(range(8))


def test_a_frame_size_that_changes(tmp_path: Path) -> None:
    parts = [tmp_path / "a.h264", tmp_path / "b.h264"]
    for path, size in zip(parts, ((64, 48), (96, 80)), strict=True):
        write(path, counted(6, size), options={"crf": "1"})
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = cells_of(open_clip(path))
    assert numbers(frames) == [0, 1, 2, 3, 4, 5] * 2


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    import tracemalloc

    clip = video(make_clip(tmp_path / "long.mp4", counted(300, (64, 64))))
    tracemalloc.start()
    for _ in clip.cells(np.arange(300), Fit(cell=(64, 64))):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 64 * 64 * 3  # 300 cells would be three times as much


def _text(path: Path) -> None:
    path.write_text("this is no film " * 50)


def _noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(20_000))


def _playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.ts\n#EXT-X-ENDLIST\n")


def _header_only(path: Path) -> None:
    make_clip(path, counted(30))
    path.write_bytes(path.read_bytes()[:200])


def _audio_only(path: Path) -> None:
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))


def _pipe(path: Path) -> None:
    import os

    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (Path.touch, "0 bytes"),
        (_text, "cannot be read as a video"),
        (_noise, "cannot be read as a video"),
        (_playlist, "cannot be read as a video"),
        (_header_only, "cannot be read as a video"),
        (_audio_only, "no video stream"),
        (_pipe, "a device or a pipe"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: None, "does not exist"),
        (Path.mkdir, "no video and no images"),
    ],
)
def test_other_files_are_one_error_line(tmp_path: Path, spoil, fact: str) -> None:
    path = tmp_path / "clip.mp4"
    spoil(path)
    with pytest.raises(InputError) as caught:
        open_clip(path)
    assert fact in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_damage_is_reported(tmp_path: Path, suffix: str) -> None:
    """Wherever it is: FFmpeg skips whole parts of a Matroska file without an error."""
    path = write(tmp_path / f"clip.{suffix}", textured(60), options={"g": "30"})
    whole = path.read_bytes()
    for share in np.linspace(0.3, 0.7, 9):
        start = int(share * len(whole))
        path.write_bytes(
            whole[:start] + np.random.default_rng(0).bytes(2000) + whole[start + 2000 :]
        )
        with pytest.raises((InputError, WrongIndexError)):
            cells_of(open_clip(path))
        with pytest.raises(InputError, match=r"clip\..*(damaged|cannot be read|cut off)"):
            cells_of(open_clip(path, decode=True))


def test_a_live_recording(tmp_path: Path) -> None:
    """Browsers record Matroska files whose parts have no length."""
    path = tmp_path / "clip.webm"
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream = container.add_stream("libvpx-vp9", rate=12, options={"g": "4"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for picture in counted(12):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(96, 64)))
        container.mux(stream.encode())
    assert numbers(cells_of(open_clip(path))) == list(range(12))


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for picture in textured(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=r"clip\.mp4"):
        cells_of(open_clip(path))


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat", "list.mp4", "list"])
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}.ts\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:{}.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}.mp4\n",
        "ffconcat version 1.0\nfile secret.mp4\n",
    ],
)
def test_a_playlist_shows_no_other_file(tmp_path: Path, name: str, text: str) -> None:
    for suffix in ("mp4", "ts"):
        make_clip(tmp_path / f"secret.{suffix}", counted(6))
    (tmp_path / name).write_text(text.format(tmp_path / "secret"))
    with pytest.raises(InputError, match="cannot be read as a video"):
        open_clip(tmp_path / name)


def test_a_name_with_a_colon_is_not_a_protocol(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", counted(6))
    odd = path.rename(tmp_path / "http:take 2%.mp4")
    assert numbers(cells_of(open_clip(odd))) == [0, 1, 2, 3, 4, 5]
