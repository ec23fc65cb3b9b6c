"""`gridctl bench`: measured figures, side by side."""

from __future__ import annotations

from gridctl.cli.bench import (  # noqa: F401  registers the commands
    caption,
    generate,
    gpu,
    memory,
    pack,
    quality,
    startup,
    train,
)
from gridctl.cli.bench.call import bench_app

__all__ = ["bench_app"]
