"""The studio: a base model with its adapter, loaded to draw the shots of one drawing.

Its parts are loaded one after the other. The text encoders go before the transformer comes:
FLUX.1's T5 takes 9.5 GB, and the transformer needs the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from gridctl.flux.adapter import apply_adapter
from gridctl.flux.base import BaseModel, open_base
from gridctl.flux.conditioning import Conditioning
from gridctl.flux.latents import decode_frames, split_cells
from gridctl.flux.plan import Plan
from gridctl.flux.sampler import Denoiser, Sampling, draw_noise, sample
from gridctl.generate.drawing import Drawing
from gridctl.generate.remarks import remarks_on_prompt, remarks_on_settings
from gridctl.media.images import Frames


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A loaded model; `prompts` are encoded, the empty one among them.

    `on_step` is called after each sampling step. `notes` are remarks on the prompts.
    """

    base: BaseModel
    transformer: Any
    vae: Any
    prompts: dict[str, Conditioning]
    sampling: Sampling
    decode_batch: int
    on_step: Callable[[], None]
    notes: tuple[str, ...] = ()

    def draw(self, plan: Plan, prompt: str, seed: int) -> Frames:
        """Draw a grid: its frames (F, H, W, 3), in order."""
        generator = torch.Generator().manual_seed(seed)
        noise = draw_noise(plan, self.base.latent_channels, generator).to(self.base.device)
        denoise = Denoiser(
            transformer=self.transformer,
            prompt=self.prompts[prompt],
            empty=self.prompts[""],
            sampling=self.sampling,
        )
        latents = sample(
            denoise, plan, noise=noise, generator=generator, on_step=lambda *_: self.on_step()
        )
        return decode_frames(self.vae, split_cells(latents, plan.grid)[0], batch=self.decode_batch)


@contextmanager
def open_studio(drawing: Drawing, on_step: Callable[[], None]) -> Iterator[Studio]:
    """Encode the prompts of a drawing, then load what draws them."""
    profile = drawing.profile
    base = open_base(profile)
    texts = dict.fromkeys([*(shot.prompt for shot in drawing.shots), ""])
    with base.text_encoders(profile.model.text_tokens) as encode, torch.inference_mode():
        notes = [
            note
            for text in texts
            for note in remarks_on_prompt(encode, text, base.name, learned=drawing.learned)
        ]
        prompts = {text: encode([text]) for text in texts}
    del encode
    transformer = base.load_transformer()
    notes += remarks_on_settings(profile, has_guidance=not base.is_distilled)
    if drawing.adapter:
        apply_adapter(transformer, drawing.adapter, scale=profile.model.adapter_scale)
    tokens = drawing.plan.grid.num_tokens
    with base.vae() as vae:
        yield Studio(
            base=base,
            transformer=transformer,
            vae=vae,
            prompts=prompts,
            sampling=Sampling.from_profile(profile.generate, base.scheduler_config, tokens),
            decode_batch=profile.memory.decode_batch,
            on_step=on_step,
            notes=tuple(dict.fromkeys(notes)),
        )
