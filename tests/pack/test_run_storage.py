"""Pack from and to an S3 on loopback."""

import socket
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest

from gridctl.dataset.grid_image import load_grid
from gridctl.errors import UsageError
from gridctl.files import entries
from gridctl.geometry import Grid
from gridctl.pack import pack
from gridctl.storage import StorageError, as_path
from tests.media import clips
from tests.s3_server import S3Server
from tests.settings import pack_profile

GRID = Grid(rows=2, cols=3, cell=(32, 16))
PROFILE = pack_profile(GRID, workers=1)
Bucket = tuple[str, S3Server]


def put(local: Path, url: str) -> None:
    fsspec.filesystem("s3").put(f"{local}/", f"{url}/", recursive=True)


def keys(url: str) -> list[str]:
    found = fsspec.filesystem("s3", skip_instance_cache=True).find(url)
    return [key.removeprefix(f"{url.removeprefix('s3://')}/") for key in found]


def make_videos(folder: Path, count: int = 2) -> Path:
    (folder / "val").mkdir(parents=True)
    for number in range(count):
        clips.make_clip(folder / f"vid{number}.mp4", clips.textured(12, seed=number))
    clips.make_clip(folder / "val" / "vid9.mp4", clips.textured(12, seed=9))
    (folder / "vid0.txt").write_text("blocks drift\n")
    return folder


def test_a_bucket_becomes_what_a_folder_becomes(s3: Bucket, tmp_path: Path) -> None:
    bucket, server = s3
    put(make_videos(tmp_path / "videos"), f"{bucket}/videos")
    output = as_path(f"{bucket}/vidgrid")
    result = pack([as_path(f"{bucket}/videos")], output, PROFILE)
    assert (result.failed, len(result.written)) == ((), 3)
    names = ["metadata.jsonl", "val/metadata.jsonl", "val/vid9.jpg", "vid0.jpg", "vid1.jpg"]
    assert keys(f"{bucket}/vidgrid") == names
    local = pack([tmp_path / "videos"], tmp_path / "vidgrid", PROFILE)
    for ours, theirs in zip(result.written, local.written, strict=True):
        (picture, facts), (expected, known) = load_grid(ours), load_grid(theirs)
        assert np.array_equal(picture, expected)
        assert facts is not None
        assert known is not None
        assert (facts.source, facts.text) == (known.source, known.text)
        assert facts.times_seconds == known.times_seconds
    for name in ("metadata.jsonl", "val/metadata.jsonl"):
        assert (output / name).read_text() == (tmp_path / "vidgrid" / name).read_text()

    server.forget()
    again = pack([as_path(f"{bucket}/videos")], output, PROFILE)
    assert (len(again.skipped), again.written, again.failed) == (3, (), ())
    read = [path for method, path in server.requests if path.endswith(".mp4") and method == "GET"]
    assert read == []  # what is done is skipped without reading a video

    (tmp_path / "new").mkdir()
    clips.make_clip(tmp_path / "new" / "vid1.mp4", clips.textured(12, seed=5))
    put(tmp_path / "new", f"{bucket}/videos")
    changed = pack([as_path(f"{bucket}/videos")], output, PROFILE)
    assert [path.name for path in changed.written] == ["vid1.jpg"]


def test_folder_markers_are_not_listed(s3: Bucket) -> None:
    bucket, _ = s3
    system = fsspec.filesystem("s3")
    for key in ("a/", "a/a/clip.mp4", "a/a.mp4", "a/b/"):
        system.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key=key, Body=b"x")
    folder = as_path(f"{bucket}/a")
    folders, files = (sorted(map(str, paths)) for paths in entries(folder))
    assert (folders, files) == ([f"{folder}/a", f"{folder}/b"], [f"{folder}/a.mp4"])
    assert [str(path) for path in entries(folder / "a")[1]] == [f"{folder}/a/clip.mp4"]
    assert not as_path(f"{bucket}/nothing").is_dir()


def test_requests_that_fail_are_sent_again(s3: Bucket, tmp_path: Path) -> None:
    bucket, server = s3
    put(make_videos(tmp_path / "videos"), f"{bucket}/videos")
    failed: set[str] = set()

    def first(method: str, path: str) -> str | None:
        kinds = {("GET", "mp4"): "drop", ("PUT", "jpg"): "503"}
        fault = kinds.get((method, path[-3:]))
        if fault is None or path in failed:
            return None
        failed.add(path)
        return fault

    server.fault = first
    result = pack([as_path(f"{bucket}/videos")], as_path(f"{bucket}/vidgrid"), PROFILE)
    assert (result.failed, len(result.written)) == ((), 3)
    assert len(failed) == 6
    server.reset()
    assert len(keys(f"{bucket}/vidgrid")) == 5


