"""Profiles: TOML files and flags → one frozen Profile, checked as a whole."""

from gridctl.profile.check import parse_section
from gridctl.profile.load import (
    LoadedProfile,
    load_profile,
    resolve_profile,
    shipped_profiles,
    unused_settings,
)
from gridctl.profile.sections import (
    DEFAULT_VLM,
    BenchSection,
    CaptionSection,
    EngineSection,
    GenerateSection,
    GridSection,
    PackSection,
    Profile,
    UnpackSection,
    find_setting,
)
from gridctl.profile.toml import (
    profile_toml,
    show_lines,
    starter_toml,
    toml_value,
    values_of,
    without_folder,
)
from gridctl.profile.training import (
    BUILT_IN,
    BUILT_IN_ADAPTER,
    PRESETS,
    KeepPattern,
    MemorySection,
    ModelSection,
    StageSection,
    TrainSection,
)

__all__ = [
    "BUILT_IN",
    "BUILT_IN_ADAPTER",
    "DEFAULT_VLM",
    "PRESETS",
    "BenchSection",
    "CaptionSection",
    "EngineSection",
    "GenerateSection",
    "GridSection",
    "KeepPattern",
    "LoadedProfile",
    "MemorySection",
    "ModelSection",
    "PackSection",
    "Profile",
    "StageSection",
    "TrainSection",
    "UnpackSection",
    "find_setting",
    "load_profile",
    "parse_section",
    "profile_toml",
    "resolve_profile",
    "shipped_profiles",
    "show_lines",
    "starter_toml",
    "toml_value",
    "unused_settings",
    "values_of",
    "without_folder",
]
