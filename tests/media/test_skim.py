"""Videos in storage: the index that is read without their pictures is that of the local file."""

from pathlib import Path

import fsspec
import numpy as np
import pytest

from gridctl.media.clip import no_tick
from gridctl.media.fit import Fit
from gridctl.media.video import Skimmed, Video
from gridctl.storage import as_path
from tests.media import clips

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
