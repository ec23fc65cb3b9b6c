"""The built-in base and the adapter that comes with it: their names and where they lie."""

from __future__ import annotations

from pathlib import Path

import gridctl

BUILT_IN = "tiny"
TINY_ADAPTER = "tiny-grid"  # gives the built-in base time
WEIGHTS = Path(gridctl.__file__).parent / "toyworld" / "weights"
TINY_ADAPTER_FILE = WEIGHTS / f"{TINY_ADAPTER}.safetensors"
