"""What users throw at pack: broken files, a full disk, and an end at any moment."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gridctl.dataset.grid_image import load_grid
from gridctl.geometry import Grid
from gridctl.pack import pack
from tests.media.clips import counted, make_clip, textured, write
from tests.settings import pack_profile

ROOT = Path(__file__).parents[2]
GRID = Grid(rows=2, cols=2, cell=(32, 32))
FLAGS = ["--rows", "2", "--cols", "2", "--cell", "32"]


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def start(*arguments: object, cwd: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "gridctl", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # and so a process group
    )


def spoil(folder: Path) -> set[str]:
    """Put every broken input that we know into `folder` → their names."""
    whole = write(folder / "whole.mp4", textured(30), options={"g": "10"}).read_bytes()
    (folder / "zero.mp4").touch()
    (folder / "text.mp4").write_text("no film at all\n" * 100)
    (folder / "header.mp4").write_bytes(whole[:48])
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.mkv").write_bytes(random.Random(0).randbytes(30_000))
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    os.mkfifo(folder / "pipe.mp4")
    make_clip(folder / "one.mp4", counted(1))
    make_clip(folder / "short.mp4", counted(3))
    Image.new("RGB", (8, 8)).save(folder / "still.gif")
    (folder / "sound.ogv").write_bytes(_sound(folder))
    (folder / "huge").mkdir()
    png = bytearray(_png_header(30_000, 30_000))
    (folder / "huge" / "frame_1.png").write_bytes(png)
    return {
        "zero.mp4", "text.mp4", "header.mp4", "half.mp4", "noise.mkv", "gone.mp4", "loop.mp4",
        "pipe.mp4", "one.mp4", "short.mp4", "still.gif", "sound.ogv", "huge",
    }  # fmt: skip


def _sound(folder: Path) -> bytes:
    path = folder / "sound.tmp"
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    data = path.read_bytes()
    path.unlink()
    return data


def _png_header(width: int, height: int) -> bytes:
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, data)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_broken_inputs_get_a_line_each(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    bad = spoil(videos)
    names = [
        "a b.mp4",
        "two\nlines.mp4",
        "\U0001f43b.mp4",
        "-dash.mp4",
        "--force.mp4",
        "x" * 240 + ".mp4",
    ]
    for name in names:
        (videos / "whole.mp4").with_name(name).write_bytes((videos / "whole.mp4").read_bytes())
    process = start("pack", "videos", *FLAGS, "-o", "out", cwd=tmp_path)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("gridctl: ")]
    assert len(lines) == len(bad) + 1
    for name in bad:
        assert sum(f"videos/{name}" in line for line in lines) == 1, name
    done = {path.name for path in (tmp_path / "out").glob("*.jpg")}
    assert done == {f"{Path(name).stem}.jpg" for name in ["whole.mp4", *names]}
    listed = (tmp_path / "out" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["file_name"] for line in listed} == done
    assert len(output.splitlines()) == len(names) + 2  # one name has two lines


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permissions(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "closed.mp4", counted(4))
    path.chmod(0)
    assert "cannot be read" in pack([path], tmp_path / "out", pack_profile(GRID)).failed[0].reason


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.webm"])
def test_a_file_cut_anywhere_is_packed_or_reported(tmp_path: Path, name: str) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    data = write(tmp_path / name, textured(24), codec=codec, options={"g": "8"}).read_bytes()
    cuts = random.Random(0).sample(range(len(data)), 12)
    clips = []
    for cut in cuts:
        path = tmp_path / "cut" / f"{cut}-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data[:cut])
        clips.append(path)
    result = pack(clips, tmp_path / "out", pack_profile(GRID))
    assert len(result.written) + len(result.failed) == len(cuts)
    assert not any("fault of gridctl" in failure.reason for failure in result.failed)
    if name.endswith("mp4"):  # its index is at the end, and only tags come after it
        packed = {int(path.stem.partition("-")[0]) for path in result.written}
        assert all(cut >= data.index(b"udta") for cut in packed)


def test_killing_pack_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """Killed again and again, and then left alone, it makes what one undisturbed run makes."""
    videos = tmp_path / "videos"
    for number in range(6):
        path = videos / ("val" if number % 3 == 2 else "train") / f"vid{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, textured(40, seed=number), options={"g": "10"})
    arguments = ["pack", "videos", *FLAGS, "--sample", "windows", "--format", "png", "-o"]
    whole = start(*arguments, "whole", cwd=tmp_path)
    began = time.monotonic()
    whole.communicate(timeout=120)
    seconds = time.monotonic() - began
    assert whole.returncode == 0
    dice = random.Random(1)
    ended = set()
    for attempt in range(8):
        process = start(*arguments, "out", "--workers", "2", cwd=tmp_path)
        time.sleep(dice.uniform(0.3, 1.0) * seconds)
        stop = signal.SIGINT if attempt % 2 else signal.SIGKILL
        process.send_signal(stop)
        _, errors = process.communicate(timeout=120)
        assert "Traceback" not in errors
        ended.add(process.returncode)
        for path in (tmp_path / "out").rglob("*.png"):
            if not path.name.startswith("."):
                load_grid(path)  # whole, or absent
        if dice.random() < 0.4:  # else there is soon nothing left to interrupt
            for path in list((tmp_path / "out").rglob("*.png"))[::2]:
                path.unlink(missing_ok=True)
    assert ended & {-signal.SIGKILL, 130}
    time.sleep(0.5)  # workers of a killed run notice at their next packet
    final = start(*arguments, "out", cwd=tmp_path)
    _, errors = final.communicate(timeout=120)
    assert final.returncode == 0, errors
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_group_leaves_no_half_file(
    tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    clip = make_clip(tmp_path / "vid0.mp4", textured(60))
    for number in range(1, 100):  # so many that it is not over before the signal comes
        (tmp_path / f"vid{number}.mp4").hardlink_to(clip)
    output = tmp_path / "out"
    flags = ["--sample", "windows", "--rows", "2", "--cols", "2", "--format", "png"]
    process = start("pack", ".", *flags, "--workers", "2", "-o", "out", cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(output.glob(".*.gridctl-tmp.png")) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, stop)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in errors) == (code, False)
    assert "run the same command again to continue" in errors
    assert list(output.glob(".*")) == []


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    clips = [make_clip(tmp_path / f"vid{k}.mp4", textured(4)) for k in range(2)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:  # no file may grow past 2,000 bytes: what a quota does
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        result = pack(clips, tmp_path / "out", pack_profile(GRID, format="png"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(result.failed) == 2
    assert all("cannot be written" in failure.reason for failure in result.failed)
    assert content(tmp_path / "out") == {}
    assert len(pack(clips, tmp_path / "out", pack_profile(GRID, format="png")).written) == 2


@pytest.mark.slow
def test_a_fuzz_of_mutated_clips(tmp_path: Path) -> None:
    """600 clips with bytes flipped, cut out, doubled or cut off: a grid or a line for each."""
    dice = random.Random(0)
    frames = textured(12)
    kinds = {
        "mp4": "libx264", "mkv": "libx264", "ts": "libx264", "webm": "libvpx-vp9",
        "avi": "mpeg4", "mov": "prores_ks", "mpg": "mpeg2video", "gif": "", "webp": "", "apng": "",
    }  # fmt: skip
    clips = []
    for suffix, codec in kinds.items():
        path = tmp_path / f"seed.{suffix}"
        if codec:
            pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
            write(path, frames, codec=codec, fps=25, options={"g": "6"}, pix_fmt=pix_fmt)
        else:
            first, *others = (Image.fromarray(picture) for picture in frames)
            first.save(path, save_all=True, append_images=others)
        seed = path.read_bytes()
        path.unlink()
        for number in range(60):
            data = bytearray(seed)
            for _ in range(dice.choice((1, 3, 30))):
                at = dice.randrange(len(data))
                match dice.randrange(4):
                    case 0:
                        data[at] ^= 1 << dice.randrange(8)
                    case 1:
                        data[at : at + dice.randrange(1, 50)] = b""
                    case 2:
                        data[at:at] = data[at : at + dice.randrange(1, 200)]
                    case _:
                        data[at : at + 4] = dice.randbytes(4)
            if dice.random() < 0.2:
                del data[dice.randrange(len(data)) :]
            clips.append(tmp_path / f"{number}.{suffix}")
            clips[-1].write_bytes(data)
    result = pack(clips, tmp_path / "out", pack_profile(GRID, sample="windows"))
    told = {failure.path for failure in result.failed}
    made = {path.stem.partition("_")[0] for path in result.written}
    assert len(clips) == 600
    assert made
    assert told
    assert len(told) + len({load_grid(path)[1].source for path in result.written}) == 600  # type: ignore[union-attr]
    assert [f.reason for f in result.failed if "fault of gridctl" in f.reason] == []
    assert all("\n" not in failure.reason for failure in result.failed)
