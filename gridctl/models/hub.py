"""Finding a base model: the built-in one, a local folder, or the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.machine.caches import cache_file, cache_folder
from gridctl.machine.hub import hub_token, local_base
from gridctl.profile import BUILT_IN

_PARTS = (
    "scheduler", "tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "transformer", "vae",
)  # fmt: skip
_LARGE_BYTES = 64 * 2**20
_SUFFIXES = ("json", "txt", "model", "safetensors")
# Only diffusers' folders: FLUX.1-dev's repository has the same 24 GB a second time.
_FILES = [
    "model_index.json",
    *(f"{part}/*.{suffix}" for part in _PARTS for suffix in _SUFFIXES),
]


def find_base(name: str, revision: str | None = None) -> Path:
    """The folder of a base model; a Hub model is downloaded (weights as safetensors only).

    Raises UsageError for a name that is no FLUX.1 model, GridctlError for a Hub model that
    cannot be downloaded.
    """
    is_hub_id = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if name != BUILT_IN and is_hub_id and not Path(name).exists():
        return _download(name, revision)
    folder = local_base(name, revision)
    if folder is None or not (folder / "model_index.json").is_file():
        raise UsageError(
            f"{name} is no model: a base is a folder with a model_index.json, a Hub id such as "
            f'black-forest-labs/FLUX.1-dev, or "{BUILT_IN}".'
        )
    _refuse_other_pipelines(name, folder)
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
            f"{name} cannot be loaded as a FLUX.1 pipeline: {_first_line(error)}. Download it "
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


def _refuse_other_pipelines(name: str, folder: Path) -> None:
    with loading(name):
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        kind = index["transformer"][1] if "transformer" in index else index["_class_name"]
    if kind != "FluxTransformer2DModel":
        raise UsageError(
            f"{name} is a pipeline of {kind}, and gridctl draws with FLUX.1; use such a model, or "
            f'the built-in "{BUILT_IN}".'
        )


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    remedy = "Use a local folder as model.base, or the built-in model (--profile tiny)."
    try:
        return Path(
            snapshot_download(name, revision=revision, token=hub_token(), allow_patterns=_FILES)
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
