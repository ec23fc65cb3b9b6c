"""The Hugging Face token: from the environment or from `.env`, and never printed."""

from __future__ import annotations

import os
from pathlib import Path


def hub_token(folder: Path | None = None) -> str | None:
    """`HF_TOKEN` from the environment, else from `folder`/.env (the current folder's)."""
    token = os.environ.get("HF_TOKEN", "").strip()
    return token or _from_env_file((folder or Path.cwd()) / ".env")


def _from_env_file(path: Path) -> str | None:
    if not path.is_file():
        return None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.strip() == "HF_TOKEN":
            return value.strip().strip("\"'") or None
    return None
