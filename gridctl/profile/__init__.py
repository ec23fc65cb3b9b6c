"""Profiles: TOML files and flags → one frozen Profile, checked as a whole."""

from gridctl.profile.load import (
    LoadedProfile,
    load_profile,
    resolve_profile,
    shipped_profiles,
)
from gridctl.profile.schema import (
    BUILT_IN,
    BUILT_IN_ADAPTER,
    BenchSection,
    CaptionSection,
    GenerateSection,
    GridSection,
    KeepPattern,
    MemorySection,
    ModelSection,
    PackSection,
    Profile,
    StageSection,
    TrainSection,
)
from gridctl.profile.text import profile_toml, values_of, without_folder
from gridctl.profile.write import show_lines, starter_toml

__all__ = [
    "BUILT_IN",
    "BUILT_IN_ADAPTER",
    "BenchSection",
    "CaptionSection",
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
    "load_profile",
    "profile_toml",
    "resolve_profile",
    "shipped_profiles",
    "show_lines",
    "starter_toml",
    "values_of",
    "without_folder",
]
