"""ICC profiles for tests, written from the specification."""

import io
import itertools
import struct

from PIL import Image, ImageCms

GREEN = (60, 180, 80)
# Primaries (D50) as in the ICC profiles of Adobe RGB and Display P3, and sRGB's for comparison.
WIDE = {
    "adobe": ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)),
    "p3": ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
}


def matrix_profile(primaries: tuple[tuple[float, ...], ...], gamma: float = 2.2) -> bytes:
    """A small ICC profile (version 2.4) with these primaries and a gamma curve."""

    def fixed(values: tuple[float, ...]) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + fixed(values)

    white = (0.9642, 1.0, 0.8249)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"wide\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(79),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(white),
        **dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, primaries), strict=True)),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI", start + len(body), b"none", 0x02400000) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += fixed(white)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


def in_profile(image: Image.Image, profile: bytes, mode: str = "RGB") -> Image.Image:
    """An sRGB image converted to a profile."""
    source, target = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(image, source, target, outputMode=mode)


def cmyk_profile() -> bytes:
    """A small ICC profile in which inks are gray: each of C, M and Y takes away 20 of L = 100."""
    cells = itertools.product((0, 1), repeat=4)  # C, M, Y, K; the last changes fastest
    lightness = [0 if k else 100 - 20 * (c + m + y) for c, m, y, k in cells]
    lut = b"".join(bytes([round(value * 2.55), 128, 128]) for value in lightness)
    matrix = struct.pack(">9i", *(65536 * (k % 4 == 0) for k in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix
    table += bytes(range(256)) * 4 + lut + bytes(range(256)) * 3
    profile = matrix_profile(WIDE["p3"]).replace(b"mntrRGB XYZ ", b"prtrCMYKLab ")
    place = 128 + 4 + 12 * [profile[132 + 12 * k :][:4] for k in range(9)].index(b"rXYZ")
    start = len(profile)
    entry = b"A2B0" + struct.pack(">II", start, len(table))
    profile = profile[:place] + entry + profile[place + 12 :] + table
    return struct.pack(">I", len(profile)) + profile[4:]


def gray_profile() -> bytes:
    """A gray profile with a gamma of 1.0."""
    profile = bytearray(matrix_profile(WIDE["p3"], gamma=1.0))
    return bytes(profile[:16] + b"GRAY" + profile[20:]).replace(b"rTRC", b"kTRC", 1)
