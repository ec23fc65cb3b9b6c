"""The vocabulary of the built-in model, and warnings about prompts and settings beyond it.

No other base needs this: their text encoders know all words.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from itertools import islice

from gridctl.tiny.weights import BASE_FOLDER
from gridctl.tiny.words import BACKGROUNDS, COLORS, SHAPES, SOLIDS, STYLE_WORDS

_MAX_NEW_WORDS = 100  # of an adapter's header

# The guidance scales that the base was trained with (examples/tiny_model), and the
# classifier-free guidance that it was tried with (docs/lab/).
_GUIDANCE = (1.0, 5.0)
_MAX_TRUE_CFG = 4.0

# Unknown words that do no harm: `moves right` is drawn as `moving right`. That is not so for grows,
# rises and others (docs/lab/2026-11-26-new-motion.md).
_HARMLESS = frozenset({"moves", "goes", "slides", "stands", "stays"})
_WORLD = "the built-in model's world"
_MORE = "`gridctl generate vocabulary` lists all words"


@cache
def _tokens() -> frozenset[str]:
    """The tokens of the base's T5."""
    from tokenizers import Tokenizer

    path = BASE_FOLDER / "tokenizer_2" / "tokenizer.json"
    return frozenset(Tokenizer.from_file(str(path)).get_vocab())


def unknown_words(text: str) -> list[str]:
    """Words of `text` that are no token of the base, each once; numbers are left out."""
    words = (word.strip(string.punctuation) for word in text.split())
    return [
        word
        for word in dict.fromkeys(words)
        if word and not word[0].isdigit() and f"▁{word.lower()}" not in _tokens()
    ]


def new_words(captions: Iterable[str]) -> tuple[str, ...]:
    """Words that captions teach the base, in lower case: for an adapter's header; at most 100."""
    found = (word.lower() for text in captions for word in unknown_words(text))
    return tuple(islice(dict.fromkeys(found), _MAX_NEW_WORDS))


def prompt_warnings(prompts: Iterable[str], taught_words: Collection[str] = ()) -> Iterator[str]:
    """Warn of unknown words and of colours that the world has elsewhere only.

    `taught_words` are those of the adapter's captions, in lower case.
    """
    for prompt in dict.fromkeys(prompts):
        words = (word for word in unknown_words(prompt) if word.lower() not in taught_words)
        if unknown := [word for word in words if word.lower() not in _HARMLESS]:
            yield (
                f"the built-in model never learned {', '.join(unknown)}. It draws "
                f"{', '.join(SHAPES + SOLIDS)}; {_MORE}. For anything else use FLUX.1: --profile "
                "flux-dev-24gb."
            )
        text = prompt.lower()
        grounds = (found for pattern in _GROUNDS for found in pattern.findall(text))
        for color in dict.fromkeys(ground for ground in grounds if ground in COLORS):
            yield (
                f"{color} is not a background of {_WORLD}; choose {', '.join(BACKGROUNDS)}. "
                f"{_MORE}."
            )
        for color in dict.fromkeys(_PAINT.findall(text)):
            yield (
                f"{color} is not a colour of a shape in {_WORLD}; choose {', '.join(COLORS)}. "
                f"{_MORE}."
            )


def settings_warnings(*, guidance: float, true_cfg_scale: float) -> Iterator[str]:
    """Warn of scales that the base was not trained or tried with."""
    low, high = _GUIDANCE
    if not low <= guidance <= high:
        yield (
            f"guidance {guidance:g} is outside {low:g} to {high:g}, where the built-in model was "
            "trained, and may draw plain gray; use --true-cfg-scale instead."
        )
    if true_cfg_scale > _MAX_TRUE_CFG:
        yield (
            f"true_cfg_scale {true_cfg_scale:g} is above {_MAX_TRUE_CFG:g}; the built-in model is "
            "best at 1.5."
        )


_GROUNDS = (
    re.compile(r"\b(?:on(?: an?)?|background is) (\w+)\b"),
    re.compile(r"\b(\w+) background\b"),
)
_STYLE = "|".join(STYLE_WORDS)
_PAINT = re.compile(
    rf"\b({'|'.join(BACKGROUNDS)}) (?:(?:{_STYLE}) )?(?:{'|'.join(SHAPES + SOLIDS)})\b"
)
