from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.errors import InputError
from gridctl.media.images import image_files, is_animated, natural_key, open_image


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
