"""The Hugging Face token, and the models that are on this machine. A token is never printed."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

from gridctl.files import expand_home
from gridctl.profile import BUILT_IN, BUILT_IN_ADAPTER
from gridctl.text import decode
from gridctl.tiny.weights import ADAPTER_FILE, BASE_FOLDER


def hub_token(folder: Path | None = None) -> str | None:
    """`HF_TOKEN` from the environment, else from `folder`/.env (the current folder's)."""
    token = os.environ.get("HF_TOKEN", "").strip().strip("\"'")  # docker --env-file keeps quotes
    return token or _from_env_file((folder or Path.cwd()) / ".env")


def _from_env_file(path: Path) -> str | None:
    if not path.is_file():
        return None
    from dotenv import dotenv_values

    # The file is the user's for many programs: what dotenv cannot parse need not concern us.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)
    try:
        text = decode(path.read_bytes())  # PowerShell writes UTF-16
    except (OSError, UnicodeDecodeError):
        return None
    return dotenv_values(stream=io.StringIO(text), interpolate=False).get("HF_TOKEN") or None


def local_base(name: str, revision: str | None = None) -> Path | None:
    """The folder of a base model, or None if it would have to be downloaded.

    `name` is a profile's model.base: "tiny", a folder, or a Hub id. What the Hub's cache has
    of a model may be incomplete. Nothing is downloaded.
    """
    if name == BUILT_IN:
        return BASE_FOLDER
    folder = Path(expand_home(name))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None
    except RuntimeError:  # this user has no home, so there is no cache
        return None


def local_adapter(name: str) -> Path:
    """The file of an adapter: the built-in one's by its name, else `name` as a path.

    A run folder of training (`adapter.run`) stands for its newest checkpoint.
    """
    if name == BUILT_IN_ADAPTER:
        return ADAPTER_FILE
    path = Path(expand_home(name))
    checkpoints = path.glob("step-*.safetensors")  # none in a file
    return max(checkpoints, key=lambda file: (len(file.name), file.name), default=path)
