"""What a profile may say: every section, every key, its type, its limits and its default.

The models are frozen and refuse unknown keys. Values are checked strictly: `"4"` is not a
number. Paths are relative to the current folder, as in flags, and may start with `~`. Only
`extends` is relative to the file it stands in. This is the one place that holds defaults.
"""

from gridctl.profile.schema.caption import DEFAULT_VLM, CaptionSection
from gridctl.profile.schema.generate import GenerateSection
from gridctl.profile.schema.grid import GridSection
from gridctl.profile.schema.model import (
    BUILT_IN,
    BUILT_IN_ADAPTER,
    MemorySection,
    ModelSection,
)
from gridctl.profile.schema.pack import PackSection
from gridctl.profile.schema.profile import BenchSection, Profile
from gridctl.profile.schema.section import Section
from gridctl.profile.schema.train import KeepPattern, StageSection, TrainSection

__all__ = [
    "BUILT_IN",
    "BUILT_IN_ADAPTER",
    "DEFAULT_VLM",
    "BenchSection",
    "CaptionSection",
    "GenerateSection",
    "GridSection",
    "KeepPattern",
    "MemorySection",
    "ModelSection",
    "PackSection",
    "Profile",
    "Section",
    "StageSection",
    "TrainSection",
]
