"""The weights of the built-in model, in diffusers' folder layout, and of its adapter."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent
BASE_FOLDER = WEIGHTS / "tiny"
ADAPTER_FILE = WEIGHTS / "tiny-grid.safetensors"
