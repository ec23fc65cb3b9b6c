"""What the text encoders should know of a prompt: the language lesson of pretraining.

FLUX.1's T5 and CLIP have read of things that move long before an adapter shows them a clip.
The built-in ones would know the words of stills alone, and an adapter, for which they are
frozen, could not tell `moving left` from `moving right`. So small heads have to tell from T5's
states and from CLIP's vector what prompts of clips mean. These are texts without pictures: of
time the transformer sees nothing. The heads are thrown away afterwards.

Layout prompts are met by T5 and CLIP, and never by the transformer. T5's states of them do no
harm, but CLIP has one vector for all, which they move to where the transformer has never been:
at one prompt in ten it then draws nothing but noise, and an adapter cannot mend that. So, when
the base is done, CLIP learns to say of a prompt what it says of its content alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gridctl.flux.text import TextEncoders
from gridctl.geometry import Grid
from gridctl.prompt import LAYOUTS, grid_prompt
from gridctl.toyworld.captions import clip_caption, still_caption
from gridctl.toyworld.pretrain.hints import LOOKS
from gridctl.toyworld.pretrain.model import POOLED_WIDTH, TEXT_WIDTH
from gridctl.toyworld.scene import TURN, Scene, sample_scene
from gridctl.toyworld.words import MOTIONS

TEXTS = 32  # a step of the lesson
REPEATED = 12  # a step of the base: lest it is forgotten
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
    """Reads a scene's attributes off each state of T5, and off CLIP's vector."""

    def __init__(self) -> None:
        super().__init__()
        width = sum(len(names) for names in NAMES.values())
        self.states = nn.Linear(TEXT_WIDTH, width)
        self.pooled = nn.Linear(POOLED_WIDTH, width)

    def loss(self, text: TextEncoders, *, seed: int, step: int, texts: int = REPEATED) -> Tensor:
        """Cross entropy, mean over attributes and both encoders, of the prompts of one step."""
        prompts, scenes = draw_prompts(texts, seed=seed, step=step)
        encoded = text(prompts)
        states = self.states(encoded.embeds)  # (B, L, names)
        seen = torch.cat([states, self.pooled(encoded.pooled)[:, None].expand_as(states)])
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
    """The lesson: both encoders in place, from texts alone, before they see a picture."""
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
    """CLIP in place: a layout before the content no longer moves its vector.

    Returns what is left, on fresh prompts: the mean squared distance from the vector of the
    content alone, as a share of the variance of such vectors.
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
        wanted = taught.vector(contents)
    return F.mse_loss(text.vector(prompts), wanted) / wanted.var(0).mean()


def draw_prompts(count: int, *, seed: int, step: int) -> tuple[list[str], list[Scene]]:
    """Prompts of clips, as `caption` and `generate` word them, and the scenes they describe."""
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
