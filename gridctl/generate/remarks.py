"""Remarks: what a user should know about a prompt or a setting before trusting the result."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from gridctl.models.length import built_in_vocabulary, unknown_words
from gridctl.profile import BUILT_IN, Profile
from gridctl.tiny.words import prompt_remarks

if TYPE_CHECKING:
    from gridctl.models.text import Tokenizers

# The guidance scales that the built-in base was trained with (tiny/pretrain/base.py), and the
# classifier-free guidance that it was tried with (docs/lab/).
_GUIDANCE = (1.0, 5.0)
_TRUE_CFG = (1.0, 4.0)


def remarks_on_prompt(
    tokenizers: Tokenizers, prompt: str, base: str, *, learned: Collection[str] = ()
) -> Iterator[str]:
    """Words that the model does not read or never learned; `learned` are the adapter's."""
    if lost := tokenizers.lost_words(prompt):
        yield f"the prompt is cut after {tokenizers.text_tokens} tokens; not read: {lost}"
    if base == BUILT_IN:
        unknown = [word for word in tokenizers.unknown_words(prompt) if word.lower() not in learned]
        yield from prompt_remarks(prompt, unknown)


def remarks_before_loading(
    profile: Profile, prompts: Iterable[str], *, learned: Collection[str] = ()
) -> Iterator[str]:
    """What can be said before a model is loaded: of prompts for the built-in one."""
    if profile.model.base != BUILT_IN:
        return
    vocabulary = built_in_vocabulary()
    for prompt in dict.fromkeys(prompts):
        unknown = unknown_words(vocabulary, prompt)
        yield from prompt_remarks(prompt, [w for w in unknown if w.lower() not in learned])
    yield from remarks_on_settings(profile, has_guidance=True)


def remarks_on_settings(profile: Profile, *, has_guidance: bool) -> Iterator[str]:
    """Guidance that the base was not trained for; `has_guidance` says whether it reads any."""
    settings = profile.generate
    if profile.model.base == BUILT_IN:
        low, high = _GUIDANCE
        if not low <= settings.guidance <= high:
            yield (
                f"guidance {settings.guidance:g} is outside {low:g} to {high:g}, where the "
                "built-in model was trained, and may draw plain gray; use --true-cfg-scale instead."
            )
        low, high = _TRUE_CFG
        if settings.true_cfg_scale > high:
            yield (
                f"true_cfg_scale {settings.true_cfg_scale:g} is above {high:g}; the built-in model "
                "is best at 1.5."
            )
    elif not has_guidance and settings.guidance:
        yield (
            f"{profile.model.base} reads no guidance scale, so guidance {settings.guidance:g} "
            "changes nothing."
        )
