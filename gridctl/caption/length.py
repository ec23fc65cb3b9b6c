"""How many tokens a caption has: what T5 and CLIP read of it.

Counted with the base model's own tokenizers where they are on this machine; else estimated,
and on the safe side: rather too many tokens than a caption that is cut off in training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gridctl.errors import GridctlError
from gridctl.machine.models import local_base

T5_TOKENS, CLIP_TOKENS = 512, 77  # FLUX.1's


def estimate_tokens(text: str) -> int:
    """An upper estimate for prose: a token for three letters, and for each sign."""
    count = 2  # begin and end
    for word in re.findall(r"[A-Za-z]+|\S", text):
        count += -(-len(word) // 3)
    return count


@dataclass(frozen=True, kw_only=True)
class TextLimits:
    """How many tokens the text encoders read, and how they count."""

    t5_tokens: int = T5_TOKENS
    clip_tokens: int = CLIP_TOKENS
    count_t5: Callable[[str], int] = estimate_tokens
    count_clip: Callable[[str], int] = estimate_tokens

    def fits_t5(self, text: str) -> bool:
        return self.count_t5(text) <= self.t5_tokens

    def fits_clip(self, text: str) -> bool:
        return self.count_clip(text) <= self.clip_tokens


def text_limits(
    base: str | None = None, *, revision: str | None = None, text_tokens: int | None = None
) -> TextLimits:
    """The limits of a base model: the built-in one, a folder, or a Hub id in the cache.

    Nothing is downloaded. `text_tokens` is the profile's, and goes before the base's own.
    """
    t5 = _find(base, revision, "tokenizer_2/tokenizer.json")
    clip = _find(base, revision, "tokenizer/tokenizer.json")
    config = _find(base, revision, "tokenizer_2/tokenizer_config.json")
    own = T5_TOKENS
    if config:
        own = min(own, int(json.loads(config.read_text("utf-8")).get("model_max_length", own)))
    return TextLimits(
        t5_tokens=text_tokens or own,
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