def test_faults_of_storage_are_one_line_each(
    s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, server = s3
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the library would wait longer and longer
    put(make_videos(tmp_path / "videos", count=3), f"{bucket}/videos")

    def fault(method: str, path: str) -> str | None:
        if method == "GET" and path.endswith("vid1.mp4"):
            return "drop"
        return "503" if method == "PUT" and path.endswith("vid2.jpg") else None

    server.fault = fault
    result = pack([as_path(f"{bucket}/videos")], as_path(f"{bucket}/vidgrid"), PROFILE)
    server.reset()
    assert [f.path.name for f in result.failed] == ["vid1.mp4", "vid2.mp4"]
    assert result.failed[0].reason.startswith(f"{bucket}/videos/vid1.mp4 cannot be reached (")
    assert result.failed[1].reason.startswith(f"{bucket}/vidgrid/vid2.jpg cannot be reached (")
    assert all("\n" not in failure.reason for failure in result.failed)
    assert keys(f"{bucket}/vidgrid") == [
        "metadata.jsonl", "val/metadata.jsonl", "val/vid9.jpg", "vid0.jpg",
    ]  # fmt: skip
    again = pack([as_path(f"{bucket}/videos")], as_path(f"{bucket}/vidgrid"), PROFILE)
    assert ([path.name for path in again.written], again.failed) == (["vid1.jpg", "vid2.jpg"], ())


def test_an_unwritable_bucket_is_found_out_first(s3: Bucket, tmp_path: Path) -> None:
    bucket, server = s3
    put(make_videos(tmp_path / "videos"), f"{bucket}/videos")
    server.forget()
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/.* cannot be reached"):
        pack([as_path(f"{bucket}/videos")], as_path("s3://no-such-bucket/vidgrid"), PROFILE)
    assert not [path for method, path in server.requests if method == "GET" and "mp4" in path]


@pytest.mark.parametrize(
    ("output", "fact"),
    [
        ("https://host/vidgrid", "can only be read"),
        ("hf://datasets/me/clips", "would be a commit"),
        ("memory://vidgrid", "memory of this process"),
        ("ftp://host/vidgrid", "does not read ftp://"),
    ],
)
def test_outputs_that_take_no_files_are_refused(
    gridctl: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    output: str,
    fact: str,
) -> None:
    clip = clips.make_clip(tmp_path / "clip.mp4", clips.counted(6))
    assert gridctl("pack", clip, "-o", output) == UsageError.exit_code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("gridctl: ")
    assert fact in error


def test_uniform_reads_a_small_part_of_a_long_video(s3: Bucket, tmp_path: Path) -> None:
    bucket, server = s3
    noise = np.random.default_rng(0).integers(0, 256, (8, 144, 256, 3), np.uint8)
    frames = (noise[number % 8] for number in range(600))
    options = {"crf": "20", "g": "6", "preset": "ultrafast"}
    (tmp_path / "videos").mkdir()
    clip = clips.write(tmp_path / "videos" / "long.mp4", frames, fps=12, options=options)
    put(tmp_path / "videos", f"{bucket}/videos")
    server.forget()
    source = as_path(f"{bucket}/videos/long.mp4")
    result = pack([source], tmp_path / "vidgrid", PROFILE)
    assert not result.failed
    assert server.bytes_sent < clip.stat().st_size / 5  # 1.8 MB of it to open any video
    local = pack([clip], tmp_path / "local", PROFILE)
    assert np.array_equal(load_grid(result.written[0])[0], load_grid(local.written[0])[0])


@pytest.mark.slow
@pytest.mark.parametrize("to", ["webdataset", "parquet"])
def test_ray_writes_what_this_machine_writes(
    s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    bucket, _ = s3
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # Ray's workers import gridctl
    put(make_videos(tmp_path / "videos"), f"{bucket}/videos")
    for engine in ("local", "ray"):
        profile = pack_profile(GRID, workers=2, engine=engine, to=to)
        result = pack([as_path(f"{bucket}/videos")], as_path(f"{bucket}/{engine}"), profile)
        assert (result.failed, len(result.written)) == ((), 5)
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    for kind in ("", f"-{to}"):
        names = keys(f"{bucket}/local{kind}")
        assert keys(f"{bucket}/ray{kind}") == names
        for name in names:
            local, ray = (f"{bucket}/{engine}{kind}/{name}" for engine in ("local", "ray"))
            assert system.cat_file(ray) == system.cat_file(local), name
    again = pack([as_path(f"{bucket}/videos")], as_path(f"{bucket}/ray"), pack_profile(GRID, to=to))
    assert (again.written, len(again.skipped), again.failed) == ((), 5, ())


@pytest.mark.slow
def test_a_google_bucket_is_read_and_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gridctl: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    from gcp_storage_emulator.server import create_server

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True)
    server.start()
    try:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        system = fsspec.filesystem("gs")
        system.mkdir("bucket")
        system.put(f"{make_videos(tmp_path / 'videos')}/", "gs://bucket/videos/", recursive=True)
        capfd.readouterr()
        flags = ("--rows", 2, "--cols", 3, "--cell", "32x16", "--workers", 1)
        assert gridctl("pack", "gs://bucket/videos", "-o", "gs://bucket/vidgrid", *flags) == 0
        written = capfd.readouterr()
        assert written.out.split() == [
            f"gs://bucket/vidgrid/{name}.jpg" for name in ("val/vid9", "vid0", "vid1")
        ]
        assert "determine" not in written.err  # gcsfs's own warnings
        (theirs, *_) = pack([tmp_path / "videos"], tmp_path / "local", PROFILE).written
        ours = as_path("gs://bucket/vidgrid/val/vid9.jpg")
        assert np.array_equal(load_grid(ours)[0], load_grid(theirs)[0])
    finally:
        server.stop()
