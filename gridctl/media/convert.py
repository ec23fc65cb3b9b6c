"""A decoded frame → its cell: crop, scale and convert colors in one pass; HDR to SDR."""

from __future__ import annotations

import struct
from fractions import Fraction
from functools import cache
from typing import Any, Literal, NamedTuple

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type as SideData

from gridctl.media.fit import Fit
from gridctl.media.images import Picture

Transfer = Literal["PQ", "HLG"]
Light = npt.NDArray[np.float32]

# Code points of ITU-T H.273, as frames carry them.
_MATRICES = {
    1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020",
    14: "bt2020",
}  # fmt: skip
_TRANSFERS: dict[int, Transfer] = {16: "PQ", 18: "HLG"}
_FULL_RANGE = 2
WHITE = 203.0  # cd/m2
PEAK = 1000.0 / WHITE
KNEE = 0.5
HLG_GAMMA = 1.2  # of a screen of 1,000 cd/m2 (ITU-R BT.2100, table 5)
BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579,
     1.118730]], np.float32,
)  # fmt: skip
LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)  # BT.2020


class Orientation(NamedTuple):
    """One of the eight ways to rotate or mirror a picture: transpose first, then flip."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """The orientation in the frame's display matrix (ISO 14496-12, 8.3.2), as phones use it."""
        side_data: Any = frame.side_data
        matrix = side_data.get(SideData.DISPLAYMATRIX)
        if matrix is None:
            return cls()
        a, b, _, c, d, *_ = struct.unpack("<9i", bytes(matrix)[:36])  # x' = ax + cy, y' = bx + dy
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(transpose=True, flip_x=c < 0, flip_y=b < 0)
        return cls(flip_x=a < 0, flip_y=d < 0)

    def apply(self, picture: Picture) -> Picture:
        if self.transpose:
            picture = picture.transpose(1, 0, 2)
        return picture[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


class Converter:
    """Converts a clip's frames to cells: upright, with square pixels, in 8-bit RGB."""

    def __init__(self, fit: Fit, pixel_aspect: float = 1.0) -> None:
        self.hdr: Transfer | None = None
        """Kind of the HDR frames that were tone-mapped, if any."""
        self._fit = fit
        self._pixel_aspect = pixel_aspect
        self._shape: tuple[object, ...] | None = None
        self._graph: av.filter.Graph
        self._orientation = Orientation()

    def cell(self, frame: av.VideoFrame) -> Picture:
        """`frame` as its cell (H, W, 3) uint8."""
        decoded = frame
        layout = frame.format
        if layout.name == "pal8" or any(part.is_alpha for part in layout.components):
            frame = _over(frame, self._fit.background)
        transfer = _TRANSFERS.get(int(frame.color_trc or 0))
        interlaced = decoded.interlaced_frame
        shape = (
            frame.width, frame.height, frame.format.name, int(frame.colorspace or 0),
            int(frame.color_range or 0), interlaced, transfer,
        )  # fmt: skip
        if shape != self._shape:  # the first frame, or the stream changed its format
            self._orientation = Orientation.of(decoded)
            self._graph = self._make_graph(frame, interlaced=interlaced, deep=transfer is not None)
            self._shape = shape
        self._graph.push(frame)
        scaled = self._graph.pull()
        assert isinstance(scaled, av.VideoFrame)
        if transfer:
            self.hdr = transfer
            deep: Any = scaled.to_ndarray()  # 16 bits
            picture = tone_map(deep, transfer)
        else:
            picture = _planes(scaled)
        return self._fit.place(self._orientation.apply(picture))

    def _make_graph(self, frame: av.VideoFrame, *, interlaced: bool, deep: bool) -> av.filter.Graph:
        fit = self._fit.turned() if self._orientation.transpose else self._fit
        lines = (frame.height + 1) // 2 if interlaced else frame.height
        size = frame.width, lines
        aspect = self._pixel_aspect * lines / frame.height
        # A flat cell may show less than one line. Cropping also keeps whole chroma samples.
        width, height = fit.visible(size, aspect)
        visible = min(size[0], max(4, width)), min(size[1], max(4, height))
        inner = fit.inner(size, aspect)
        steps = []
        if interlaced:  # one field: no combing, and it needs no other frame
            steps.append(("field", "type=top"))
        if visible != size:
            steps.append(("crop", f"{visible[0]}:{visible[1]}"))
        shrinks = visible[0] >= inner[0] and visible[1] >= inner[1]
        method = "area" if shrinks else "bicubic"
        steps.append(("scale", f"{inner[0]}:{inner[1]}:flags={method}{colors_of(frame)}"))
        steps.append(("format", "gbrp16le" if deep else "gbrp"))
        return _graph(frame, steps)


def colors_of(frame: av.VideoFrame) -> str:
    """The frame's matrix and range as options of the scale filter.

    Like players, it takes a frame of unknown matrix for BT.709 from 720 lines on, and for
    BT.601 below.
    """
    if frame.format.is_rgb or len(frame.format.components) < 3:
        return ""
    guess = "bt709" if frame.height >= 720 or frame.width >= 1280 else "smpte170m"
    matrix = _MATRICES.get(int(frame.colorspace or 2), guess)
    full = int(frame.color_range or 0) == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return f":in_color_matrix={matrix}:in_range={'full' if full else 'limited'}"


def _over(frame: av.VideoFrame, background: tuple[int, int, int]) -> av.VideoFrame:
    """The frame over `background`. Call it before scaling, so that no hidden color bleeds in."""
    graph = _graph(frame, [("scale", f"flags=bicubic{colors_of(frame)}"), ("format", "rgba")])
    graph.push(frame)
    flat = graph.pull()
    assert isinstance(flat, av.VideoFrame)
    picture = flat.to_ndarray()
    alpha = picture[..., 3:].astype(np.uint16)
    under = np.array(background, np.uint16)
    mixed = (picture[..., :3] * alpha + under * (255 - alpha) + 127) // 255
    return av.VideoFrame.from_ndarray(mixed.astype(np.uint8), format="rgb24")


def _planes(frame: av.VideoFrame) -> Picture:
    """A gbrp frame as (H, W, 3), still stored as three planes.

    Interleaving in NumPy takes half as long as scaling. Pillow is faster, and does it once for
    the whole grid.
    """
    planes = np.empty((3, frame.height, frame.width), np.uint8)
    for channel, plane in zip((1, 2, 0), frame.planes, strict=True):  # G, B, R
        data: Any = plane  # its type lacks the buffer protocol that it has
        lines = np.frombuffer(data, np.uint8).reshape(frame.height, plane.line_size)
        planes[channel] = lines[:, : frame.width]
    picture: Picture = planes.transpose(1, 2, 0)
    return picture


def _graph(frame: av.VideoFrame, steps: list[tuple[str, str]]) -> av.filter.Graph:
    graph = av.filter.Graph()
    node = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
    )
    for name, options in [*steps, ("buffersink", None)]:
        following = graph.add(name, options)
        node.link_to(following)
        node = following
    graph.configure()
    return graph


def tone_map(picture: npt.NDArray[np.uint16], transfer: Transfer) -> Picture:
    """An HDR picture (H, W, 3) of 16-bit R'G'B' values → (H, W, 3) uint8, sRGB."""
    light = _light_table(transfer)[picture]
    if transfer == "HLG":
        scene_luma = (light @ LUMA)[..., None]
        light = light * np.power(scene_luma, HLG_GAMMA - 1, dtype=np.float32) * np.float32(PEAK)
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
