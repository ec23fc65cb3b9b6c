from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import InputError
from gridctl.media.images import IMAGE_SEQUENCE_FPS
from gridctl.media.open import open_clip
from tests.media.clips import cells_of, counted, numbers


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
