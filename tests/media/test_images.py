"""Image files: their order, and any of them as 8-bit sRGB."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from gridctl.errors import InputError
from gridctl.media.convert import tone_map
from gridctl.media.images import (
    image_files,
    is_animated,
    is_hdr,
    natural_key,
    open_image,
    read_image,
)
from gridctl.media.open import open_clip
from tests.media.clips import cells_of, write
from tests.media.colors import GREEN, WIDE, cmyk_profile, gray_profile, in_profile, matrix_profile


def test_natural_order(tmp_path: Path) -> None:
    names = ["frame_2.png", "frame_10.png", "Frame_1.png", "a.png", "10.png", "9.png"]
    assert sorted(names, key=lambda name: natural_key(Path(name))) == [
        "9.png",
        "10.png",
        "a.png",
        "Frame_1.png",
        "frame_2.png",
        "frame_10.png",
    ]
    for alike in (["A.png", "a.png"], ["a.png", "A.png"]):  # shards must agree on the order
        assert sorted(map(Path, alike), key=natural_key) == [Path("A.png"), Path("a.png")]
    for name in [*names, ".hidden.png"]:
        (tmp_path / name).touch()
    assert [path.name for path in image_files(tmp_path)][:2] == ["9.png", "10.png"]
    assert tmp_path / ".hidden.png" not in image_files(tmp_path)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "apng"])
def test_is_animated(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), (90 * k, 0, 0)) for k in range(3)]
    frames[0].save(tmp_path / f"moves.{suffix}", save_all=True, append_images=frames[1:])
    assert is_animated(tmp_path / f"moves.{suffix}")
    if suffix != "gif":  # a GIF is a clip, if of one frame
        frames[0].save(tmp_path / f"still.{suffix}", "PNG" if suffix == "apng" else None)
        assert not is_animated(tmp_path / f"still.{suffix}")
    assert not is_animated(tmp_path / "missing.webp")


def test_a_huge_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (30_000).to_bytes(4, "big") * 2  # the header's width and height
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(InputError, match="178 megapixels"), open_image(path):
        pass


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_colors_of_an_icc_profile_become_srgb(tmp_path: Path, name: str, suffix: str) -> None:
    profile = matrix_profile(WIDE[name])
    image = in_profile(Image.new("RGB", (32, 32), GREEN), profile)
    assert max(np.abs(np.subtract(image.getpixel((9, 9)), GREEN))) > 10
    image.save(tmp_path / f"wide.{suffix}", icc_profile=profile)
    assert read_image(tmp_path / f"wide.{suffix}").getpixel((9, 9)) == pytest.approx(GREEN, abs=6)


def test_a_profile_applies_to_transparent_and_palette_images(tmp_path: Path) -> None:
    profile = matrix_profile(WIDE["adobe"])
    wide = in_profile(Image.new("RGB", (32, 32), GREEN), profile)
    half = wide.copy()
    half.putalpha(Image.linear_gradient("L").resize((32, 32)).point(lambda v: 255 * (v > 127)))
    half.save(tmp_path / "half.png", icc_profile=profile)
    picture = read_image(tmp_path / "half.png", (0, 0, 250))
    assert picture.getpixel((9, 2)) == (0, 0, 250)
    assert picture.getpixel((9, 30)) == pytest.approx(GREEN, abs=3)
    wide.quantize(4).save(tmp_path / "palette.png", icc_profile=profile)
    assert read_image(tmp_path / "palette.png").getpixel((9, 9)) == pytest.approx(GREEN, abs=3)


def test_a_gray_profile_applies_to_gray_images(tmp_path: Path) -> None:
    for mode, value in (("L", 128), ("LA", (128, 255))):
        Image.new(mode, (8, 8), value).save(tmp_path / "gray.png", icc_profile=gray_profile())
        red, green, blue = read_image(tmp_path / "gray.png").getpixel((4, 4))
        assert red == green == blue
        assert red == pytest.approx(188, abs=2)  # linear 0.5 in sRGB


def test_srgb_pixels_and_unusable_profiles_change_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"not a profile", gray_profile()):
        Image.fromarray(noise).save(tmp_path / "noise.png", icc_profile=profile)
        assert np.array_equal(read_image(tmp_path / "noise.png"), noise)


@pytest.mark.parametrize(
    ("gamma", "marked", "gray"),  # linear light of 128 / 255 is 188 in sRGB
    [(1.0, False, 188), (1.0, True, 128), (1 / 2.2, False, 128), (0.25, False, 71)],
)
def test_the_gamma_of_a_png_applies(tmp_path: Path, gamma: float, marked: bool, gray: int) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", round(100_000 * gamma)))
    if marked:
        info.add(b"sRGB", b"\0")
    for mode, value in (("RGB", (128, 128, 128)), ("L", 128), ("I;16", 128 * 257)):
        path = tmp_path / f"{mode[0]}.png"
        Image.new(mode, (8, 8), value).save(path, pnginfo=info)
        assert read_image(path).getpixel((4, 4)) == pytest.approx((gray,) * 3, abs=1)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_a_cmyk_picture_is_read_by_its_profile(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"print.{suffix}"
    for ink, gray in (((0, 0, 0, 0), 255), ((255, 0, 0, 0), 198), ((255, 255, 0, 0), 145)):
        Image.new("CMYK", (32, 32), ink).save(path, icc_profile=cmyk_profile())
        assert read_image(path).getpixel((9, 9)) == pytest.approx((gray,) * 3, abs=3)


def test_lab_and_cmyk(tmp_path: Path) -> None:
    lab = ImageCms.createProfile("LAB")
    srgb = ImageCms.createProfile("sRGB")
    image = ImageCms.profileToProfile(Image.new("RGB", (8, 8), GREEN), srgb, lab, outputMode="LAB")
    image.save(tmp_path / "lab.tif")
    assert read_image(tmp_path / "lab.tif").getpixel((4, 4)) == pytest.approx(GREEN, abs=6)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.tif")
    assert read_image(tmp_path / "cmyk.tif").getpixel((4, 4)) == pytest.approx((255, 0, 0), abs=3)


@pytest.mark.parametrize(("name", "top"), [("float32", 1.0), ("int32", 65_535), ("uint16", 65_535)])
def test_deep_pixels_are_scaled(tmp_path: Path, name: str, top: float) -> None:
    ramp = np.linspace(0, top, 64)[None].repeat(8, 0).astype(name)
    Image.fromarray(ramp).save(tmp_path / "ramp.tif")
    row = np.asarray(read_image(tmp_path / "ramp.tif"))[4, :, 0].astype(int)
    assert row == pytest.approx(np.linspace(0, 255, 64), abs=1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("float32", (0, 255)),
        ("float32", (0, np.nan)),
        ("float32", (-1, 1)),
        ("int32", (0, 200)),
        ("int32", (0, 70_000)),
        ("int32", (-5, 9)),
    ],
)
def test_values_of_unknown_brightness_are_refused(
    tmp_path: Path, name: str, values: tuple[float, float]
) -> None:
    Image.fromarray(np.array([values] * 2, name)).save(tmp_path / "depth.tif")
    with pytest.raises(InputError, match=r"depth\.tif has .*values from .*8 or 16 bits"):
        read_image(tmp_path / "depth.tif")


def test_a_png_may_hold_much_text(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 3_000_000, zip=True)
    text.add_itxt("prompt", "y" * 3_000_000, zip=True)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "node.png", pnginfo=text)
    assert read_image(tmp_path / "node.png").getpixel((4, 4)) == (255, 0, 0)
    text.add_text("more", "z" * 80_000_000, zip=True)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "bomb.png", pnginfo=text)
    with pytest.raises(InputError, match=r"bomb\.png .*text chunks hold more than 64 MB"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_every_exif_orientation_is_applied(tmp_path: Path, orientation: int, mode: str) -> None:
    picture = Image.new("L", (4, 2))
    picture.paste(255, (0, 0, 2, 1))  # bright at the top left
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's Transpose that undoes each
    stored = picture.transpose(turns[orientation]) if orientation > 1 else picture
    if mode == "I;16":
        stored = Image.fromarray(np.asarray(stored).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.convert(mode).save(tmp_path / "photo.png", exif=exif)
    upright = read_image(tmp_path / "photo.png")
    assert np.array_equal(np.asarray(upright)[..., 0], np.asarray(picture))


def hdr_png(path: Path, transfer: int) -> None:
    """A 16-bit gray ramp in PQ or HLG, marked by a cICP chunk (PNG, third edition)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    row = np.repeat(np.linspace(0, 65_535, 64).astype(">u2"), 3).tobytes()
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 8, 16, 2, 0, 0, 0))
        + chunk(b"cICP", bytes([9, transfer, 0, 1]))
        + chunk(b"IDAT", zlib.compress((b"\0" + row) * 8))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_images_are_tone_mapped(tmp_path: Path, transfer: int, name: str) -> None:
    ramp = np.linspace(0, 65_535, 64).astype(np.uint16)
    expected = tone_map(np.repeat(ramp[None, :, None], 3, axis=2), name)[0, :, 0].astype(int)
    hdr_png(tmp_path / "hdr.png", transfer)
    picture = np.repeat(np.repeat(ramp[None, :, None], 3, axis=2), 64, axis=0)
    write(
        tmp_path / "hdr.avif",
        [picture] * 3,
        codec="libsvtav1",
        pix_fmt="yuv420p10le",
        source_format="rgb48le",
        options={"preset": "10", "crf": "1", "svtav1-params": "log-level=0"},
        context={"color_trc": transfer, "color_primaries": 9, "colorspace": 5},
    )
    for path, size in ((tmp_path / "hdr.png", (64, 8)), (tmp_path / "hdr.avif", (64, 64))):
        clip = open_clip(path)
        cells = cells_of(clip, size).astype(int)
        assert len(cells) == (3 if path.suffix == ".avif" else 1)
        assert cells[0, 4, :, 1] == pytest.approx(expected, abs=4)
        assert clip.notes() == (f"is HDR ({name}) and was tone-mapped to SDR",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX")
@pytest.mark.parametrize("suffix", ["jpg", "png", "avif", "tif", "webp"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    os.mkfifo(path)
    assert not is_animated(path)
    assert not is_hdr(path)
    with pytest.raises(InputError, match=f"{path.name} cannot be read .it is a pipe"):
        read_image(path)
