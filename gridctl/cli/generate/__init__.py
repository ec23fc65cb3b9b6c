"""`gridctl generate`: a command for each task."""

from __future__ import annotations

from gridctl.cli.generate import (  # noqa: F401  registers the commands
    again,
    edit,
    extend,
    i2v,
    image,
    interpolate,
    multiview,
    restore,
    t2v,
    vocabulary,
)
from gridctl.cli.generate.call import generate_app

__all__ = ["generate_app"]
