"""A profile as a whole, and `[bench]`."""

from __future__ import annotations

from pydantic import Field

from gridctl.profile.schema.caption import CaptionSection
from gridctl.profile.schema.generate import GenerateSection
from gridctl.profile.schema.grid import GridSection
from gridctl.profile.schema.model import MemorySection, ModelSection
from gridctl.profile.schema.pack import PackSection
from gridctl.profile.schema.section import Section
from gridctl.profile.schema.train import TrainSection
from gridctl.profile.schema.unpack import UnpackSection
from gridctl.profile.values import Count


class BenchSection(Section):
    """Benchmarks."""

    repeats: Count = Field(
        default=5, description="Runs of each measurement. The median is reported."
    )


class Profile(Section):
    """One frozen profile: what every command takes its values from."""

    grid: GridSection = Field(
        default=GridSection(), description="Shape of the grid, which is one image of many frames."
    )
    model: ModelSection = Field(
        default=ModelSection(), description="Base model, and the adapter on top of it."
    )
    memory: MemorySection = Field(
        default=MemorySection(), description="How the model fits into memory."
    )
    pack: PackSection = Field(
        default=PackSection(), description="Videos and folders of frames → grid images."
    )
    unpack: UnpackSection = Field(
        default=UnpackSection(), description="Grid images → clips or frames."
    )
    caption: CaptionSection = Field(default=CaptionSection(), description="Grid images → captions.")
    train: TrainSection = Field(
        default=TrainSection(), description="Captioned grids → a LoRA adapter."
    )
    generate: GenerateSection = Field(
        default=GenerateSection(), description="Prompts → clips and images."
    )
    bench: BenchSection = Field(default=BenchSection(), description="Benchmarks.")
