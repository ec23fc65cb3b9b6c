"""The language lesson of pretraining: what the text encoders should know of a prompt.

FLUX.1's T5 and CLIP have read about motion long before an adapter shows them a clip. The built-in
encoders would know only the words of stills, and an adapter, which is trained with frozen
encoders, could not separate `moving left` from `moving right`. So small heads learn to read what
prompts of clips mean from T5's states and CLIP's vector. These are texts without pictures; the
transformer sees nothing of time. The heads are discarded afterwards.

The transformer never sees layout prompts in pretraining. T5's states of them do no harm, but they
move CLIP's one vector out of the range that the transformer knows: for one prompt in ten it then
draws only noise, and an adapter cannot repair that. So, when the base is done, CLIP learns to give
a prompt the vector of its content alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gridctl.geometry import Grid
from gridctl.models.flux1 import TextEncoders
from gridctl.prompt import LAYOUTS, grid_prompt
from gridctl.tiny.captions import clip_caption, still_caption
from gridctl.tiny.scene import TURN, Scene, sample_scene
from gridctl.tiny.words import MOTIONS
from tiny_model.hints import LOOKS
from tiny_model.model import POOLED_WIDTH, TEXT_WIDTH

TEXTS = 32  # prompts per step of the lesson
REPEATED = 12  # prompts per step of the base, so that it is not forgotten
LESSON_STEPS = 3000
CALM_STEPS = 3000
FRESH = 500  # prompts that measure it
RATE = 2e-3
LAYOUT_SHARE = 0.7  # of them that begin with a layout prompt
STILL_SHARE = 0.2  # of those of calm_vector: captions of stills, whose vector must stay
PROMPT_GRIDS = ((4, 6), (3, 4), (2, 3), (2, 2), (4, 4))
# Attribute of a scene → its names; what is read is one name of each.
NAMES = {**LOOKS, "motion": (*MOTIONS, TURN)}


class MeaningHead(nn.Module):
    """Heads that read a scene's attributes from each state of T5 and from CLIP's vector."""

    def __init__(self) -> None:
        super().__init__()
        width = sum(len(names) for names in NAMES.values())
        self.states = nn.Linear(TEXT_WIDTH, width)
        self.pooled = nn.Linear(POOLED_WIDTH, width)

    def loss(self, text: TextEncoders, *, seed: int, step: int, texts: int = REPEATED) -> Tensor:
        """Cross entropy, mean over attributes and both encoders, of the prompts of one step."""
        prompts, scenes = draw_prompts(texts, seed=seed, step=step)
        encoded = text(prompts)
        states = self.states(encoded["embeds"])  # (B, L, names)
        seen = torch.cat([states, self.pooled(encoded["pooled"])[:, None].expand_as(states)])
        losses = []
        parts = seen.split([len(names) for names in NAMES.values()], dim=-1)
        for (attribute, names), logits in zip(NAMES.items(), parts, strict=True):
            right = torch.tensor([names.index(getattr(scene, attribute)) for scene in scenes])
            target = right.to(logits.device).repeat(2)[:, None].expand(logits.shape[:2])
            losses.append(F.cross_entropy(logits.flatten(0, 1), target.flatten()))
        return torch.stack(losses).mean()


def teach_words(
    text: TextEncoders, head: MeaningHead, *, steps: int, seed: int, log: Callable[[str], None]
) -> None:
    """Train both encoders in place, from texts alone, before they see a picture."""
    parameters = dict.fromkeys(
        parameter for model in (text.clip, text.t5, head) for parameter in model.parameters()
    )
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.99))
    for step in range(steps):
        loss = head.loss(text, seed=seed + 1, step=step, texts=TEXTS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 250 == 0:
            log(f"words step {step + 1}/{steps} loss {loss.item():.3f}")


def calm_vector(text: TextEncoders, *, steps: int, seed: int, log: Callable[[str], None]) -> float:
    """Train CLIP in place, so that a layout prompt before the content does not move its vector.

    Returns the rest on fresh prompts: the mean squared distance from the vector of the content
    alone, as a share of the variance of such vectors.
    """
    taught = copy.deepcopy(text)
    optimizer = torch.optim.AdamW(text.clip.parameters(), lr=RATE / 2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for step in range(steps):
        loss = _vector_distance(text, taught, np.random.default_rng([seed, step, 2]), TEXTS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 500 == 0:
            log(f"CLIP's vector step {step + 1}/{steps} loss {loss.item():.4f}")
    with torch.no_grad():
        left = _vector_distance(text, taught, np.random.default_rng([seed, steps, 2]), FRESH)
    return round(left.item(), 5)


def _vector_distance(
    text: TextEncoders, taught: TextEncoders, rng: np.random.Generator, count: int
) -> Tensor:
    prompts, contents = [], []
    for _ in range(count):
        scene = sample_scene(rng)
        words = (clip_caption, still_caption)[int(rng.random() < STILL_SHARE)]
        content = words(scene, rng)
        grid = Grid(rows=int(rng.integers(1, 9)), cols=int(rng.integers(1, 9)), cell=(64, 64))
        has_layout = rng.random() < LAYOUT_SHARE
        layout = str(rng.choice([name for name, template in LAYOUTS.items() if template]))
        prompts.append(grid_prompt(grid, content, LAYOUTS[layout]) if has_layout else content)
        contents.append(content)
    with torch.no_grad():
        wanted = taught.pooled(contents)
    return F.mse_loss(text.pooled(prompts), wanted) / wanted.var(0).mean()


def draw_prompts(count: int, *, seed: int, step: int) -> tuple[list[str], list[Scene]]:
    """Prompts of clips, worded as `caption` and `generate` do, and their scenes."""
    rng = np.random.default_rng([seed, step, 1])  # draw_batch has [seed, step]
    prompts, scenes = [], []
    for _ in range(count):
        scene = sample_scene(rng)
        content = clip_caption(scene, rng)
        if rng.random() < LAYOUT_SHARE:
            rows, cols = PROMPT_GRIDS[int(rng.integers(len(PROMPT_GRIDS)))]
            layout = LAYOUTS["video" if rng.random() < 0.7 else "turn"]
            content = grid_prompt(Grid(rows=rows, cols=cols, cell=(64, 64)), content, layout)
        prompts.append(content)
        scenes.append(scene)
    return prompts, scenes
