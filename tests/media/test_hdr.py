import numpy as np
import pytest

from gridctl.media.convert import KNEE, PEAK, WHITE, shoulder, tone_map


def pq(nits: float) -> int:
    """The 16-bit PQ signal of a light; SMPTE ST 2084, written inverted."""
    y = (nits / 10_000) ** (1305 / 8192)
    return round(((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32) * 65535)


def gray(signal: int, transfer: str) -> int:
    picture = np.full((2, 2, 3), signal, np.uint16)
    return int(tone_map(picture, transfer)[0, 0, 1])  # type: ignore[arg-type]


def test_dark_tones_keep_their_light() -> None:
    for nits in (0, 1, 10, 50, 100):
        light = nits / WHITE
        srgb = 12.92 * light if light < 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
        assert gray(pq(nits), "PQ") == pytest.approx(255 * srgb, abs=1)


def test_highlights_roll_off_to_white() -> None:
    levels = [gray(pq(nits), "PQ") for nits in (100, 203, 400, 700, 1000, 4000, 10_000)]
    assert levels == sorted(levels)
    assert levels[1] < levels[2] < levels[3] < levels[4]
    assert levels[4:] == [255, 255, 255]
    light = np.linspace(0, PEAK, 1000, dtype=np.float32)
    steps = np.diff(shoulder(light))
    assert (steps > 0).all()
    assert steps[0] == pytest.approx(steps[np.searchsorted(light, KNEE) + 1], rel=0.05)


def test_hlg_white_is_white_and_its_reference_level_is_bright() -> None:
    assert gray(0, "HLG") == 0
    assert gray(65535, "HLG") == 255
    assert gray(round(0.75 * 65535), "HLG") == pytest.approx(gray(pq(203), "PQ"), abs=4)


def test_hues_are_kept() -> None:
    red = np.zeros((1, 1, 3), np.uint16)
    red[...] = (pq(900), pq(90), pq(90))
    mapped = tone_map(red, "PQ")[0, 0].astype(int)
    assert mapped[0] > 220
    assert mapped[1:].max() < 160
