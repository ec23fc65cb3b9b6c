import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.caption.question import Question, make_question, without_metadata
from gridctl.dataset.grid_image import compose, load_grid, save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError
from gridctl.geometry import Grid
from gridctl.profile import CaptionSection
from gridctl.prompt import View

GRID = Grid(rows=2, cols=3, cell=(64, 32), order="serpentine")
REAL = 5  # the sixth cell is padding


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A grid whose frame k is of one grey, 40 times k."""
    frames = np.stack([np.full((32, 64, 3), 40 * k, np.uint8) for k in range(6)])
    metadata = GridMetadata(
        grid=GRID,
        source="secret name.mp4",
        times_seconds=tuple(0.5 * k for k in range(REAL)),
        fps=2.0,
        num_frames=REAL,
    )
    save_grid(compose(frames, GRID), tmp_path / "vid1.png", metadata)
    return tmp_path / "vid1.png"


def question(image: Path, **settings: object) -> Question:
    metadata = GridMetadata(
        grid=GRID, source="", times_seconds=(0.0,) * REAL, fps=2.0, num_frames=REAL
    )
    return make_question(image, metadata, CaptionSection(**settings), subject=None)  # type: ignore[arg-type]


def greys(question: Question) -> list[int]:
    return [round(np.asarray(picture).mean() / 40) for picture in question.pictures()]


@pytest.mark.parametrize(
    ("view", "keyframes", "frames"),
    [
        ("frames", 4, [0, 1, 2, 3, 4]),
        ("keyframes", 3, [0, 2, 4]),
        ("keyframes", 1, [0]),
        ("keyframes", 9, [0, 1, 2, 3, 4]),
    ],
)
def test_frames_are_shown_in_order_and_without_padding(
    image: Path, view: View, keyframes: int, frames: list[int]
) -> None:
    asked = question(image, view=view, keyframes=keyframes)
    assert greys(asked) == frames
    assert {picture.size for picture in asked.pictures()} == {(64, 32)}


def test_the_grid_is_shown_whole(image: Path) -> None:
    (picture,) = question(image).pictures()
    assert picture.size == GRID.image_size


def test_pictures_are_scaled_down_never_up(image: Path) -> None:
    assert question(image, image_side=96).pictures()[0].size == (96, 32)
    assert question(image, image_side=4000).pictures()[0].size == GRID.image_size
    small = question(image, view="frames", image_side=16).pictures()
    assert {picture.size for picture in small} == {(16, 8)}


def test_a_server_gets_jpeg_without_the_facts(image: Path) -> None:
    (file,) = question(image).encoded()
    assert b"secret" in image.read_bytes()
    assert b"secret" not in file
    with Image.open(io.BytesIO(file)) as picture:
        assert (picture.format, picture.size) == ("JPEG", GRID.image_size)


@pytest.fixture
def jpeg(image: Path) -> Path:
    pixels, metadata = load_grid(image)
    assert metadata is not None
    save_grid(pixels, image.with_suffix(".jpg"), metadata)
    return image.with_suffix(".jpg")


def test_a_small_jpeg_is_sent_without_its_metadata(jpeg: Path) -> None:
    (file,) = question(jpeg).encoded()
    assert b"secret" in jpeg.read_bytes()
    assert b"secret" not in file
    with Image.open(io.BytesIO(file)) as sent, Image.open(jpeg) as there:
        assert np.array_equal(np.asarray(sent), np.asarray(there))
        assert not sent.getexif()
    (smaller,) = question(jpeg, image_side=96).encoded()
    with Image.open(io.BytesIO(smaller)) as sent:
        assert sent.size == (96, 32)


def test_a_jpeg_that_is_cut_off_is_not_sent(jpeg: Path) -> None:
    whole = jpeg.read_bytes()
    assert without_metadata(whole) is not None
    for length in range(0, len(whole) - 2, 7):
        assert without_metadata(whole[:length]) is None
    jpeg.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(InputError):
        question(jpeg).encoded()


def test_an_image_that_was_scaled_is_an_error(jpeg: Path) -> None:
    with Image.open(jpeg) as picture:
        picture.resize((96, 32)).save(jpeg, exif=picture.getexif())
    with pytest.raises(InputError, match="scaled or cropped"):
        question(jpeg).encoded()


def test_the_question_counts_real_frames_only(image: Path) -> None:
    text = question(image, view="frames").text
    assert "all 5 frames of one clip, in order, 0.5 seconds apart" in text


def test_a_broken_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "vid1.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"vid1\.jpg"):
        question(tmp_path / "vid1.jpg").pictures()
