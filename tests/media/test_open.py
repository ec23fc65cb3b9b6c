"""Animations, image sequences and single images as clips."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from gridctl.errors import InputError
from gridctl.media.fit import Fit
from gridctl.media.images import IMAGE_SEQUENCE_FPS, is_animated
from gridctl.media.open import open_clip
from tests.media.clips import cells_of, counted, numbers
from tests.media.colors import GREEN, WIDE, in_profile, matrix_profile

needs_avif = pytest.mark.skipif(
    "avif" not in features.modules or not features.check("avif"),
    reason="this Pillow lacks AVIF",
)
AVIF = pytest.param("avif", marks=needs_avif)


def save(path: Path, frames: list[Image.Image], **options: object) -> Path:
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng", "png", AVIF])
def test_every_frame_and_its_time(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(picture) for picture in counted(5)]
    durations = [100, 200, 50, 300, 350]
    lossless = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"moves.{suffix}", frames, duration=durations, **lossless)
    clip = open_clip(path)
    assert numbers(cells_of(clip)) == [0, 1, 2, 3, 4]
    assert clip.times_seconds == pytest.approx([0, 0.1, 0.3, 0.35, 0.65])
    assert clip.duration_seconds == pytest.approx(1.0)  # the last frame is held
    assert clip.fps == pytest.approx(5)
    picks = list(clip.cells(np.array([1, 4]), Fit(cell=(32, 16))))
    assert numbers(np.stack(picks)) == [1, 4]


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng"])
@pytest.mark.parametrize(("delay", "seconds"), [(0, 0.1), (10, 0.1), (20, 0.02), (50, 0.05)])
def test_delays_are_those_of_browsers(
    tmp_path: Path, suffix: str, delay: int, seconds: float
) -> None:
    frames = [Image.fromarray(picture) for picture in counted(4)]
    clip = open_clip(save(tmp_path / f"fast.{suffix}", frames, duration=delay))
    assert np.diff(clip.times_seconds) == pytest.approx(seconds)
    assert (clip.fps, clip.duration_seconds) == pytest.approx((1 / seconds, 4 * seconds))


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng"])
def test_a_frame_that_is_shown_for_minutes_counts_as_one(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(picture) for picture in counted(3)]
    lossless = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"held.{suffix}", frames, duration=[100, 100, 600_000], **lossless)
    clip = open_clip(path)
    assert clip.duration_seconds == pytest.approx(60.2)
    assert list(clip.notes()) == ["shows a frame for 600 seconds; 60 of them count"]


def test_a_gif_may_lack_its_trailer_or_have_padding(tmp_path: Path) -> None:
    path = save(tmp_path / "clip.gif", [Image.fromarray(picture) for picture in counted(5)])
    data = path.read_bytes()
    for variant in (data[:-1], data + bytes(500), data[:-1] + bytes(3) + b";" + b"x" * 100):
        path.write_bytes(variant)
        assert numbers(cells_of(open_clip(path))) == [0, 1, 2, 3, 4]


def test_a_gif_cut_anywhere_but_after_a_frame_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "clip.gif", [Image.fromarray(picture) for picture in counted(3)])
    data = path.read_bytes()
    whole = []
    for length in range(20, len(data)):
        path.write_bytes(data[:length])
        with suppress(InputError):
            whole.append(len(open_clip(path).times_seconds))
    assert whole == [1, 2, 3]


def test_a_hidden_first_picture_of_an_apng_is_not_a_frame(tmp_path: Path) -> None:
    cover = Image.new("RGB", (64, 48), "white")
    frames = [Image.fromarray(picture) for picture in counted(3)]
    path = tmp_path / "clip.png"
    cover.save(path, save_all=True, append_images=frames, default_image=True, duration=200)
    clip = open_clip(path)
    assert numbers(cells_of(clip)) == [0, 1, 2]
    assert clip.times_seconds == pytest.approx([0, 0.2, 0.4])


def test_a_tiff_of_several_pages_is_a_sequence(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture) for picture in counted(4)]
    thumbnail = frames[3].resize((16, 12))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    path = tmp_path / "stack.tif"
    frames[0].save(path, save_all=True, append_images=[*frames[1:], thumbnail])
    clip = open_clip(path)
    assert numbers(cells_of(clip)) == [0, 1, 2, 3]
    assert clip.fps == IMAGE_SEQUENCE_FPS
    frames[2].save(tmp_path / "single.tif")
    assert not is_animated(tmp_path / "single.tif")
    assert numbers(cells_of(open_clip(tmp_path / "single.tif"))) == [2]


def test_an_animation_with_a_color_profile(tmp_path: Path) -> None:
    profile = matrix_profile(WIDE["adobe"])
    wide = in_profile(Image.new("RGB", (32, 16), GREEN), profile)
    other = Image.new("RGB", (32, 16), "black")
    for suffix in ("webp", "apng"):
        path = tmp_path / f"wide.{suffix}"
        save(path, [wide, other], icc_profile=profile, duration=100)
        cell = cells_of(open_clip(path))[0].astype(int)
        assert tuple(cell[8, 8]) == pytest.approx(GREEN, abs=6)


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng"])
def test_transparent_pixels_show_the_background(tmp_path: Path, suffix: str) -> None:
    frames = []
    for left in (0, 16):
        picture = Image.new("RGBA", (32, 16), (0, 0, 0, 0))
        picture.paste((255, 0, 0, 255), (left, 0, left + 16, 16))
        for corner in ((0, 0), (31, 15)):  # or libwebp stores the visible half only
            picture.putpixel(corner, (255, 0, 0, 255))
        frames.append(picture)
    lossless = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"sticker.{suffix}", frames, duration=100, disposal=2, **lossless)
    first, second = cells_of(open_clip(path), background=(0, 0, 255))
    assert [tuple(first[8, x]) for x in (4, 28)] == [(255, 0, 0), (0, 0, 255)]
    assert [tuple(second[8, x]) for x in (4, 28)] == [(0, 0, 255), (255, 0, 0)]


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng", AVIF])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_cut_animation_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    path = save(tmp_path / f"cut.{suffix}", [Image.fromarray(picture) for picture in noise])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=rf"cut\.{suffix}") as caught:
        cells_of(open_clip(path))
    assert "\n" not in str(caught.value)


def test_a_folder_of_frames_is_read_in_natural_order(tmp_path: Path) -> None:
    for number, picture in enumerate(counted(12)):
        Image.fromarray(picture).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    clip = open_clip(tmp_path)
    assert numbers(cells_of(clip)) == list(range(12))
    assert clip.fps == IMAGE_SEQUENCE_FPS
    assert clip.times_seconds[-1] == pytest.approx(11 / IMAGE_SEQUENCE_FPS)


def test_frames_of_the_cells_size_are_unchanged(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 16, 32, 3), dtype=np.uint8)
    for number, picture in enumerate(frames):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    assert np.array_equal(cells_of(open_clip(tmp_path)), frames)


def test_images_of_any_kind_and_size(tmp_path: Path) -> None:
    Image.new("L", (40, 30), 100).save(tmp_path / "1.png")
    Image.fromarray(np.full((30, 40), 100 << 8, np.uint16)).save(tmp_path / "2.png")
    Image.new("P", (50, 20)).save(tmp_path / "3.png")
    Image.new("RGBA", (32, 16), (255, 0, 0, 0)).save(tmp_path / "4.png")
    Image.new("CMYK", (33, 17)).save(tmp_path / "5.jpg")
    Image.new("RGB", (31, 15), (9, 9, 9)).save(tmp_path / "6.avif")
    frames = cells_of(open_clip(tmp_path), background=(0, 200, 0))
    assert [int(frame.mean()) for frame in frames[:2]] == [100, 100]
    assert tuple(frames[3, 0, 0]) == (0, 200, 0)  # what is transparent shows the background


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :32] = 255
    Image.fromarray(picture).save(tmp_path / "photo.png", exif=exif)
    frame = cells_of(open_clip(tmp_path / "photo.png"), (16, 32))[0]
    assert frame[:12].min() > 225
    assert frame[-12:].max() < 30


def test_a_broken_image_in_a_folder_is_named(tmp_path: Path) -> None:
    for number, picture in enumerate(counted(6)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    data = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"3\.png"):
        cells_of(open_clip(tmp_path))
