"""Profiles: TOML files and flags → one frozen Profile, checked as a whole."""

from gridctl.profile.check import parse_section
from gridctl.profile.data import (
    DEFAULT_VLM,
    CaptionSection,
    GridSection,
    PackSection,
    UnpackSection,
)
from gridctl.profile.load import (
    LoadedProfile,
    load_profile,
    parse_flags,
    resolve_profile,
    shipped_profiles,
    unused_settings,
)
from gridctl.profile.model import (
    BUILT_IN,
    BUILT_IN_ADAPTER,
    OPTIMIZERS,
    PRESETS,
    BenchSection,
    GenerateSection,
    MemorySection,
    ModelSection,
)
from gridctl.profile.profile import Profile, find_setting
from gridctl.profile.toml import (
    profile_toml,
    show_lines,
    starter_toml,
    toml_value,
    values_of,
    without_folder,
)
from gridctl.profile.training import KeepPattern, StageSection, TrainSection

__all__ = [
    "BUILT_IN",
    "BUILT_IN_ADAPTER",
    "DEFAULT_VLM",
    "OPTIMIZERS",
    "PRESETS",
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
    "UnpackSection",
    "find_setting",
    "load_profile",
    "parse_flags",
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
