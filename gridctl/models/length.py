"""How many tokens a caption has, and how many of them T5 and CLIP read.

The base model's own tokenizers count, if they are on this machine. Otherwise tokens are
estimated, rather too many than too few, so that training never cuts a caption off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gridctl.errors import GridctlError
from gridctl.machine.hub import local_base
from gridctl.profile import Profile

T5_TOKENS, CLIP_TOKENS = 512, 77  # FLUX.1's


def estimate_tokens(text: str) -> int:
    """An upper estimate for prose: one token per three letters and per other character."""
    count = 2  # start and end tokens
    for word in re.findall(r"[A-Za-z]+|\S", text):
        count += -(-len(word) // 3)
    return count


@dataclass(frozen=True, kw_only=True)
class TextLimits:
    """How many tokens the text encoders read, and how to count them."""

    t5_tokens: int = T5_TOKENS
    clip_tokens: int = CLIP_TOKENS
    count_t5: Callable[[str], int] = estimate_tokens
    count_clip: Callable[[str], int] = estimate_tokens

    def fits_t5(self, text: str) -> bool:
        return self.count_t5(text) <= self.t5_tokens

    def fits_clip(self, text: str) -> bool:
        return self.count_clip(text) <= self.clip_tokens


def text_limits(profile: Profile) -> TextLimits:
    """The limits of the profile's base model, if its tokenizers are on this machine.

    Nothing is downloaded. A profile that names no base model gets FLUX.1's limits, because
    its captions may be trained on any. Raises GridctlError for a broken tokenizer.
    """
    model = profile.model
    base = model.base if profile.is_set("model.base") else None
    t5 = _find(base, model.revision, "tokenizer_2/tokenizer.json")
    clip = _find(base, model.revision, "tokenizer/tokenizer.json")
    config = _find(base, model.revision, "tokenizer_2/tokenizer_config.json")
    limit = T5_TOKENS
    if config:
        limit = min(
            limit, int(json.loads(config.read_text("utf-8")).get("model_max_length", limit))
        )
    return TextLimits(
        t5_tokens=model.text_tokens or limit,
        count_t5=_counter(t5) if t5 else estimate_tokens,
        count_clip=_counter(clip) if clip else estimate_tokens,
    )


def _find(base: str | None, revision: str | None, name: str) -> Path | None:
    """A file of a base model, if it is on this machine."""
    folder = local_base(base, revision) if base else None
    return folder / name if folder and (folder / name).is_file() else None


def _counter(path: Path) -> Callable[[str], int]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise GridctlError(
            f"{path} is no tokenizer ({error}); download the model again."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text).ids)
