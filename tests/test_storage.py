import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import cast
from urllib.parse import parse_qs

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.dataset.grid_image import load_grid
from gridctl.errors import UsageError
from gridctl.files import atomic_file, sweep_temporaries
from gridctl.geometry import Grid
from gridctl.pack import pack
from gridctl.ranges import BLOCK, open_ranges
from gridctl.storage import StorageError, Url, as_path
from gridctl.unpack import unpack
from tests.media import clips
from tests.s3_server import S3Server
from tests.settings import pack_profile

PROFILE = pack_profile(Grid(rows=2, cols=3, cell=(32, 16)), workers=1)


class Web(SimpleHTTPRequestHandler):
    """Files on the web: with ranges, without them, or with faults, by the server's `manner`."""

    def do_GET(self) -> None:
        manner, file = self.server.manner, Path(self.translate_path(self.path))  # type: ignore[attr-defined]
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if manner == "503":
            return self.send_error(503)
        asked = self.headers.get("Range")
        if manner == "ignores ranges" or asked is None or not file.is_file():
            return super().do_GET()
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        part = file.read_bytes()[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part[: len(part) // 2] if manner == "breaks off" else part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, HTTPServer]]:
    """The address of tmp_path on a web server, and the server."""
    handler = partial(getattr(request, "param", Web), directory=tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.manner, server.asked = "good", []  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", server
    server.shutdown()


def test_a_url_has_the_names_of_a_path() -> None:
    url = as_path("s3://bucket/videos/a b#1?.tar.mp4")
    assert str(url) == "s3://bucket/videos/a b#1?.tar.mp4"
    assert (url.name, url.stem, url.suffix) == ("a b#1?.tar.mp4", "a b#1?.tar", ".mp4")
    assert url.with_suffix(".txt").name == "a b#1?.tar.txt"
    assert url.parent == as_path("s3://bucket/videos/") == as_path("s3://bucket") / "videos"
    assert url.relative_to(url.parent) == PurePosixPath(url.name)
    assert len({url, as_path(str(url)), as_path("s3://other/videos/a b#1?.tar.mp4")}) == 2
    assert as_path("hf://datasets/me/clips/a.mp4").parent == as_path("hf://datasets/me/clips")
    for name in ("videos/a.mp4", "/videos", ".", "C:/videos", "a://b"):
        assert isinstance(as_path(name), Path)


def test_a_signature_in_an_address_is_sent_and_never_shown(
    web: tuple[str, HTTPServer], tmp_path: Path
) -> None:
    address, server = web
    clips.make_clip(tmp_path / "clip.mp4", clips.counted(6))
    url = as_path(f"{address}/clip.mp4?signature=secret")
    assert str(url) == f"{address}/clip.mp4"
    assert url.read_bytes() == (tmp_path / "clip.mp4").read_bytes()
    assert server.asked == ["/clip.mp4?signature=secret"]  # type: ignore[attr-defined]
    result = pack([url], tmp_path / "vidgrid", PROFILE)
    assert "secret" not in (tmp_path / "vidgrid" / "metadata.jsonl").read_text()
    gone = pack([as_path(f"{address}/gone.mp4?signature=secret")], tmp_path / "gone", PROFILE)
    assert len(result.written) == 1
    assert "secret" not in gone.failed[0].reason


@pytest.mark.parametrize(
    ("manner", "fact"),
    [
        ("503", "cannot be reached (HTTP 503 Service Unavailable)"),
        ("breaks off", "cannot be reached ("),
        ("ignores ranges", "cannot be reached (the server ignores ranges)"),
    ],
)
def test_a_web_server_with_faults_costs_one_line_per_clip(
    web: tuple[str, HTTPServer], tmp_path: Path, manner: str, fact: str
) -> None:
    address, server = web
    clip = clips.make_clip(tmp_path / "clip.mp4", clips.textured(40, size=(256, 128)))
    assert clip.stat().st_size > BLOCK
    server.manner = manner  # type: ignore[attr-defined]
    result = pack([as_path(f"{address}/clip.mp4")], tmp_path / "vidgrid", PROFILE)
    (failure,) = result.failed
    assert failure.reason.startswith(f"{address}/clip.mp4 {fact}")
    assert "\n" not in failure.reason
    assert list((tmp_path / "vidgrid").rglob("*.jpg")) == []


def test_a_video_on_the_web_gives_the_grid_of_the_file(
    web: tuple[str, HTTPServer], tmp_path: Path
) -> None:
    address, _ = web
    clip = clips.make_clip(tmp_path / "clip.mp4", clips.textured(40, size=(256, 128)))
    (ours,) = pack([as_path(f"{address}/clip.mp4")], tmp_path / "a", PROFILE).written
    (theirs,) = pack([clip], tmp_path / "b", PROFILE).written
    assert np.array_equal(load_grid(ours)[0], load_grid(theirs)[0])
    assert load_grid(ours)[1].source == f"{address}/clip.mp4"  # type: ignore[union-attr]


def test_a_grid_in_storage_becomes_a_clip(tmp_path: Path) -> None:
    clip = clips.make_clip(tmp_path / "clip.mp4", clips.counted(6))
    (grid,) = pack([clip], tmp_path / "vidgrid", PROFILE).written
    fsspec.filesystem("memory").pipe_file("/unpack/clip.jpg", grid.read_bytes())
    for source in ("memory://unpack/clip.jpg", "memory://unpack"):
        output = tmp_path / f"{len(source)}"
        result = unpack([as_path(source)], f"{output}/")
        assert result.failed == ()
        assert len(list(output.rglob("*.png")) + list(output.rglob("*.mp4"))) in (1, 6)


@pytest.mark.parametrize(
    "arguments",
    [
        ("unpack", "{clip}", "-o", "s3://bucket/clip.mp4"),
        ("train", "tiny", "-o", "s3://bucket/a.safetensors"),
        ("generate", "t2v", "a red circle", "-o", "s3://bucket/out.mp4"),
        ("generate", "i2v", "s3://bucket/first.png", "a red circle"),
        ("caption", "{clip}", "--mapping", "gs://bucket/words.csv"),
    ],
)
def test_what_must_be_local_is_refused(
    gridctl: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert gridctl(*(a.format(clip=tmp_path / "grid.jpg") for a in arguments)) == 2
    error = capsys.readouterr().err.strip()
    assert "must be on this machine" in error
    assert "://bucket/" in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("ftp://host/a.mp4", "gridctl does not read ftp://"),
        ("https://me:secret@host/a.mp4", "has credentials in it"),
    ],
)
def test_an_unknown_or_secret_url_is_refused(name: str, fact: str) -> None:
    with pytest.raises(UsageError, match=fact) as error:
        as_path(name)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("package", "scheme"), [("s3fs", "s3"), ("gcsfs", "gs")])
def test_a_missing_package_is_named(
    tmp_path: Path,
    gridctl: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    scheme: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert gridctl("pack", f"{scheme}://bucket/a", "-o", tmp_path / "a") == UsageError.exit_code
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == f"gridctl: {scheme}:// needs {package}; run: pip install {package}"


class Hub(Web):
    """The requests of the Hugging Face Hub that reading a data set takes. Files are in tmp_path."""

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        root = Path(self.directory)
        if path.startswith("/datasets/me/clips/resolve/main/"):
            self.path = path.replace("/datasets/me/clips/resolve/main/", "/", 1)
            return super().do_GET()
        if path.startswith("/api/datasets/me/clips/tree/main"):
            folder = root / path.removeprefix("/api/datasets/me/clips/tree/main").strip("/")
            return self.send_json([self.entry(file) for file in sorted(folder.iterdir())])
        if path in ("/api/datasets/me/clips", "/api/datasets/me/clips/revision/main"):
            return self.send_json({"id": "me/clips", "sha": "0" * 40, "siblings": []})
        return self.send_error(404)

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        names = parse_qs(asked).get("paths") or json.loads(asked)["paths"]
        files = (Path(self.directory) / name for name in names)
        self.send_json([self.entry(file) for file in files if file.exists()])

    def entry(self, file: Path) -> dict[str, object]:
        kind, size = ("directory", 0) if file.is_dir() else ("file", file.stat().st_size)
        name = file.relative_to(self.directory).as_posix()
        return {"type": kind, "path": name, "size": size, "oid": f"{size:040}"}

    def send_json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.mark.slow
@pytest.mark.parametrize("web", [Hub], indirect=True)
def test_a_data_set_of_the_hub_is_packed(web: tuple[str, HTTPServer], tmp_path: Path) -> None:
    address, _ = web
    (tmp_path / "videos").mkdir()
    clip = clips.make_clip(tmp_path / "videos" / "clip.mp4", clips.textured(40, size=(256, 128)))
    (tmp_path / "videos" / "clip.txt").write_text("blocks drift")
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "gridctl", "pack", "hf://datasets/me/clips/videos"]
    flags = ["-o", str(tmp_path / "vidgrid"), "--rows", "2", "--cols", "3", "--cell", "32x16"]
    done = subprocess.run([*command, *flags], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/vidgrid/clip.jpg\n"), done.stderr
    (theirs,) = pack([clip], tmp_path / "local", PROFILE).written
    (picture, metadata), (expected, _) = load_grid(tmp_path / "vidgrid/clip.jpg"), load_grid(theirs)
    assert np.array_equal(picture, expected)
    assert metadata is not None
    assert metadata.source == "hf://datasets/me/clips/videos/clip.mp4"
    assert metadata.text == "blocks drift"


def test_an_upload_is_the_last_act() -> None:
    url, system = as_path("memory://whole/a.txt"), fsspec.filesystem("memory")
    with suppress(ZeroDivisionError), atomic_file(url) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert not url.exists()
    with atomic_file(url) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".txt"
        assert not url.exists()
    assert system.cat_file("/whole/a.txt") == b"whole"
    assert not temporary.exists()


@pytest.mark.slow
def test_an_upload_in_parts_is_whole_or_absent(
    s3: tuple[str, S3Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, server = s3
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    url, whole, puts = as_path(f"{bucket}/shard.tar"), as_path(f"{bucket}/whole.tar"), count()
    system = fsspec.filesystem("s3", skip_instance_cache=True)

    def write(to: Path) -> None:
        with atomic_file(to) as temporary, temporary.open("wb") as file:
            file.truncate(110 * 2**20)

    server.fault = lambda method, path: "503" if method == "PUT" and next(puts) else None
    with pytest.raises(StorageError, match=r"shard\.tar cannot be reached"):
        write(url)
    server.reset()
    assert not url.exists()
    left = system.call_s3("list_multipart_uploads", Bucket=bucket.removeprefix("s3://"))
    assert left.get("Uploads", []) == []
    write(whole)  # parts of the one that failed may still be on their way
    assert whole.stat().st_size == 110 * 2**20
    parts = [path for method, path in server.requests if method == "PUT" and "whole" in path]
    assert len(parts) == 3  # of 50 MB


HELD = """
import signal, sys
from gridctl.files import atomic_file
from gridctl.storage import as_path
with atomic_file(as_path("memory://held/a.txt")) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    signal.pause()
"""


def test_what_a_killed_upload_left_here_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", HELD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        sweep_temporaries(as_path("memory://held"))
        assert left.read_text() == "half"  # it is still at work
        process.kill()
    assert left.exists()
    (tmp_path / "gridctl-of-somebody-else").mkdir()
    sweep_temporaries(as_path("memory://held"))
    assert [path.name for path in tmp_path.iterdir()] == ["gridctl-of-somebody-else"]


def test_a_missing_file_is_told_from_storage_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not as_path("memory://nowhere/a.txt").exists()
    with pytest.raises(FileNotFoundError):
        as_path("memory://nowhere/a.txt").read_bytes()
    nobody = as_path("http://127.0.0.1:9/a.mp4")
    for ask in (nobody.exists, nobody.is_file, nobody.stat, nobody.read_bytes):
        with pytest.raises(StorageError, match="cannot be reached"):
            ask()


def test_a_bug_is_not_reported_as_storage_that_cannot_be_reached() -> None:
    url = as_path("memory://bugs/a.txt")
    fsspec.filesystem("memory").pipe_file(str(url), b"four")
    assert cast(Url, url).read_range(0, 2) == b"fo"
    with pytest.raises(TypeError):
        cast(Url, url).read_range(cast(int, "0"), 2)


@pytest.mark.parametrize("piece", [BLOCK, BLOCK // 3, 2 * BLOCK + 1])
def test_ranges_read_a_whole_file_in_pieces(piece: int) -> None:
    data = np.random.default_rng(0).bytes(20 * BLOCK + 7)
    asked: list[tuple[int, int]] = []

    def read(start: int, end: int) -> bytes:
        asked.append((start, end))
        return data[start:end]

    file = open_ranges(read, name="a", size=len(data), key=object())
    assert b"".join(iter(lambda: file.read(piece), b"")) == data
    assert asked[0] == (0, BLOCK)
    assert [start for start, _ in asked[1:]] == [end for _, end in asked[:-1]]  # nothing twice
    assert len(asked) < 12  # more and more blocks at once


def test_an_object_that_was_replaced_is_read_anew() -> None:
    url, system = as_path("memory://blocks/a.bin"), fsspec.filesystem("memory")
    for content in (b"first", b"other"):  # of one length
        system.pipe_file(str(url), content)
        with url.open("rb") as file:
            assert file.read() == content


@settings(max_examples=40)
@given(
    size=st.integers(0, 9 * BLOCK),
    steps=st.lists(st.tuples(st.integers(0, 9 * BLOCK), st.integers(0, 2 * BLOCK)), max_size=8),
)
def test_ranges_read_what_a_file_reads(size: int, steps: list[tuple[int, int]]) -> None:
    data = np.random.default_rng(size).bytes(size)
    asked: list[tuple[int, int]] = []

    def read(start: int, end: int) -> bytes:
        asked.append((start, end))
        return data[start:end]

    file = open_ranges(read, name="a", size=size, key=object())
    for start, length in steps:
        file.seek(start)
        assert file.read(length) == data[start : start + length]
    assert all(0 <= start < end <= size for start, end in asked)
