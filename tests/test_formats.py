"""The table of formats is what Pillow and FFmpeg can write."""

import av
import pytest
from PIL import Image

from gridctl.formats import (
    CLIP_FORMATS,
    CLIP_SUFFIXES,
    CODECS,
    FORMATS,
    PICTURE_FORMATS,
    PICTURE_SUFFIXES,
)


def test_the_lists_made_from_the_table() -> None:
    assert CLIP_FORMATS == ("mp4", "webm", "gif", "webp", "apng", "frames", "jpg")
    assert PICTURE_FORMATS == ("jpg", "png", "webp")
    assert list(CLIP_SUFFIXES) == [".mp4", ".webm", ".gif", ".webp", ".apng"]
    assert PICTURE_SUFFIXES == (".jpg", ".jpeg", ".png", ".webp")


def test_a_suffix_is_of_one_format() -> None:
    suffixes = [suffix for format in FORMATS.values() for suffix in format.suffixes]
    assert len(set(suffixes)) == len(suffixes)


def test_pillow_knows_every_picture() -> None:
    Image.init()
    assert set(PICTURE_SUFFIXES) <= set(Image.registered_extensions())


@pytest.mark.parametrize("name", CODECS)
def test_each_codec_is_an_encoder_of_ffmpeg(name: str) -> None:
    codec = CODECS[name]
    assert av.codec.Codec(codec.encoder, "w").canonical_name == name
    assert 0 < codec.crf < codec.max_crf
    assert any(name in format.codecs for format in FORMATS.values())
