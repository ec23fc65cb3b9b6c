"""The profile as a whole: what every command takes its values from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gridctl.profile.data import CaptionSection, GridSection, PackSection, UnpackSection
from gridctl.profile.model import BenchSection, GenerateSection, MemorySection, ModelSection
from gridctl.profile.settings import (
    Section,
    Setting,
    setting,
    settings_of,
)
from gridctl.profile.training import TrainSection


@dataclass(frozen=True, kw_only=True)
class Profile(Section):
    """One frozen profile: what every command takes its values from.

    `origins` says where the value of each dotted key comes from: "flag", a file, a shipped
    profile's name, "preset 24gb" or "default". It is empty if no profile was loaded.
    """

    grid: GridSection = setting(
        GridSection(), "Shape of the grid, which is one image of many frames."
    )
    model: ModelSection = setting(ModelSection(), "Base model, and the adapter on top of it.")
    memory: MemorySection = setting(MemorySection(), "How the model fits into memory.")
    pack: PackSection = setting(PackSection(), "Videos and folders of frames → grid images.")
    unpack: UnpackSection = setting(UnpackSection(), "Grid images → clips or frames.")
    caption: CaptionSection = setting(CaptionSection(), "Grid images → captions.")
    train: TrainSection = setting(TrainSection(), "Captioned grids → a LoRA adapter.")
    generate: GenerateSection = setting(GenerateSection(), "Prompts → clips and images.")
    bench: BenchSection = setting(BenchSection(), "Benchmarks.")
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def is_set(self, key: str) -> bool:
        """Whether a flag, a file or a preset sets a dotted key."""
        return self.origins.get(key, "default") != "default"

    def is_flag(self, key: str) -> bool:
        """Whether a flag sets a dotted key."""
        return self.origins.get(key) == "flag"

    def with_values(self, values: Mapping[str, Any], *, as_flags: bool = False) -> Profile:
        """The profile with other values by dotted key, which are not checked.

        `as_flags` gives them the weight of flags.
        """
        sections: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = value
        changed = {name: replace(getattr(self, name), **keys) for name, keys in sections.items()}
        origins = {**self.origins, **(dict.fromkeys(values, "flag") if as_flags else {})}
        return replace(self, **changed, origins=origins)


def find_setting(key: str) -> Setting:
    """The row of a dotted key, such as generate.steps. Raises KeyError if there is none."""
    rows = {
        f"{section.key}.{row.key}": row
        for section in settings_of(Profile)
        for row in settings_of(section.kind)
    }
    return rows[key]
