"""Takes on disk: a line for each as it is judged, so that a stopped run loses nothing."""

from __future__ import annotations

import json
import shutil
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gridctl.bench.quality.cases import Part
from gridctl.bench.quality.measures import Figure, Pair, ratio_of_sums
from gridctl.bench.quality.score import Score, Take, contact_sheet
from gridctl.errors import InputError
from gridctl.files import write_text
from gridctl.media.images import Frames
from gridctl.media.write import write_clip

SHOWN = 12  # clips on each contact sheet
_SETTINGS = "bench-quality.json"  # no name that another program uses
_TAKES = "takes.jsonl"
_OURS = (_SETTINGS, _TAKES, "quality.json", "frames", "*-first.png", "*-worst.png", "*-worst")
_NAMED = 3  # settings that an error names


def open_folder(folder: Path, settings: Mapping[str, Any], *, force: bool) -> None:
    """Make `folder`, or check that what is in it was measured with the same settings.

    Raises InputError if it has other files or other settings. `force` removes
    what an earlier run wrote.
    """
    known = folder / _SETTINGS
    if folder.exists() and not known.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is no folder of bench quality; use another name.")
    if force and known.exists():
        for pattern in _OURS:
            for path in folder.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    wanted = json.loads(json.dumps(settings))
    if not known.exists():
        write_text(known, json.dumps(wanted, indent=2) + "\n")
        return
    found = json.loads(known.read_text(encoding="utf-8"))
    changed = [
        f"{key} = {found.get(key)} (now {wanted.get(key)})"
        for key in {**wanted, **found}
        if found.get(key) != wanted.get(key)
    ]
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise InputError(
            f"{folder} was measured with {', '.join(changed[:_NAMED])}{more}; use the same "
            "settings to resume it, --force to start over, or another folder."
        )


class Takes:
    """The takes of one part. Those that the contact sheets show keep their frames on disk."""

    def __init__(self, folder: Path, part: Part) -> None:
        self._folder = folder
        self._part = part
        self._takes = {take.index: take for take in _read(folder / _TAKES, part)}

    @property
    def indices(self) -> frozenset[int]:
        """The cases that are done."""
        return frozenset(self._takes)

    def add(self, take: Take, frames: Frames) -> None:
        """Write a take; its frames (F, H, W, 3) first, so that a line's frames are never missing.

        Frames that the contact sheets no longer show are removed.
        """
        before = self._shown()
        self._takes[take.index] = take
        if take.index in (shown := self._shown()):
            path = self._frames_path(take.index)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, frames=frames)
        with (self._folder / _TAKES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(take.to_json()) + "\n")
        for index in before - shown:
            self._frames_path(index).unlink(missing_ok=True)

    def scores(self) -> list[Score]:
        """How often each attribute was right."""
        right: dict[str, list[bool]] = defaultdict(list)
        for take in self._in_order():
            for what, value in take.right.items():
                right[what].append(value)
        return [
            Score(part=self._part, what=what, right=sum(values), count=len(values))
            for what, values in right.items()
        ]

    def figures(self) -> dict[str, Figure]:
        """The mean PSNR, the median temporal error, and each measure's ratio of sums.

        A ratio over nothing, as of clips that all stand still, is left out.
        """
        takes = self._in_order()
        found = {}
        if decibels := [take.psnr_db for take in takes if take.psnr_db is not None]:
            found[f"{self._part} PSNR dB"] = Figure.of(decibels, statistics.fmean)
        if errors := [t.temporal_error for t in takes if t.temporal_error is not None]:
            found[f"{self._part} temporal error"] = Figure.of(errors, statistics.median)
        measures: dict[str, list[Pair]] = defaultdict(list)
        for take in takes:
            for what, pair in take.measures.items():
                measures[what].append(pair)
        for what, pairs in measures.items():
            if sum(true for _, true in pairs) > 0:
                found[f"{self._part} {what}, ratio"] = Figure.of(pairs, ratio_of_sums)
        return found

    def show(self) -> None:
        """Contact sheets of the first and the worst, and the worst ones as files."""
        stem = self._folder / self._part.replace(" ", "-")
        worst = self._worst()
        for name, takes in (("first", self._in_order()[:SHOWN]), ("worst", worst)):
            clips = [self._frames(take) for take in takes]
            contact_sheet(takes, clips).save(stem.with_name(f"{stem.name}-{name}.png"))
        for rank, take in enumerate(worst, start=1):
            if len(frames := self._frames(take)) > 1:
                path = stem.with_name(f"{stem.name}-worst") / f"{rank:02}.mp4"
                write_clip(frames, path, fps=8, force=True)

    def _in_order(self) -> list[Take]:
        return [self._takes[index] for index in sorted(self._takes)]

    def _worst(self) -> list[Take]:
        return sorted(self._in_order(), key=lambda take: take.badness)[: -SHOWN - 1 : -1]

    def _shown(self) -> set[int]:
        return {take.index for take in (*self._in_order()[:SHOWN], *self._worst())}

    def _frames_path(self, index: int) -> Path:
        return self._folder / "frames" / self._part.replace(" ", "-") / f"{index:05}.npz"

    def _frames(self, take: Take) -> Frames:
        with np.load(self._frames_path(take.index)) as stored:
            frames: Frames = stored["frames"]
        return frames


def _read(path: Path, part: Part) -> Sequence[Take]:
    """The takes of a part. Half a line at the end, from a kill or a full disk, is removed."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    found = map(json.loads, whole.decode().splitlines())
    return [Take.from_json(line) for line in found if line["part"] == part]
