"""HDR to SDR: tone-map a BT.2100 picture (PQ or HLG, BT.2020 colors) to sRGB.

1. The signal becomes light, in multiples of 203 cd/m2, the level of white paper in HDR
   (ITU-R BT.2408). For PQ the formula is SMPTE ST 2084's. For HLG it is the inverse OETF and
   the OOTF of a 1,000 cd/m2 screen, gamma 1.2 (ITU-R BT.2100).
2. BT.2020 primaries become BT.709's (ITU-R BT.2087). Colors outside are clipped.
3. Light up to half of white is unchanged. Above, a shoulder rolls off so that 1,000 cd/m2
   becomes the screen's white. It acts on the largest of R, G and B, which keeps hues.
4. The sRGB curve (IEC 61966-2-1) gives the 8-bit values.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from gridctl.media.images import Picture

Transfer = Literal["PQ", "HLG"]
Light = npt.NDArray[np.float32]

WHITE = 203.0  # cd/m2
PEAK = 1000.0 / WHITE
KNEE = 0.5

BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579,
     1.118730]], np.float32,
)  # fmt: skip
LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)  # BT.2020


def tone_map(picture: npt.NDArray[np.uint16], transfer: Transfer) -> Picture:
    """An HDR picture (H, W, 3) of 16-bit R'G'B' values → (H, W, 3) uint8, sRGB."""
    light = _light_table(transfer)[picture]
    if transfer == "HLG":
        scene_luma = (light @ LUMA)[..., None]
        light = light * np.power(scene_luma, 0.2, dtype=np.float32) * np.float32(PEAK)
    light = np.clip(light @ BT2020_TO_BT709.T, 0, None)
    brightest = np.maximum(light.max(axis=-1, keepdims=True), np.float32(1e-6))
    light *= shoulder(brightest) / brightest
    mapped: Picture = _srgb_table()[np.minimum(light * 65535 + 0.5, 65535).astype(np.uint16)]
    return mapped


def shoulder(light: Light) -> Light:
    """Light in multiples of white → 0...1: linear up to KNEE, then a roll-off up to PEAK."""
    over = np.maximum(light - KNEE, 0) / (1 - KNEE)
    limit = (PEAK - KNEE) / (1 - KNEE)
    rolled = KNEE + (1 - KNEE) * over * (1 + over / limit**2) / (1 + over)
    return np.where(light <= KNEE, light, np.minimum(rolled, 1)).astype(np.float32)


@cache
def _light_table(transfer: Transfer) -> Light:
    """Light of each 16-bit signal: in multiples of white for PQ, relative to the scene for HLG."""
    signal = np.arange(65536) / 65535
    if transfer == "PQ":
        root = signal ** (32 / 2523)
        nits = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
        return (10_000 * nits ** (8192 / 1305) / WHITE).astype(np.float32)
    low, high = signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(signal <= 0.5, low, high).astype(np.float32)


@cache
def _srgb_table() -> npt.NDArray[np.uint8]:
    """8-bit sRGB value of each of 65,536 steps of light."""
    light = np.arange(65536) / 65535
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(curve * 255).astype(np.uint8)
