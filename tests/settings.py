"""Profiles for tests: a grid, and a few keys."""

from collections.abc import Mapping
from typing import Any

from gridctl.geometry import Grid
from gridctl.profile import Profile, load_profile


def grid_keys(grid: Grid) -> dict[str, Any]:
    """The keys of a profile with this grid."""
    return {f"grid.{key}": getattr(grid, key) for key in ("rows", "cols", "cell", "order")}


def pack_profile(grid: Grid, **keys: object) -> Profile:
    """The defaults with this grid and these keys of `[pack]`."""
    return load_profile(None, grid_keys(grid) | {f"pack.{k}": v for k, v in keys.items()}).profile


def unpack_profile(grid: Mapping[str, object] | None = None, **keys: object) -> Profile:
    """The defaults with these keys of `[grid]` and of `[unpack]`."""
    values = {f"grid.{k}": v for k, v in (grid or {}).items()}
    return load_profile(None, values | {f"unpack.{k}": v for k, v in keys.items()}).profile
