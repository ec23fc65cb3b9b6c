"""Models on this machine: the built-in ones, local folders and the Hub's cache."""

from __future__ import annotations

from pathlib import Path

from gridctl.files import expand_home
from gridctl.profile import BUILT_IN, BUILT_IN_ADAPTER
from gridctl.toyworld.weights import ADAPTER_FILE, BASE_FOLDER


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
