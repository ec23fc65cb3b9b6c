from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gridctl.errors import UsageError
from gridctl.tiny.dataset import main, write_clips
from gridctl.tiny.render import render_clip
from gridctl.tiny.scene import sample_scene


def read(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_clips_are_real_videos_with_their_captions(tmp_path: Path) -> None:
    paths = write_clips(tmp_path, count=2, seed=5, num_frames=10, size=(64, 48), fps=12)
    assert [path.name for path in paths] == ["clip_0001.mp4", "clip_0002.mp4"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".txt"}
    with av.open(str(paths[0])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.average_rate, stream.width, stream.height) == (12, 64, 48)
    scene = sample_scene(np.random.default_rng((5, 0, 1)))
    frames = read(paths[0])
    assert frames.shape == (10, 48, 64, 3)
    assert np.abs(frames.astype(int) - render_clip(scene, 10, (64, 48))).mean() < 4
    caption = paths[0].with_suffix(".txt").read_text()
    assert scene.color in caption
    assert scene.shape in caption


def test_a_second_run_makes_only_missing_clips(tmp_path: Path) -> None:
    def write(count: int) -> list[bytes]:
        paths = write_clips(tmp_path, count=count, seed=1, num_frames=3, size=(32, 32))
        return [path.read_bytes() for path in paths]

    first = write(2)
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())]
    assert write(3)[:2] == first
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())[:4]] == times
    (tmp_path / "clip_0001.mp4").unlink()
    assert write(2) == first


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"seed": 2}, "another seed or kind"),
        ({"kind": "solid"}, "another seed or kind"),
        ({"num_frames": 4}, "3 frames instead of 4"),
        ({"size": (48, 32)}, "32x32 pixels instead of 48x32"),
        ({"fps": 12}, "24 fps instead of 12"),
    ],
)
def test_clips_of_other_settings_are_refused(
    tmp_path: Path, other: dict[str, Any], told: str
) -> None:
    settings: dict[str, Any] = {"count": 1, "seed": 1, "num_frames": 3, "size": (32, 32)}
    (clip,) = write_clips(tmp_path, **settings)
    before = clip.read_bytes()
    with pytest.raises(UsageError, match=f"other settings: {told}"):
        write_clips(tmp_path, **settings | other)
    assert clip.read_bytes() == before


def test_streams_and_seeds_differ(tmp_path: Path) -> None:
    texts = set()
    for seed, stream in ((0, 0), (1, 0), (0, 1)):
        folder = tmp_path / f"{seed}-{stream}"
        write_clips(folder, count=3, seed=seed, stream=stream, num_frames=2, size=(16, 16))
        texts.add("".join(path.read_text() for path in sorted(folder.glob("*.txt"))))
    assert len(texts) == 3


def test_impossible_numbers_are_refused_first(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    with pytest.raises(UsageError, match="frames is 0; it is at least 1"):
        write_clips(folder, count=1, seed=0, num_frames=0)
    with pytest.raises(UsageError, match="size is 8; it is at least 16"):
        write_clips(folder, count=1, seed=0, size=(32, 8))
    assert not folder.exists()


def test_the_command_splits_train_and_val(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"dataset {tmp_path} --count 2 --val 1 --frames 2 --size 32 --kind solid"
    monkeypatch.setattr(sys, "argv", arguments.split())
    main()
    assert capsys.readouterr().out.split() == [
        str(tmp_path / name)
        for name in ("train/clip_0001.mp4", "train/clip_0002.mp4", "val/clip_0001.mp4")
    ]
    monkeypatch.setattr(sys, "argv", [*arguments.split(), "--size", "12k8"])
    with pytest.raises(SystemExit, match="gridctl: size '12k8' is not WIDTHxHEIGHT"):
        main()
