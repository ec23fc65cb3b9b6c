"""A decoded frame as its cell: shape, colors, orientation, HDR."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gridctl.media.convert import KNEE, PEAK, WHITE, shoulder, tone_map
from gridctl.media.fit import FitMode
from gridctl.media.open import open_clip
from tests.media.clips import cells_of, counted, make_clip, write

CLEAN = {"crf": "1"}
COLORS = [(230, 30, 30), (30, 200, 60), (40, 60, 220), (200, 200, 40), (128, 128, 128)]


def plain(colors: list[tuple[int, int, int]], size: tuple[int, int] = (64, 48)) -> np.ndarray:
    return np.stack([np.full((size[1], size[0], 3), color, np.uint8) for color in colors])


def test_crop_keeps_the_center(tmp_path: Path) -> None:
    frames = np.zeros((3, 48, 128, 3), np.uint8)
    frames[:, :, 32:96] = 255  # the middle half; a 2:1 cell of a 48 px high frame shows 96 px
    cells = cells_of(open_clip(make_clip(tmp_path / "wide.mp4", frames)))
    row = cells[0, 8, :, 1].astype(int)
    # 16 of 96 px at each side stay black: 5.3 of 32 cell pixels.
    assert row[:4].max() < 30
    assert row[-4:].max() < 30
    assert row[7:-7].min() > 225


def test_pad_and_stretch(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "wide.mp4", plain([(200, 200, 200)], (128, 32)))
    padded = cells_of(open_clip(path), (32, 32), mode="pad", background=(0, 0, 250))[0]
    assert tuple(padded[2, 16]) == tuple(padded[29, 16]) == (0, 0, 250)
    assert padded[13:19].astype(int) == pytest.approx(200, abs=3)
    assert cells_of(open_clip(path), (32, 32), mode="stretch").astype(int) == pytest.approx(
        200, abs=3
    )


@pytest.mark.parametrize("size", [(33, 17), (1, 1), (101, 3)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "odd.mkv"
    write(path, plain([(90, 90, 90)], size), codec="ffv1", pix_fmt="yuv444p")
    assert cells_of(open_clip(path)).astype(int) == pytest.approx(90, abs=3)


def test_scaling_uses_every_pixel(tmp_path: Path) -> None:
    lines = np.zeros((1, 256, 256, 3), np.uint8)
    lines[:, ::2] = 255  # one line on, one off: what skips pixels shows only one of them
    path = write(tmp_path / "lines.mkv", lines, codec="ffv1", pix_fmt="yuv444p")
    assert cells_of(open_clip(path), (64, 64)).astype(int) == pytest.approx(127, abs=4)


TURNS = {  # the matrix's a, b, c, d; and which cell corner the bright top left one comes to
    "as it is": ((1, 0, 0, 1), (0, 0)),
    "clockwise": ((0, 1, -1, 0), (0, -1)),
    "upside down": ((-1, 0, 0, -1), (-1, -1)),
    "counterclockwise": ((0, -1, 1, 0), (-1, 0)),
    "mirrored": ((-1, 0, 0, 1), (0, -1)),
    "flipped": ((1, 0, 0, -1), (-1, 0)),
    "transposed": ((0, 1, 1, 0), (0, 0)),
    "transverse": ((0, -1, -1, 0), (-1, -1)),
}


@pytest.mark.parametrize("name", TURNS)
def test_a_phone_clip_is_turned_upright(tmp_path: Path, name: str) -> None:
    (a, b, c, d), corner = TURNS[name]
    frames = np.zeros((2, 32, 64, 3), np.uint8)
    frames[:, :16, :32] = 255
    path = make_clip(tmp_path / "phone.mp4", frames)
    data = path.read_bytes()
    # The track header's matrix (ISO 14496-12, 8.3.2).
    one = 1 << 16
    identity = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    at = data.index(identity, data.index(b"tkhd"))
    path.write_bytes(data[:at] + turned + data[at + len(identity) :])
    cell = (64, 32) if b == 0 else (32, 64)
    picture = cells_of(open_clip(path), cell)[0]
    bright = {y_x for y_x in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if picture[y_x].mean() > 200}
    assert bright == {corner}


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    from fractions import Fraction

    frames = np.zeros((2, 48, 48, 3), np.uint8)
    frames[:, :, 12:36] = 255
    context = {"sample_aspect_ratio": Fraction(2, 1)}
    path = write(tmp_path / "wide.mp4", frames, options=CLEAN, context=context)
    row = cells_of(open_clip(path), (32, 16))[0, 8, :, 0]  # 96x48 on the screen: all of it
    assert row[:6].max() < 40
    assert row[10:22].min() > 215
    square = cells_of(open_clip(path), (16, 16))[0, 8, :, 0]  # its middle half, all bright
    assert square.min() > 200


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("cell", [(2048, 16), (16, 2048)])
def test_cells_of_extreme_shapes(tmp_path: Path, mode: FitMode, cell: tuple[int, int]) -> None:
    path = make_clip(tmp_path / "clip.mp4", counted(2, size=(48, 32)))
    picture = cells_of(open_clip(path), cell, mode=mode)[0]
    middle = picture[cell[1] // 2, cell[0] // 2]
    assert picture.shape == (cell[1], cell[0], 3)
    assert abs(middle.astype(int) - 20).max() < 4


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("matrix", "number"), [("bt709", 1), ("smpte170m", 6), ("bt2020", 9), ("none", 2)]
)
def test_matrix_and_range_are_respected(
    tmp_path: Path, matrix: str, number: int, full: bool
) -> None:
    red, blue = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(number, (0.299, 0.114))
    pictures = []
    for color in COLORS:  # Y'CbCr by hand: ITU-R BT.601, BT.709, BT.2020
        r, g, b = (part / 255 for part in color)
        luma = red * r + (1 - red - blue) * g + blue * b
        chroma = (b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)
        scale, base, span = (255, 0, 255) if full else (219, 16, 224)
        planes = [luma * scale + base, *(part * span + 128 for part in chroma)]
        pictures.append(np.stack([np.full((32, 32), round(p), np.uint8) for p in planes]))
    path = tmp_path / "colors.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = number
        stream.codec_context.color_range = 2 if full else 1
        for planes in pictures:
            frame = av.VideoFrame(32, 32, "yuv444p")
            for plane, values in zip(frame.planes, planes, strict=True):
                padded = np.zeros((32, plane.line_size), np.uint8)
                padded[:, :32] = values
                plane.update(padded.tobytes())
            frame.colorspace, frame.color_range = number, 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    cells = cells_of(open_clip(path), (16, 16))
    assert [tuple(c[8, 8].astype(int)) for c in cells] == [
        pytest.approx(color, abs=3) for color in COLORS
    ]


def test_ten_and_twelve_bits(tmp_path: Path) -> None:
    for pix_fmt in ("yuv420p10le", "yuv444p12le", "yuv422p10le"):
        path = tmp_path / f"{pix_fmt}.mkv"
        write(path, plain(COLORS), codec="ffv1", pix_fmt=pix_fmt)
        cells = cells_of(open_clip(path))
        assert [tuple(c[8, 8].astype(int)) for c in cells] == [
            pytest.approx(color, abs=4) for color in COLORS
        ]


def test_interlaced_frames_show_one_field(tmp_path: Path) -> None:
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    frames[:, ::2] = 200  # the other field is another moment: black
    context = {"flags": 1 << 18 | 1 << 29}  # interlaced DCT and motion estimation
    path = tmp_path / "tv.mpg"
    write(path, frames, codec="mpeg2video", fps=25, options={"b": "8M"}, context=context)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    assert cells_of(open_clip(path), (64, 64)).astype(int).min() > 170


@pytest.mark.parametrize(("codec", "suffix", "pix_fmt"), [
    ("qtrle", "mov", "argb"), ("prores_ks", "mov", "yuva444p10le"), ("png", "mov", "rgba"),
    ("ffv1", "mkv", "bgra"), ("libvpx-vp9", "webm", "yuva420p"),
])  # fmt: skip
def test_transparent_pixels_show_the_background(
    tmp_path: Path, codec: str, suffix: str, pix_fmt: str
) -> None:
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[:, :, 0] = 250  # red everywhere, seen on the left only
    picture[:, :32, 3] = 255
    path = tmp_path / f"sticker.{suffix}"
    write(path, [picture] * 3, codec=codec, pix_fmt=pix_fmt, source_format="rgba")
    cell = cells_of(open_clip(path), (32, 32), background=(0, 0, 250))[1].astype(int)
    assert tuple(cell[16, 4]) == pytest.approx((250, 0, 0), abs=16)
    assert tuple(cell[16, 28]) == pytest.approx((0, 0, 250), abs=16)


@pytest.mark.parametrize(("number", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_tone_mapped_and_noted(tmp_path: Path, number: int, name: str) -> None:
    context = {"color_trc": number, "color_primaries": 9, "colorspace": 9}
    path = tmp_path / "hdr.mkv"
    write(path, counted(3), codec="ffv1", pix_fmt="yuv420p10le", context=context)
    clip = open_clip(path)
    assert clip.notes() == ()
    cells = cells_of(clip)
    assert cells.dtype == np.uint8
    assert any(name in note and "tone-mapped" in note for note in clip.notes())


def test_an_image_and_its_video_look_the_same(tmp_path: Path) -> None:
    y, x = np.mgrid[0:96, 0:128]
    picture = np.stack([x * 2, y * 2, 255 - x], axis=-1).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "still.png")
    write(tmp_path / "film.mkv", [picture], codec="ffv1", pix_fmt="yuv444p")
    still, film = (cells_of(open_clip(tmp_path / n))[0] for n in ("still.png", "film.mkv"))
    assert np.abs(still.astype(int) - film).mean() < 3


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


@pytest.mark.parametrize(
    ("signal", "value"),
    [  # ITU-R BT.2100 by hand: scene light E = s^2 / 3, light on a screen 1000 E^1.2 cd/m2
        (0.5, 137),  # E = 1/12: 50.7 cd/m2, 0.250 of white
        (0.4, 107),  # E = 0.0533: 29.7 cd/m2, 0.146 of white
        (0.25, 61),  # E = 0.0208: 9.6 cd/m2, 0.047 of white
    ],
)
def test_hlg_by_hand(signal: float, value: int) -> None:
    assert gray(round(signal * 65535), "HLG") == pytest.approx(value, abs=1)


def test_hues_are_kept() -> None:
    red = np.zeros((1, 1, 3), np.uint16)
    red[...] = (pq(900), pq(90), pq(90))
    mapped = tone_map(red, "PQ")[0, 0].astype(int)
    assert mapped[0] > 220
    assert mapped[1:].max() < 160
