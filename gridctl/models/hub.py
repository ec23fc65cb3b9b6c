"""Base models by name: their family, and their folder, here or on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.machine.caches import cache_file, cache_folder
from gridctl.machine.hub import hub_token, local_base
from gridctl.models import flux1, flux2
from gridctl.models.family import Family, TextLimits
from gridctl.profile import BUILT_IN, Profile

FAMILIES: tuple[Family, ...] = (flux1, flux2)  # the first is that of an unknown name
_LARGE_BYTES = 64 * 2**20
_CHECKPOINTS = (".safetensors", ".gguf", ".ckpt", ".pt", ".sft")  # of a single file
_SUFFIXES = ("json", "txt", "model", "safetensors")


def find_family(name: str, folder: Path | None = None) -> Family:
    """The family of a base model: by model_index.json in `folder`, or by its Hub id without.

    Raises UsageError for a folder of another pipeline, and for a model that the family refuses.
    """
    if folder is None or not (folder / "model_index.json").is_file():
        known = (family for family in FAMILIES if family.HUB_NAME.lower() in name.lower())
        family = next(known, FAMILIES[0])
        family.check(name, None)
        return family
    with loading(name):
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        kind = index["transformer"][1] if "transformer" in index else index["_class_name"]
    for family in FAMILIES:
        if kind == family.TRANSFORMER:
            with loading(name):
                family.check(name, folder)
            return family
    names = " or ".join(family.NAME for family in FAMILIES)
    raise UsageError(
        f"{name} is a pipeline of {kind}, and gridctl draws with {names}; use such a model, or "
        f'the built-in "{BUILT_IN}".'
    )


def profile_family(profile: Profile) -> Family:
    """The family of a profile's base model; nothing is downloaded."""
    return find_family(profile.model.base, local_base(profile.model.base, profile.model.revision))


def transformer_config(profile: Profile) -> Mapping[str, Any]:
    """The config of the base's transformer if it is on this machine, else its family's usual."""
    folder = local_base(profile.model.base, profile.model.revision)
    path = folder / "transformer" / "config.json" if folder else None
    if path is None or not path.is_file():
        return find_family(profile.model.base, folder).TRANSFORMER_CONFIG
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def weight_folders(family: Family) -> tuple[str, ...]:
    """The sub-folders that decide what a model draws, in the order in which they are hashed."""
    return ("transformer", "vae", *family.TEXT_FOLDERS)


def text_limits(profile: Profile) -> TextLimits:
    """The token limits of the profile's base model, by its tokenizers if they are on this machine.

    Nothing is downloaded. A profile that names no base model gets FLUX.1's limits, because
    its captions may be trained on any. A broken tokenizer raises GridctlError when it counts.
    """
    model = profile.model
    if not profile.is_set("model.base"):
        return FAMILIES[0].text_limits(None, model.text_tokens)
    folder = local_base(model.base, model.revision)
    return find_family(model.base, folder).text_limits(folder, model.text_tokens)


def find_base(name: str, revision: str | None = None) -> Path:
    """The folder of a base model; a Hub model is downloaded (weights as safetensors only).

    Raises UsageError for a name that is not a model, GridctlError for a Hub model that cannot be
    downloaded.
    """
    is_hub_id = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if name != BUILT_IN and is_hub_id and not Path(name).exists():
        return _download(name, revision)
    folder = local_base(name, revision)
    if name.endswith(_CHECKPOINTS) and Path(name).is_file():
        raise UsageError(
            f"{name} is a single file, and a base is a whole folder in diffusers' layout; name the "
            "folder with its model_index.json, or a Hub id such as black-forest-labs/"
            f"{flux2.TRAINABLE}."
        )
    if folder is None or not (folder / "model_index.json").is_file():
        raise UsageError(
            f"{name} is not a model: a base is a folder with a model_index.json, a Hub id such as "
            f'black-forest-labs/FLUX.1-dev, or "{BUILT_IN}".'
        )
    find_family(name, folder)  # refuses other pipelines
    return folder


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Report a damaged or incomplete model folder as one error line."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, RuntimeError) as error:
        if type(error).__name__ == "OutOfMemoryError":  # of a GPU: the folder is not to blame
            raise
        raise InputError(
            f"{name} cannot be loaded as a diffusers pipeline: {_first_line(error)}. Download it "
            "again, or point model.base to a whole diffusers folder."
        ) from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file.

    The Hub's cache names large files by it. Of other large files it is remembered, by name, size
    and time, so that 24 GB are not read each time.
    """
    blob = path.resolve().name
    if len(blob) == 64 and all(c in "0123456789abcdef" for c in blob):
        return blob
    stat = path.stat()
    if stat.st_size < _LARGE_BYTES:
        return _read_hash(path)
    state = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    name = hashlib.sha256(state.encode(errors="surrogateescape")).hexdigest()
    known = cache_folder() / "hashes" / name
    if not known.is_file() or len(known.read_text()) != 64:
        with cache_file(known) as temporary:
            temporary.write_text(_read_hash(path))
    return known.read_text()


def fingerprint(folder: Path, *parts: str) -> str:
    """A hash of all files in these sub-folders of a model."""
    digest = hashlib.sha256()
    for part in parts:
        for path in sorted((folder / part).rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(folder)}\0{file_hash(path)}\n".encode())
    return digest.hexdigest()


def _read_hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    remedy = "Use a local folder as model.base, or the built-in model (--profile tiny)."
    # Only diffusers' folders: FLUX.1-dev's repository has the same 24 GB a second time.
    folders = {folder for family in FAMILIES for folder in weight_folders(family)} | {"scheduler"}
    files = [f"{folder}/*.{suffix}" for folder in sorted(folders) for suffix in _SUFFIXES]
    files.append("model_index.json")
    try:
        return Path(
            snapshot_download(name, revision=revision, token=hub_token(), allow_patterns=files)
        )
    except GatedRepoError:
        raise GridctlError(
            f"{name} needs its licence accepted; accept it on its Hub page and set HF_TOKEN "
            "(environment or .env) to a token of that account."
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        at = f" at revision {revision}" if revision else ""
        raise GridctlError(
            f"the Hub has no {name}{at} that this account may read; check the name, or set "
            f"HF_TOKEN. {remedy}"
        ) from None
    except RuntimeError as error:
        if "home" not in str(error):  # pathlib's error for a user without one
            raise
        raise GridctlError(
            "this user has no home folder for the Hub's downloads; set HF_HOME to a folder that "
            "can be written."
        ) from None
    except Exception as error:  # the HTTP library's exceptions differ from version to version
        raise GridctlError(
            f"{name} is not on this machine and the Hub cannot be reached "
            f"({_first_line(error)}). {remedy}"
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
