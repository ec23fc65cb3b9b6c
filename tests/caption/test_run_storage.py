"""Captions of grids in storage: in memory, and in an S3 on loopback."""

import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from gridctl.caption import caption, check
from gridctl.errors import UsageError
from gridctl.storage import StorageError, as_path
from tests.s3_server import S3Server


@pytest.fixture
def bare(dataset: Path, tmp_path: Path) -> Path:
    """The small dataset in two folders, without captions."""
    for number, image in enumerate(sorted(dataset.glob("*.png"))):
        copy = tmp_path / "vidgrid" / ("val" if number == 0 else "") / image.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(image.read_bytes())
    return tmp_path / "vidgrid"


def put(local: Path, url: str) -> None:
    fsspec.filesystem(url.partition(":")[0]).put(f"{local}/", f"{url}/", recursive=True)


def test_storage_gets_the_captions_of_a_folder(bare: Path) -> None:
    url = as_path("memory://captions/vidgrid")
    put(bare, str(url))
    result = caption([url])
    assert result.failed == ()
    assert [path.name for path in result.written] == [path.name for path in caption([bare]).written]
    for path in sorted(bare.rglob("*.txt")) + sorted(bare.rglob("*.jsonl")):
        assert (url / path.relative_to(bare)).read_text() == path.read_text()
    assert [path.name for path in caption([url]).skipped] == [p.name for p in result.written]
    assert check([url]).findings == ()
    first = result.written[0]
    fsspec.filesystem("memory").pipe_file(str(first), b"a red ball, by hand\n")
    caption([url])
    lines = [json.loads(line) for line in (url / "metadata.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines if line["file_name"][:-4] == first.stem] == [
        "a red ball, by hand"
    ]


@pytest.mark.parametrize("url", ["hf://datasets/me/vidgrid", "https://host/clip.jpg"])
def test_read_only_storage_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="on this machine"):
        caption([as_path(url)])


def test_a_run_that_storage_stops_keeps_what_it_has(
    s3: tuple[str, S3Server],
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
    gridctl: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bucket, server = s3
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    put(bare, f"{bucket}/vidgrid")
    puts: list[str] = []

    def third_put(method: str, path: str) -> str | None:
        if method == "PUT":
            puts.append(path)
        return "503" if len(puts) > 2 and method == "PUT" else None

    server.fault = third_put
    assert gridctl("caption", f"{bucket}/vidgrid") == StorageError.exit_code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"gridctl: {bucket}/vidgrid")
    assert "cannot be reached" in error
    server.reset()
    result = caption([as_path(f"{bucket}/vidgrid")])
    assert (len(result.skipped), len(result.written), result.failed) == (2, 2, ())
    lines = (as_path(f"{bucket}/vidgrid/metadata.jsonl")).read_text().splitlines()
    assert all(json.loads(line)["caption_backend"] == "template" for line in lines)
