"""`[generate]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gridctl.profile.schema.section import Section
from gridctl.profile.values import Cell, Count, Fps, Fraction, Seed


class GenerateSection(Section):
    """A prompt → a clip."""

    steps: Count = Field(
        default=20, description="Number of sampling steps. More are slower and cleaner."
    )
    guidance: Annotated[float, Field(ge=0, le=100)] = Field(
        default=3.5,
        description="Guidance scale for guidance-distilled models (FLUX.1-dev: 3.5). Models "
        "without it, such as FLUX.1-schnell and tiny, do not use it.",
    )
    true_cfg_scale: Annotated[float, Field(ge=1, le=100)] = Field(
        default=1.0,
        description="Classifier-free guidance scale. 1 disables it. Other values double the time "
        "per step. For models that are not guidance-distilled, such as tiny.",
    )
    true_cfg_max_sigma: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="Largest noise level (sigma, 0 to 1) at which true_cfg_scale is used. 1 is "
        "always.",
    )
    stochastic_min_sigma: Fraction = Field(
        default=1.0,
        description="Smallest noise level (sigma, 0 to 1) at which a step adds fresh noise. It "
        "lets the sampler correct early errors. 1 is never, 0 is in every step.",
    )
    average_max_sigma: Fraction = Field(
        default=0.0,
        description="Largest noise level (sigma, 0 to 1) at which the predictions of successive "
        "stochastic steps are averaged. It makes clips steadier. 0 is off.",
    )
    resample: Annotated[int, Field(ge=1, le=100)] = Field(
        default=1,
        description="How often each sampling step is repeated to make drawn frames meet kept ones "
        "(time travel). 1 is off; 2 doubles the time. For adapters that were not trained with "
        "clean cells.",
    )
    edit_strength: Fraction = Field(
        default=0.9,
        description="Share of the sampling steps that `generate edit` runs, the last ones. Less "
        "keeps more of the clip.",
    )
    edit_guidance: Annotated[float, Field(ge=0, le=100)] = Field(
        default=5.5,
        description="Guidance scale of the new prompt in `generate edit`. It replaces "
        "true_cfg_scale where that is set, otherwise guidance. Higher values change more.",
    )
    edit_source_guidance: Annotated[float, Field(ge=0, le=100)] = Field(
        default=1.5,
        description="Guidance scale of the source prompt, which says what the clip shows; used "
        "like edit_guidance.",
    )
    restore_strength: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.3,
        description="Noise level (sigma) from which `generate restore` draws a clip again. More "
        "removes more noise, and more detail.",
    )
    fast: bool = Field(
        default=False,
        description="Sample faster: skip blocks that hardly change (FirstBlockCache), or take 0.6 "
        "of the steps where steps add fresh noise (stochastic_min_sigma below 1).",
    )
    compile: bool = Field(
        default=False,
        description="Compile the transformer's blocks (torch.compile): up to a minute once, then "
        "less time a grid. Needs a C++ compiler.",
    )
    seed: Seed = Field(
        default=0, description="Random seed. The n-th of several prompts uses seed + n - 1."
    )
    fps: Fps = Field(
        default=8.0, description="Frames per second of a clip, if the adapter does not say."
    )
    size: Cell = Field(
        default=(1024, 1024),
        description="Size of a single image in pixels, WIDTHxHEIGHT; both multiples of 16.",
    )
    max_mu: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None,
        description="Limit of the schedule's time shift (mu), which grows with the size of the "
        "grid. Unset is no limit.",
    )
