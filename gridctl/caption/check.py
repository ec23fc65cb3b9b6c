"""Check the captions of a folder for faults that would spoil training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gridctl.dataset.captions import Captioned, caption_faults, equal_captions, layout_patterns
from gridctl.dataset.folder import caption_path, list_grids, read_caption
from gridctl.dataset.grid_image import load_metadata
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import GridctlError
from gridctl.models.hub import text_limits
from gridctl.profile import Profile
from gridctl.progress import Progress, silent
from gridctl.storage import map_paths


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
    say what the clip shows, or whose layout prompt contradicts the grid's metadata.

    Equal captions are not a fault if somebody chose them, for example with --subject. The
    profile's layout is recognised beside the named ones. Raises InputError if a folder holds
    no grid image.
    """
    images = [i for s in sources for i in (list_grids(s) if s.is_dir() else [s])]
    return check_images(images, profile or Profile(), progress=progress or silent)


def check_images(
    images: Sequence[Path],
    profile: Profile,
    *,
    known: Mapping[Path, Captioned] | None = None,
    progress: Progress = silent,
) -> CheckResult:
    """Check grid images. Captions in `known` were just written, so they are only compared."""
    patterns, limit = layout_patterns(profile.caption.layout), text_limits(profile).whole
    found: list[tuple[Path, str]] = []
    grids: list[Captioned] = []
    known = known or {}
    read = map_paths(_read, [image for image in images if image not in known])
    for done, image in enumerate(images):
        progress(done, len(images), image.name)
        if image in known:
            grids.append(known[image])
            continue
        text, metadata, error = next(read)
        if error is not None:
            found.append((image, error))
            continue
        if text is None:
            is_there = caption_path(image).exists()
            found.append((image, "empty; write it." if is_there else "missing; write it."))
            continue
        grid = Captioned(image=image, text=text, metadata=metadata)
        found += [(image, fault) for fault in caption_faults(grid, patterns, limit)]
        grids.append(Captioned(image=image, text=text, source=grid.clip))  # metadata take memory
    found += equal_captions(grids, layout=profile.caption.layout)
    place = {image: index for index, image in enumerate(images)}
    return CheckResult(
        grids=len(images),
        findings=tuple(
            Finding(path=caption_path(image), fault=fault)
            for image, fault in sorted(found, key=lambda finding: place[finding[0]])
        ),
    )


def _read(image: Path) -> tuple[str | None, GridMetadata | None, str | None]:
    """(caption, metadata, what is wrong) of a grid image."""
    try:
        return read_caption(image), load_metadata(image), None
    except GridctlError as error:
        return None, None, str(error)
