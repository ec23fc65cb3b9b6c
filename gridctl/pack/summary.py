"""Summary: what an adapter will learn from the grids of a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gridctl.errors import counted
from gridctl.progress import FilesResult

SLOW_FPS = 4.0  # below, motion from frame to frame looks like a slideshow
SUGGESTED_FPS = 8.0


@dataclass(frozen=True, kw_only=True)
class ClipSummary:
    """How the grids of one clip show it."""

    grids: int
    fps: float
    """The rate of their frames, in the clip's own time."""
    seconds_per_grid: float
    cropped: float | None
    """The share of each frame that is cut off, 0 to 1. None if no frame was read."""
    grids_at_suggested_fps: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Medians over clips, the range of rates, and the mean share that is cut off."""

    clips: int
    slow_clips: int
    """Those below SLOW_FPS."""
    grids: int
    fps: float
    slowest_fps: float
    fastest_fps: float
    seconds_per_grid: float
    cropped: float | None
    grids_at_suggested_fps: int

    @classmethod
    def of(cls, clips: Sequence[ClipSummary]) -> Summary | None:
        """The summary of some clips, None if there is none."""
        if not clips:
            return None
        rates = [clip.fps for clip in clips]
        cropped = [clip.cropped for clip in clips if clip.cropped is not None]
        return cls(
            clips=len(clips),
            slow_clips=sum(rate < SLOW_FPS for rate in rates),
            grids=sum(clip.grids for clip in clips),
            fps=round(statistics.median(rates), 3),
            slowest_fps=min(rates),
            fastest_fps=max(rates),
            seconds_per_grid=round(statistics.median(c.seconds_per_grid for c in clips), 3),
            cropped=round(statistics.fmean(cropped), 3) if cropped else None,
            grids_at_suggested_fps=sum(clip.grids_at_suggested_fps for clip in clips),
        )

    def __str__(self) -> str:
        low, middle, high = (f"{x:.3g}" for x in (self.slowest_fps, self.fps, self.fastest_fps))
        spread = "" if low == high else f" ({low} to {high})"
        text = (
            f"{counted(self.grids, 'grid')}: {middle} frames a second{spread}, "
            f"{self.seconds_per_grid:.3g} seconds per grid"
        )
        if self.cropped:
            text += f", {self.cropped:.0%} of each frame cropped"
        return text

    def warning(self) -> str | None:
        """What to do if motion is too coarse to learn from. None if it is not."""
        if not self.slow_clips:
            return None
        return (
            f"{self.slow_clips:,} of {counted(self.clips, 'clip')} give grids below "
            f"{SLOW_FPS:g} frames a second, from which an adapter learns slideshows; --sample "
            f"fps={SUGGESTED_FPS:g} makes about {counted(self.grids_at_suggested_fps, 'grid')} of "
            "these clips"
        )


@dataclass(frozen=True, kw_only=True)
class PackResult(FilesResult):
    """The outcome for each clip, and a summary of the grids if there are any."""

    summary: Summary | None = None
