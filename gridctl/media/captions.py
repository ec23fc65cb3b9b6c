"""Whether the captions of a dataset are worth training on.

A caption without content, or the same one for nearly all clips, teaches a model nothing and
costs as much GPU time as a good one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gridctl.errors import InputError, counted
from gridctl.media.dataset import caption_path
from gridctl.media.facts import Facts
from gridctl.media.provenance import read_provenance
from gridctl.media.words import says_nothing
from gridctl.prompt import LAYOUTS, layout_prompt, layout_template

NEARLY_ALL = 0.9
FEWEST_CLIPS = 4  # of fewer clips, equal captions may well be right
_REMEDY = (
    "run gridctl caption --force with --mapping, --backend vlm or --server, or with --subject if "
    "one sentence fits all clips."
)
CHOSEN = {"mapping", "text", "subject"}  # contents that somebody wrote
_FEW_WORDS = 3


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """A grid image with the text of its caption file, and its facts if they are known.

    A caption file may hold several captions, one per line. `source` names the clip if there
    are no facts.
    """

    image: Path
    text: str
    facts: Facts | None = None
    source: str | None = None

    @property
    def captions(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines() if line.strip()]

    @property
    def clip(self) -> str:
        """What tells its clip from others."""
        return self.facts.source if self.facts else self.source or str(self.image)


def layout_patterns(layout: str) -> dict[str, re.Pattern[str]]:
    """Template → what it looks like filled in, for `layout` and for the named ones.

    `layout` is a name or a template. Raises UsageError for an unknown name.
    """
    own = layout_template(layout) if layout else ""
    templates = [template for template in dict.fromkeys((own, *LAYOUTS.values())) if template]
    return {template: _pattern(template) for template in templates}


def content_of(text: str, patterns: Mapping[str, re.Pattern[str]]) -> str:
    """A caption without its layout prompt."""
    for pattern in patterns.values():
        if found := pattern.match(text):
            return text[found.end() :].strip()
    return text.strip()


class Limits(Protocol):
    """How many tokens a text encoder reads, and how to count them."""

    @property
    def t5_tokens(self) -> int: ...

    @property
    def count_t5(self) -> Callable[[str], int]: ...


def find_faults(
    grids: Sequence[Captioned], *, layout: str, limits: Limits
) -> list[tuple[Path, str]]:
    """(image, fault) for captions that are too long, say nothing, contradict the grid's facts,
    or equal another clip's.
    """
    patterns = layout_patterns(layout)
    found = [
        (grid.image, fault) for grid in grids for fault in caption_faults(grid, patterns, limits)
    ]
    return found + equal_captions(grids, layout=layout)


def caption_faults(
    grid: Captioned, patterns: Mapping[str, re.Pattern[str]], limits: Limits
) -> list[str]:
    """The faults of one grid's captions; `patterns` is from `layout_patterns`."""
    return [f for text in grid.captions for f in _faults(text, grid.facts, patterns, limits)]


def refuse_useless_captions(grids: Sequence[Captioned], *, layout: str) -> None:
    """Raise InputError if captions say nothing, or nearly all say the same by accident."""
    patterns = layout_patterns(layout)
    empty = [
        (grid.image, text)
        for grid in grids
        for text in grid.captions
        if says_nothing(content_of(text, patterns))
    ]
    if empty:
        image, text = empty[0]
        raise InputError(
            f"{counted(len(empty), 'caption')} of {counted(len(grids), 'grid')} do not say what "
            f'the clip shows, such as "{_shortened(text)}" of {image}; {_REMEDY}'
        )
    if fault := same_by_accident(grids, layout=layout):
        raise InputError(f"{fault}; {_REMEDY}")


def same_by_accident(grids: Sequence[Captioned], *, layout: str) -> str | None:
    """What is wrong if nearly all clips have the same content, which nobody chose; else None.

    Content that was chosen (--subject, --mapping, a text beside the clip) may be the same for
    all, as when one object is learned. The same words from a name or a model are an accident.
    A caption of unknown origin counts as chosen if it is more than a word or two.
    """
    patterns = layout_patterns(layout)
    contents = {grid.clip: _key(content_of(grid.text, patterns)) for grid in grids}
    if len(contents) < FEWEST_CLIPS:
        return None
    content, count = Counter(contents.values()).most_common(1)[0]
    if count < NEARLY_ALL * len(contents):
        return None
    same = [grid for grid in grids if contents[grid.clip] == content]
    origins = caption_origins(same)
    if any(origins[grid.image] in CHOSEN for grid in same):
        return None
    unknown = all(origins[grid.image] is None for grid in same)
    if unknown and len(content.split()) >= _FEW_WORDS:
        return None
    clips = counted(len(contents), "clip")
    return f'{count} of {clips} have the same content "{_shortened(content)}"'


def _faults(
    text: str, facts: Facts | None, patterns: Mapping[str, re.Pattern[str]], limits: Limits
) -> list[str]:
    """What is wrong with one caption."""
    faults, content, tokens = [], text, limits.count_t5(text)
    if tokens > limits.t5_tokens:
        faults.append(f"too long: about {tokens} tokens, and T5 reads {limits.t5_tokens}.")
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
        faults.append(f'"{_shortened(content)}" does not say what the clip shows; describe it.')
    return faults


def equal_captions(grids: Sequence[Captioned], *, layout: str) -> list[tuple[Path, str]]:
    """Captions that different clips share, unless somebody chose them."""
    if accident := same_by_accident(grids, layout=layout):
        return [(grids[0].image, f"{accident}; write what differs.")]
    equal: dict[str, list[Captioned]] = {}
    for grid in grids:
        equal.setdefault(_key(grid.text), []).append(grid)
    shared = [same for same in equal.values() if len({grid.clip for grid in same}) > 1]
    origins = caption_origins(grid for same in shared for grid in same)
    return [
        (grid.image, f"the same as {caption_path(same[0].image)}; write what differs.")
        for same in shared
        for grid in same[1:]
        if grid.clip != same[0].clip and origins[grid.image] not in CHOSEN
    ]


def caption_origins(grids: Iterable[Captioned]) -> dict[Path, str | None]:
    """Image → where its content came from: mapping, text, subject, name, model, or unknown."""
    folders: dict[Path, dict[tuple[str, str], dict[str, str | None]]] = {}
    origins: dict[Path, str | None] = {}
    for grid in grids:
        folder = grid.image.parent
        if folder not in folders:
            folders[folder] = read_provenance(folder)
        fields = folders[folder].get((grid.image.name, grid.text.strip()), {})
        backend = fields.get("caption_backend")
        is_model = backend not in (None, "template")
        origins[grid.image] = "model" if is_model else fields.get("caption_content")
    return origins


def _key(content: str) -> str:
    return " ".join(content.split()).casefold()


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _pattern(template: str) -> re.Pattern[str]:
    """Matches `template` with any values filled in."""
    parts = re.split(r"\{\w+[^}]*\}", template)
    return re.compile(r"\S+?(?: seconds?)?".join(re.escape(part) for part in parts))
