"""Caption: grid images → a caption .txt beside each, layout prompt first, content after."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gridctl.errors import InputError
from gridctl.files import write_text
from gridctl.media.batch import BatchResult, run_batch
from gridctl.media.dataset import caption_path, list_grids, read_caption, write_metadata
from gridctl.media.facts import Facts
from gridctl.media.grid_image import load_facts
from gridctl.progress import Progress
from gridctl.prompt import DEFAULT_LAYOUT, grid_prompt, layout_template


def caption(
    sources: Sequence[Path],
    *,
    layout: str = DEFAULT_LAYOUT,
    subject: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> BatchResult:
    """Write `vid1.txt` beside each `vid1.jpg` in `sources`, grid images or folders of them.

    The content is the text that lay beside the clip when it was packed, else `subject`,
    else the words of the clip's name. `layout` is a layout's name or a template. Captions
    that are there are kept. metadata.jsonl is made again in each folder.

    Raises InputError if a folder holds no grid image, UsageError for a wrong layout.
    """
    template = layout_template(layout)
    jobs: list[tuple[Path, Path]] = []
    for source in sources:
        images = list_grids(source) if source.is_dir() else [source]
        jobs.extend((image, caption_path(image)) for image in images)

    def work(image: Path, target: Path) -> bool:
        if not force and read_caption(image):
            return False
        facts = load_facts(image)
        if facts is None:
            raise InputError(
                f"{image} has no gridctl facts, so its grid is unknown; pack its clip again."
            )
        text = grid_prompt(facts.grid, grid_content(facts, image, subject), template)
        write_text(target, text + "\n")
        return True

    result = run_batch(jobs, work, progress)
    for folder in sorted({target.parent for target in (*result.written, *result.skipped)}):
        write_metadata(folder)
    return result


def grid_content(facts: Facts, image: Path, subject: str | None = None) -> str:
    """What the grid shows, in words: from the facts, else `subject`, else the source's name.

    Raises InputError if nothing says it.
    """
    name = Path(facts.source).stem
    words = [word for word in re.split(r"[\W_]+", name) if word and not word.isdecimal()]
    for content in (facts.text, subject, " ".join(words)):
        if content and content.strip():
            return content.strip()
    raise InputError(
        f"{image} has no content to caption, for its source is named {facts.source}; "
        f"say --subject, or write {caption_path(image).name} by hand."
    )
