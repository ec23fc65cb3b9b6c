import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gridctl.dataset.grid_image import compose, load_metadata, save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.media.images import natural_key
from gridctl.pack import pack
from gridctl.unpack import unpack
from tests.settings import pack_profile, unpack_profile

GRID = Grid(rows=2, cols=3, cell=(32, 16), order="serpentine")
FRAMES = np.random.default_rng(0).integers(0, 256, (6, 16, 32, 3), dtype=np.uint8)


def make_grid(path: Path, num_frames: int = 6, fps: float = 5.0) -> Path:
    metadata = GridMetadata(
        grid=GRID,
        source="vid1.mp4",
        times_seconds=tuple(k / fps for k in range(num_frames)),
        fps=fps,
        num_frames=num_frames,
    )
    save_grid(compose(FRAMES, GRID), path, metadata)
    return path


def read_folder(folder: Path) -> np.ndarray:
    files = sorted(folder.glob("frame_*"), key=natural_key)
    return np.stack([np.asarray(Image.open(file)) for file in files])


def video_facts(path: Path) -> tuple[int, float]:
    """(frames, seconds) of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        count = sum(1 for _ in container.decode(stream))
        return count, float(stream.duration * stream.time_base)


def test_frames_come_back_bit_exact(tmp_path: Path) -> None:
    result = unpack([make_grid(tmp_path / "vid1.png")], f"{tmp_path}/frames/")
    assert result.failed == ()
    assert np.array_equal(read_folder(tmp_path / "frames"), FRAMES)


def test_padded_cells_are_left_out(tmp_path: Path) -> None:
    unpack([make_grid(tmp_path / "vid1.png", num_frames=4)], tmp_path / "frames")
    assert np.array_equal(read_folder(tmp_path / "frames"), FRAMES[:4])


def test_frame_rate(tmp_path: Path) -> None:
    grid = make_grid(tmp_path / "vid1.webp", fps=5)
    unpack([grid], tmp_path / "a.mp4")
    unpack([grid], tmp_path / "b.mp4", unpack_profile(fps=12.0))
    assert video_facts(tmp_path / "a.mp4") == (6, pytest.approx(6 / 5))
    assert video_facts(tmp_path / "b.mp4") == (6, pytest.approx(6 / 12))


def test_pack_unpack_pack_gives_the_same_grid(tmp_path: Path) -> None:
    folder = tmp_path / "sequence1"
    folder.mkdir()
    for number, picture in enumerate(FRAMES):
        Image.fromarray(picture).save(folder / f"{number}.png")
    first = pack([folder], tmp_path / "one", pack_profile(GRID, format="png")).written[0]
    unpack([first], tmp_path / "again")
    second = pack([tmp_path / "again"], tmp_path / "two", pack_profile(GRID, format="png")).written[
        0
    ]
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(second)))


@pytest.mark.parametrize(
    ("format", "names"),
    [
        ("mp4", ["train/vid1.mp4", "vid2.mp4"]),
        ("gif", ["train/vid1.gif", "vid2.gif"]),
        ("frames", ["train/vid1", "vid2"]),
        ("jpg", ["train/vid1", "vid2"]),
        ("webm", ["train/vid1.webm", "vid2.webm"]),
        ("webp", ["train/vid1.webp", "vid2.webp"]),
        ("apng", ["train/vid1.apng", "vid2.apng"]),
    ],
)
def test_a_folder_of_grids_becomes_a_folder_of_clips(tmp_path: Path, format, names) -> None:
    make_grid(tmp_path / "vidgrid" / "vid2.png")
    make_grid(tmp_path / "vidgrid" / "train" / "vid1.png")
    output = tmp_path / "clips"
    profile = unpack_profile(format=format)
    result = unpack([tmp_path / "vidgrid"], output, profile)
    assert sorted(path.relative_to(output).as_posix() for path in result.written) == names
    assert all(path.exists() for path in result.written)
    assert len(unpack([tmp_path / "vidgrid"], output, profile).skipped) == 2


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.apng", "a.webp", "a"])
def test_a_clip_made_from_the_same_is_skipped(name: str, tmp_path: Path) -> None:
    grid = make_grid(tmp_path / "vid1.png")
    output = tmp_path / "out" / name
    assert unpack([grid], output).written == (output,)
    assert unpack([grid], output).skipped == (output,)

    slower = unpack_profile(fps=3.0)
    (failure,) = unpack([grid], output, slower).failed
    assert "exists and is not overwritten" in failure.reason
    assert unpack([grid], output, slower, force=True).written == (output,)

    metadata = load_metadata(grid)
    assert metadata is not None
    save_grid(
        np.asarray(Image.open(grid))[::-1], grid, metadata, force=True
    )  # another picture of the same name
    assert len(unpack([grid], output, slower).failed) == 1


def test_one_bad_grid_does_not_stop_the_others(tmp_path: Path) -> None:
    make_grid(tmp_path / "vidgrid" / "vid2.png")
    (tmp_path / "vidgrid" / "vid1.png").write_bytes(b"no picture")
    result = unpack([tmp_path / "vidgrid"], tmp_path / "clips")
    assert [path.name for path in result.written] == ["vid2.mp4"]
    assert [failure.path.name for failure in result.failed] == ["vid1.png"]
    assert [path.name for path in (tmp_path / "clips").iterdir()] == ["vid2.mp4"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX")
def test_a_pipe_among_grids_is_not_waited_for(tmp_path: Path) -> None:
    make_grid(tmp_path / "grids" / "a.jpg")
    os.mkfifo(tmp_path / "grids" / "b.jpg")
    result = unpack([tmp_path / "grids"], tmp_path / "clips")
    assert [path.name for path in result.written] == ["a.mp4"]
    (failure,) = result.failed
    assert "b.jpg cannot be read (it is a pipe" in failure.reason


def test_bare_images_take_the_profiles_grid(tmp_path: Path) -> None:
    path = tmp_path / "foreign.png"
    Image.fromarray(compose(FRAMES, GRID)).save(path)
    failed = unpack([path], tmp_path / "frames").failed
    assert "--rows" in failed[0].reason
    wrong = unpack([path], tmp_path / "frames", unpack_profile({"rows": 5, "cols": 3}))
    assert "divide" in wrong.failed[0].reason
    assert not (tmp_path / "frames").exists()
    shape = {"rows": 2, "cols": 3, "order": "serpentine"}
    unpack([path], tmp_path / "frames", unpack_profile(shape))
    assert np.array_equal(read_folder(tmp_path / "frames"), FRAMES)


@pytest.mark.parametrize("cell", [(160, 90), (33, 7), (1, 1)])
def test_a_sheet_may_have_cells_of_any_size(tmp_path: Path, cell: tuple[int, int]) -> None:
    width, height = cell
    frames = np.random.default_rng(0).integers(0, 256, (6, height, width, 3), dtype=np.uint8)
    rows = [np.concatenate(list(frames[k : k + 3]), axis=1) for k in (0, 3)]
    Image.fromarray(np.concatenate(rows)).save(tmp_path / "sheet.png")
    shape = unpack_profile({"rows": 2, "cols": 3})
    assert unpack([tmp_path / "sheet.png"], tmp_path / "frames", shape).failed == ()
    assert np.array_equal(read_folder(tmp_path / "frames"), frames)


def test_the_grids_of_one_clip_are_joined_in_order(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (17, 16, 32, 3), dtype=np.uint8)
    folder = tmp_path / "sequence1"
    folder.mkdir()
    for number, picture in enumerate(frames):
        Image.fromarray(picture).save(folder / f"{number}.png")
    for options in ({}, {"overlap": 2}):
        output = tmp_path / f"grids{len(options)}"
        made = pack(
            [folder],
            output,
            pack_profile(GRID, sample="windows", tail="pad", format="png", **options),
        ).written
        assert len(made) > 2
        unpack([*reversed(made), made[0]], output / "joined")
        assert np.array_equal(read_folder(output / "joined"), frames)
        unpack([output], tmp_path / f"clips{len(options)}", unpack_profile(format="frames"))
        assert [path.name for path in (tmp_path / f"clips{len(options)}").iterdir()] == [
            "sequence1"
        ]
        some = unpack([made[0], made[2]], output / "some")
        assert "made of 2 of the" in some.notes[0]


@pytest.mark.parametrize("overlap", [0, 2])
def test_repeated_frames_are_not_shared_ones(tmp_path: Path, overlap: int) -> None:
    from tests.media.clips import counted, make_clip, numbers

    clip = make_clip(tmp_path / "clip.mp4", counted(24), fps=12)
    grid = Grid(rows=1, cols=3, cell=(32, 16))
    options = {"sample": "fps=16", "overlap": overlap, "tail": "pad", "format": "png"}
    made = pack([clip], tmp_path / "out", pack_profile(grid, **options)).written
    unpack(made, tmp_path / "frames")
    ticks = [int(tick * 12 / 16) for tick in range(32)]
    assert numbers(read_folder(tmp_path / "frames")) == ticks


def test_missing_grids_do_not_repeat_frames(tmp_path: Path) -> None:
    from tests.media.clips import counted, make_clip, numbers

    clip = make_clip(tmp_path / "clip.mp4", counted(12))
    options = {"sample": "windows", "overlap": 4, "format": "png"}
    made = pack([clip], tmp_path / "out", pack_profile(GRID, **options)).written
    unpack([made[0], made[2]], tmp_path / "frames")
    assert numbers(read_folder(tmp_path / "frames")) == list(range(10))


def test_a_joined_clip_keeps_its_frame_rate(tmp_path: Path) -> None:
    from tests.media.clips import counted, make_clip, numbers

    clip = make_clip(tmp_path / "clip.mp4", counted(24), fps=12)
    made = pack(
        [clip], tmp_path / "out", pack_profile(GRID, sample="windows", format="png")
    ).written
    unpack(made, tmp_path / "back.mp4")
    assert video_facts(tmp_path / "back.mp4") == (24, pytest.approx(2.0))
    unpack(made, tmp_path / "frames")
    assert numbers(read_folder(tmp_path / "frames")) == list(range(24))


def test_codec_and_quality(tmp_path: Path) -> None:
    grid = make_grid(tmp_path / "vid1.png")
    for name, codec, expected in (
        ("a.mp4", None, "h264"),
        ("b.mp4", "hevc", "hevc"),
        ("c.mp4", "av1", "libdav1d"),
        ("d.webm", None, "vp9"),
        ("e.webm", "av1", "libdav1d"),
    ):
        assert unpack([grid], tmp_path / name, unpack_profile(codec=codec)).failed == ()
        with av.open(str(tmp_path / name)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name in (expected, "av1")
            assert stream.codec_context.pix_fmt == "yuv420p"
    unpack([grid], tmp_path / "small.mp4", unpack_profile(crf=45))
    assert (tmp_path / "small.mp4").stat().st_size < (tmp_path / "a.mp4").stat().st_size
    for wrong in ({"codec": "vp9"}, {"codec": "mpeg2"}, {"crf": 60}, {"crf": 70}, {"crf": -1}):
        with pytest.raises(UsageError):
            unpack([grid], tmp_path / "z.mp4", unpack_profile(**wrong))
    with pytest.raises(UsageError, match="takes no codec"):
        unpack([grid], tmp_path / "z.gif", unpack_profile(crf=3))


def test_encoders_print_nothing(tmp_path: Path) -> None:
    grid = make_grid(tmp_path / "vid1.png")
    command = [sys.executable, "-m", "gridctl", "unpack", grid, "-o", tmp_path / "clip.mp4"]
    told = subprocess.run([*command, "--codec", "av1"], capture_output=True, check=True)
    assert told.stderr == b""


@pytest.mark.parametrize("name", ["clip.webp", "clip.apng"])
def test_lossless_animations_are_bit_exact(tmp_path: Path, name: str) -> None:
    unpack([make_grid(tmp_path / "vid1.png", fps=8)], tmp_path / name)
    with Image.open(tmp_path / name) as animation:
        assert animation.n_frames == len(FRAMES)
        for number, picture in enumerate(FRAMES):
            animation.seek(number)
            assert np.array_equal(np.asarray(animation.convert("RGB")), picture)
            assert animation.info["duration"] == 125


def test_detect_notes_the_grid_and_its_confidence(tmp_path: Path) -> None:
    path = tmp_path / "foreign.png"
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small).resize((128, 96), Image.Resampling.BICUBIC))
    frames = np.stack([large[k : k + 16, 2 * k : 2 * k + 32] for k in range(6)])
    Image.fromarray(compose(frames, GRID)).save(path)
    order = unpack_profile({"order": "serpentine"})
    result = unpack([path], tmp_path / "frames", order, detect=True)
    assert "2x3 cells" in result.notes[0]
    assert "% sure" in result.notes[0]
    assert np.array_equal(read_folder(tmp_path / "frames"), frames)
    Image.new("RGB", (96, 96)).save(path)
    assert "no clear seams" in unpack([path], tmp_path / "x", detect=True).failed[0].reason


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    grid = make_grid(tmp_path / "vid1.png")
    (tmp_path / "clip.mp4").write_text("mine")
    assert "--force" in unpack([grid], tmp_path / "clip.mp4").failed[0].reason
    assert (tmp_path / "clip.mp4").read_text() == "mine"
    unpack([grid], tmp_path / "clip.mp4", force=True)
    assert video_facts(tmp_path / "clip.mp4")[0] == 6


def test_impossible_names_are_refused(tmp_path: Path) -> None:
    grids = tmp_path / "vidgrid"
    make_grid(grids / "vid1.png")
    with pytest.raises(UsageError, match=r"\.txt"):
        unpack([grids / "vid1.png"], tmp_path / "clip.txt")
    with pytest.raises(UsageError, match="names one clip"):
        unpack([grids], tmp_path / "clip.mp4")
    make_grid(grids / "vid1.webp")
    with pytest.raises(UsageError, match="another folder"):
        unpack([grids], tmp_path / "clips")
    assert not (tmp_path / "clips").exists()
