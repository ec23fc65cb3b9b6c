"""The metadata of a grid image, so that later commands need no flags."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridctl.errors import GridctlError, InputError
from gridctl.geometry import Grid
from gridctl.text import parse_json

METADATA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class GridMetadata:
    """The metadata that is embedded in a grid image and listed in `metadata.jsonl`.

    `num_frames` counts the real frames. The cells after them are padding. `times_seconds` are
    the times of the real frames, from the start of the clip. `fps` is the rate at which they
    last as long as they did in the clip. `text` is the content from the .txt beside the source.
    `part` is (number of this grid from 1 on, how many) among the grids of one clip, and the
    first `shared` frames are also the last ones of the grid before. `made_from` is a digest of
    the source and the options, by which a later run knows what it can skip.

    Raises InputError for metadata that contradicts itself.
    """

    grid: Grid
    source: str
    times_seconds: tuple[float, ...]
    fps: float
    num_frames: int
    text: str | None = None
    part: tuple[int, int] | None = None
    shared: int = 0
    made_from: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.num_frames <= self.grid.num_frames:
            raise InputError(
                f"num_frames is {self.num_frames}; a {self.grid.rows}x{self.grid.cols} grid "
                f"holds 1 to {self.grid.num_frames}."
            )
        if len(self.times_seconds) != self.num_frames:
            raise InputError(
                f"times_seconds has {len(self.times_seconds)} times for {self.num_frames} frames."
            )
        if not all(map(math.isfinite, self.times_seconds)):
            raise InputError("times_seconds has a time that is not a number.")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise InputError(f"fps is {self.fps}; it must be a number above 0.")
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            raise InputError(f"part is {self.part[0]} of {self.part[1]}; parts count from 1.")
        if not 0 <= self.shared < self.num_frames:
            raise InputError(
                f"shared is {self.shared}; a grid of {self.num_frames} frames shares fewer."
            )

    def to_json(self) -> dict[str, Any]:
        """The metadata as JSON values, with the keys of `metadata.jsonl`."""
        return {
            "gridctl": METADATA_VERSION,
            **self.grid.to_json(),
            "source": self.source,
            "times_seconds": list(self.times_seconds),
            "fps": self.fps,
            "num_frames": self.num_frames,
            "text": self.text,
            "part": None if self.part is None else list(self.part),
            "shared": self.shared,
            "made_from": self.made_from,
        }

    @classmethod
    def from_json(cls, data: Any, path: Path) -> GridMetadata:
        """Read what `to_json` wrote into the image at `path`. Raises InputError if damaged."""
        try:
            if data["gridctl"] != METADATA_VERSION:
                raise InputError(f"its version is {data['gridctl']}, not {METADATA_VERSION}.")
            text, part, made_from = (data.get(key) for key in ("text", "part", "made_from"))
            return cls(
                grid=Grid.from_json(data),
                source=str(data["source"]),
                times_seconds=tuple(float(t) for t in data["times_seconds"]),
                fps=float(data["fps"]),
                num_frames=int(data["num_frames"]),
                text=None if text is None else str(text),
                part=None if part is None else (int(part[0]), int(part[1])),
                shared=int(data.get("shared", 0)),
                made_from=None if made_from is None else str(made_from),
            )
        except KeyError as error:
            reason = f"{error.args[0]} is missing."
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            reason = f"{error}."
        except GridctlError as error:
            reason = str(error)
        raise InputError(
            f"{path} has gridctl metadata that cannot be used: {reason} Pack its clip again."
        )


def metadata_from_text(text: str, path: Path) -> GridMetadata | None:
    """The metadata in an image description, or None if another program wrote it."""
    try:
        data = parse_json(text)
    except ValueError:
        return None
    if not isinstance(data, dict) or "gridctl" not in data:
        return None
    return GridMetadata.from_json(data, path)
