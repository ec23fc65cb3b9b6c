"""The Hugging Face token: from the environment or from `.env`. It is never printed."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

from gridctl.text import decode


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
