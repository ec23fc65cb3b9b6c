from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from gridctl.errors import InputError
from gridctl.media.open import open_clip
from tests.media.clips import cells_of, counted, numbers

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
    durations = [100, 200, 50, 300, 100]
    lossless = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"moves.{suffix}", frames, duration=durations, **lossless)
    clip = open_clip(path)
    assert numbers(cells_of(clip)) == [0, 1, 2, 3, 4]
    assert clip.times_seconds == pytest.approx([0, 0.1, 0.3, 0.35, 0.65])
    assert clip.fps == pytest.approx(5 / 0.75)
    picks = list(clip.cells(np.array([1, 4]), fit=_fit()))
    assert numbers(np.stack(picks)) == [1, 4]


def _fit():
    from gridctl.media.fit import Fit

    return Fit(cell=(32, 16))


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng"])
def test_what_is_transparent_shows_the_background(tmp_path: Path, suffix: str) -> None:
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
def test_a_cut_off_animation_is_told(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    path = save(tmp_path / f"cut.{suffix}", [Image.fromarray(picture) for picture in noise])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=rf"cut\.{suffix}") as caught:
        cells_of(open_clip(path))
    assert "\n" not in str(caught.value)
