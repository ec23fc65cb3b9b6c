"""The dataset folder: grid images, a caption .txt beside each, and metadata.jsonl.

It is at once a Hugging Face ImageFolder and a kohya-style folder. The .txt is the truth
for captions; `metadata.jsonl` is made again from it and from the images' facts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridctl.errors import InputError
from gridctl.files import write_text
from gridctl.media.facts import Facts
from gridctl.media.grid_image import GRID_SUFFIXES, load_facts
from gridctl.media.images import image_files, natural_key
from gridctl.media.provenance import METADATA, drop_journal, read_provenance


def list_grids(folder: Path) -> list[Path]:
    """All grid images under `folder`, sub-folders such as train/ and val/ included.

    Natural order, a folder's own images before its sub-folders'; hidden names are left
    out, temporary files among them. Raises InputError if there is no folder or no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; check the name, or make it with gridctl pack.")
    grids: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(
            (name for name in folders if not name.startswith(".")),
            key=lambda name: natural_key(Path(name)),
        )
        here = [Path(parent, name) for name in names if not name.startswith(".")]
        images = (path for path in here if path.suffix.lower() in GRID_SUFFIXES)
        grids.extend(sorted(images, key=natural_key))
    if not grids:
        raise InputError(f"{folder} holds no grid image; make some with gridctl pack.")
    return grids


def caption_path(image: Path) -> Path:
    """Where the caption of `image` lies: beside it, as .txt."""
    return image.with_suffix(".txt")


def read_caption(image: Path) -> str | None:
    """The caption beside `image`, or None if it has none (an empty file is none)."""
    return read_text(caption_path(image))


def read_text(path: Path) -> str | None:
    """The stripped UTF-8 text of a file; None if it is absent or blank.

    Raises InputError for a file that is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").strip() or None
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its rights.") from error


def write_metadata(folder: Path, known: Mapping[Path, dict[str, Any]] | None = None) -> list[Path]:
    """Make metadata.jsonl again for the grid images that lie directly in `folder`.

    `known` are entries that need not be read from their images again. An image without facts is
    listed with its name and caption only; one that cannot be read is left out, for whoever works
    on it will say so. What is known of a caption's making stays, as long as the caption does.
    Returns the images.
    """
    images = [path for path in image_files(folder) if path.suffix.lower() in GRID_SUFFIXES]
    made = read_provenance(folder)
    lines = []
    for image in images:
        try:
            entry = (known or {}).get(image) or metadata_entry(image, load_facts(image))
        except InputError:
            continue
        entry |= made.get((image.name, entry["text"]), {})
        lines.append(json.dumps(entry, ensure_ascii=False))
    write_text(folder / METADATA, "".join(f"{line}\n" for line in lines))
    drop_journal(folder)
    return images


def metadata_entry(image: Path, facts: Facts | None) -> dict[str, Any]:
    """What metadata.jsonl says of a grid image with these facts and the caption beside it."""
    entry: dict[str, Any] = {"file_name": image.name, "text": read_caption(image)}
    if facts:
        known = facts.to_json()
        # The content, which is in the .txt; and what only a later run of pack wants to know.
        del known["gridctl"], known["text"], known["made_from"]
        entry.update(known)
    return entry
