"""The keys that `[pack]` and `[caption]` share: where their work runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gridctl.profile.schema.section import Section


class EngineSection(Section):
    """Where the work of a section runs."""

    engine: Literal["local", "ray"] = Field(
        default="local",
        description="Where the work runs. local: processes on this machine. ray: tasks on a Ray "
        "cluster, or on a Ray that is started for this run.",
    )
    ray_address: str | None = Field(
        default=None,
        min_length=1,
        description="Address of the Ray cluster, such as auto or head:6379. Unset starts a Ray on "
        "this machine, unless $RAY_ADDRESS is set.",
    )
