"""`[unpack]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gridctl.profile.schema.section import Section
from gridctl.profile.values import Fps


class UnpackSection(Section):
    """Grid images → clips or frames."""

    format: Literal["mp4", "webm", "gif", "webp", "apng", "frames", "jpg"] = Field(
        default="mp4",
        description="Format of the clips in an output folder. frames is a folder of PNG images "
        "for each clip, jpg a folder of JPEG images. A single clip takes its format from its name.",
    )
    codec: Literal["h264", "hevc", "av1", "vp9"] | None = Field(
        default=None,
        description="Video codec. mp4: h264, hevc or av1. webm: vp9 or av1. Unset is the first "
        "of them.",
    )
    crf: Annotated[int, Field(ge=0, le=63)] | None = Field(
        default=None,
        description="Quality of mp4 and webm: 0 is best, 51 (h264, hevc) or 63 (av1, vp9) is "
        "smallest. Unset is near-lossless.",
    )
    fps: Fps | None = Field(
        default=None,
        description="Frame rate of the clips. Unset is the rate stored in each grid image.",
    )
