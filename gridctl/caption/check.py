"""Check the captions of a folder for faults that would spoil training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gridctl.caption.length import TextLimits, text_limits
from gridctl.errors import GridctlError
from gridctl.media.dataset import caption_path, list_grids, read_caption
from gridctl.media.facts import Facts
from gridctl.media.grid_image import load_facts
from gridctl.profile import Profile
from gridctl.progress import Progress, silent
from gridctl.prompt import LAYOUTS, layout_prompt, layout_template


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
    """Find captions that are missing, empty, too long, equal to another one, or whose layout
    prompt contradicts the grid's facts.

    The profile's layout is recognised beside the named ones. Raises InputError if a folder
    holds no grid image.
    """
    profile = profile or Profile()
    own = layout_template(profile.caption.layout)
    templates = [t for t in dict.fromkeys((own, *LAYOUTS.values())) if t]
    patterns = {template: _pattern(template) for template in templates}
    limits = text_limits(profile)
    images = [i for s in sources for i in (list_grids(s) if s.is_dir() else [s])]
    findings: list[Finding] = []
    first: dict[str, Path] = {}
    for done, image in enumerate(images):
        (progress or silent)(done, len(images), image.name)
        path = caption_path(image)
        try:
            faults = _faults(read_caption(image), path, load_facts(image), patterns, limits)
            text = " ".join((read_caption(image) or "").split()).casefold()
            if text and (other := first.setdefault(text, path)) != path:
                faults.append(f"the same as {other}; write what differs.")
        except GridctlError as error:
            faults = [str(error)]
        findings += [Finding(path=path, fault=fault) for fault in faults]
    return CheckResult(grids=len(images), findings=tuple(findings))


def _faults(
    text: str | None,
    path: Path,
    facts: Facts | None,
    patterns: dict[str, re.Pattern[str]],
    limits: TextLimits,
) -> list[str]:
    if text is None:
        return ["empty; write it." if path.exists() else "missing; write it."]
    faults = []
    if not limits.fits_t5(text):
        faults.append(
            f"too long: about {limits.count_t5(text)} tokens, and T5 reads {limits.t5_tokens}."
        )
    for template, pattern in patterns.items():
        found = pattern.match(text)
        if not found:
            continue
        if not text[found.end() :].strip():
            faults.append("a layout prompt without content; add what the grid shows.")
        if facts is not None:
            right = layout_prompt(facts.grid, template, fps=facts.fps)
            if found[0] != right:
                faults.append(f'says "{found[0]}", but the facts are "{right}"')
        break
    return faults


def _pattern(template: str) -> re.Pattern[str]:
    """Matches `template` with any values filled in."""
    parts = re.split(r"\{\w+[^}]*\}", template)
    return re.compile(r"\S+?(?: seconds?)?".join(re.escape(part) for part in parts))
