"""Settings of a profile that are valid and have no effect."""

from __future__ import annotations

from gridctl.profile.load import LoadedProfile
from gridctl.profile.schema import StageSection


def unused_settings(loaded: LoadedProfile) -> list[str]:
    """One line for each key of [train] in the profile's own file that every stage overrides."""
    stages = loaded.profile.train.stages
    return [
        f"{loaded.source}: train.{key} has no effect: every [[train.stage]] sets {key}"
        for key in StageSection.model_fields
        if stages
        and loaded.origins.get(f"train.{key}") == loaded.source
        and all(getattr(stage, key) is not None for stage in stages)
    ]
