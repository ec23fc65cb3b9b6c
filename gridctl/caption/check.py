"""Check the captions of a folder for faults that would spoil training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gridctl.caption.length import TextLimits, text_limits
from gridctl.errors import GridctlError
from gridctl.media.captions import (
    CHOSEN,
    Captioned,
    caption_origins,
    layout_patterns,
    same_by_accident,
)
from gridctl.media.dataset import caption_path, list_grids, read_caption
from gridctl.media.facts import Facts
from gridctl.media.grid_image import load_facts
from gridctl.media.words import says_nothing
from gridctl.profile import Profile
from gridctl.progress import Progress, silent
from gridctl.prompt import layout_prompt


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A caption with a fault, and what the fault is."""

    path: Path
    fault: str


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The number of grids that were checked, and their faults."""

    grids: int
    findings: tuple[Finding, ...]


def check(
    sources: Sequence[Path],
    profile: Profile | None = None,
    *,
    progress: Progress | None = None,
) -> CheckResult:
    """Find captions that are missing, empty, too long or equal to another clip's, that do not
    say what the clip shows, or whose layout prompt contradicts the grid's facts.

    Equal captions are no fault if somebody chose them, for example with --subject. The
    profile's layout is recognised beside the named ones. Raises InputError if a folder holds
    no grid image.
    """
    images = [i for s in sources for i in (list_grids(s) if s.is_dir() else [s])]
    return check_images(images, profile or Profile(), progress=progress or silent)


def check_images(
    images: Sequence[Path], profile: Profile, *, progress: Progress = silent
) -> CheckResult:
    """The same for grid images."""
    patterns, limits = layout_patterns(profile.caption.layout), text_limits(profile)
    findings: list[Finding] = []
    grids: list[Captioned] = []
    for done, image in enumerate(images):
        progress(done, len(images), image.name)
        path = caption_path(image)
        try:
            text, facts = read_caption(image), load_facts(image)
            if text is None:
                faults = ["empty; write it." if path.exists() else "missing; write it."]
            else:
                grids.append(Captioned(image=image, text=text, facts=facts))
                faults = [
                    fault
                    for line in grids[-1].captions
                    for fault in _faults(line, facts, patterns, limits)
                ]
        except GridctlError as error:
            faults = [str(error)]
        findings += [Finding(path=path, fault=fault) for fault in faults]
    findings += _equal_captions(grids, profile.caption.layout)
    place = {caption_path(image): index for index, image in enumerate(images)}
    return CheckResult(
        grids=len(images), findings=tuple(sorted(findings, key=lambda f: place[f.path]))
    )


def _faults(
    text: str, facts: Facts | None, patterns: Mapping[str, re.Pattern[str]], limits: TextLimits
) -> list[str]:
    """What is wrong with one caption."""
    faults, content = [], text
    if not limits.fits_t5(text):
        faults.append(
            f"too long: about {limits.count_t5(text)} tokens, and T5 reads {limits.t5_tokens}."
        )
    for template, pattern in patterns.items():
        found = pattern.match(text)
        if not found:
            continue
        content = text[found.end() :].strip()
        if not content:
            faults.append("a layout prompt without content; add what the grid shows.")
        if facts is not None:
            right = layout_prompt(facts.grid, template, fps=facts.fps)
            if found[0] != right:
                faults.append(f'says "{found[0]}", but the facts are "{right}"')
        break
    if content and says_nothing(content):
        faults.append(f'"{content}" does not say what the clip shows; describe it.')
    return faults


def _equal_captions(grids: Sequence[Captioned], layout: str) -> list[Finding]:
    """Captions that different clips share, unless somebody chose them."""
    if accident := same_by_accident(grids, layout=layout):
        return [
            Finding(path=caption_path(grids[0].image), fault=f"{accident}; write what differs.")
        ]
    equal: dict[str, list[Captioned]] = {}
    for grid in grids:
        equal.setdefault(" ".join(grid.text.split()).casefold(), []).append(grid)
    shared = [same for same in equal.values() if len({grid.clip for grid in same}) > 1]
    origins = caption_origins([grid for same in shared for grid in same])
    return [
        Finding(
            path=caption_path(grid.image),
            fault=f"the same as {caption_path(same[0].image)}; write what differs.",
        )
        for same in shared
        for grid in same[1:]
        if grid.clip != same[0].clip and origins[grid.image] not in CHOSEN
    ]
