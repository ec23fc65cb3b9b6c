"""The dataset folder: grid images, a caption .txt beside each, and metadata.jsonl.

It is at once a Hugging Face ImageFolder and a kohya-style folder. The .txt is the truth
for captions; `metadata.jsonl` is made again from it and from the images' facts.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gridctl.errors import InputError
from gridctl.files import write_text
from gridctl.media.grid_image import GRID_SUFFIXES, load_facts
from gridctl.media.read import natural_key

METADATA = "metadata.jsonl"  # the only name that Hugging Face's ImageFolder looks for


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


def write_metadata(folder: Path) -> list[Path]:
    """Make metadata.jsonl again in each folder under `folder` that holds grid images.

    An image without facts is listed with its name and caption only; one that cannot be
    read is left out, for whoever works on it will say so. Returns the files.
    """
    lines: dict[Path, list[str]] = {}
    for image in list_grids(folder):
        try:
            line = json.dumps(_metadata(image), ensure_ascii=False)
        except InputError:
            continue
        lines.setdefault(image.parent / METADATA, []).append(line)
    for path, content in lines.items():
        write_text(path, "\n".join(content) + "\n")
    return list(lines)


def _metadata(image: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"file_name": image.name, "text": read_caption(image)}
    facts = load_facts(image)
    if facts:
        known = facts.to_json()
        del known["gridctl"], known["text"]  # the content; the caption is in the .txt
        entry.update(known)
    return entry
