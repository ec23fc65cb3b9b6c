"""The canvas: adapter, grid, layout prompt and frame rate of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.machine.hub import local_adapter
from gridctl.profile import BUILT_IN, BUILT_IN_ADAPTER, Profile
from gridctl.prompt import grid_prompt, layout_template


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What clips are drawn on; `keep` names the patterns of clean cells that the adapter knows."""

    adapter: Path | None
    grid: Grid
    layout: str
    fps: float
    keep: tuple[str, ...] = ()

    def prompt(self, content: str) -> str:
        """The whole prompt, worded as the adapter's captions were."""
        return grid_prompt(self.grid, content, self.layout, fps=self.fps)


def find_canvas(profile: Profile, insist: Mapping[str, Any]) -> Canvas:
    """The adapter's own grid, layout prompt and rate; the profile's if it has none.

    Raises UsageError if the adapter was trained on another grid than `insist` asks for, or on
    another base; and what `find_adapter` raises.
    """
    adapter = find_adapter(profile)
    metadata = read_adapter_metadata(adapter) if adapter else None
    if metadata is None:
        return Canvas(
            adapter=adapter,
            grid=replace(profile.grid.to_grid(), **insist),
            layout=layout_template(profile.caption.layout),
            fps=profile.generate.fps,
        )
    wanted = replace(metadata.grid, **insist)
    if wanted != metadata.grid:
        raise UsageError(
            f"{adapter} was trained on {metadata.grid}, and {wanted} is asked for; leave the grid "
            "to the adapter, or train one for this grid."
        )
    base = profile.model.base
    if BUILT_IN in (metadata.base, base) and metadata.base != base:
        raise UsageError(
            f"{adapter} was trained on {metadata.base}, and the base is {base}; "
            "take a profile with that base, or another adapter."
        )
    return Canvas(
        adapter=adapter,
        grid=metadata.grid,
        layout=metadata.layout,
        fps=metadata.fps,
        keep=metadata.keep,
    )


def find_adapter(profile: Profile) -> Path | None:
    """The file of the profile's adapter; None for "none", the bare base.

    The built-in base comes with an adapter. Raises UsageError if another base has none,
    InputError if the file is missing.
    """
    name, base = profile.model.adapter, profile.model.base
    if name is None and base == BUILT_IN:
        name = BUILT_IN_ADAPTER
    if name is None:
        raise UsageError(
            f"{base} draws grids only with an adapter; name one with --adapter, or "
            "use --adapter none for the bare base."
        )
    if name == "none":
        return None
    path = local_adapter(name)
    if not path.is_file():
        raise InputError(
            f"{name} is no adapter file; name one that `gridctl train` has written, or another "
            "FLUX LoRA in safetensors."
        )
    return path
