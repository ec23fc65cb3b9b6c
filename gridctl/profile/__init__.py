"""Profiles: TOML files and flags → one frozen Profile, checked as a whole."""

from gridctl.profile.load import (
    LoadedProfile,
    find_profile,
    load_profile,
    resolve_profile,
    shipped_profiles,
)
from gridctl.profile.machine import Fit, machine_fit, this_machine
from gridctl.profile.schema import (
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
from gridctl.profile.token import hub_token
from gridctl.profile.write import profile_toml, show_lines, starter_toml, values_of, without_folder

__all__ = [
    "BenchSection",
    "CaptionSection",
    "Fit",
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
    "find_profile",
    "hub_token",
    "load_profile",
    "machine_fit",
    "profile_toml",
    "resolve_profile",
    "shipped_profiles",
    "show_lines",
    "starter_toml",
    "this_machine",
    "values_of",
    "without_folder",
]
