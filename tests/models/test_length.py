from pathlib import Path

import pytest

from gridctl.errors import GridctlError
from gridctl.models.length import TextLimits, estimate_tokens, text_limits
from gridctl.profile import Profile, load_profile
from gridctl.tiny.weights import BASE_FOLDER


def limits_of(base: str, **model: object) -> TextLimits:
    values = {"model.base": base} | {f"model.{key}": value for key, value in model.items()}
    return text_limits(load_profile(None, values).profile)


def test_without_a_base_model_tokens_are_estimated_for_flux() -> None:
    limits = text_limits(Profile())
    assert (limits.t5_tokens, limits.clip_tokens) == (512, 77)
    assert limits.count_t5 is estimate_tokens


@pytest.mark.parametrize(
    ("text", "at_least"),  # counts of FLUX.1's T5 tokenizer, a special token included
    [("a red circle", 4), ("A photograph.", 4), ("incomprehensibilities", 5), ("1999", 2)],
)
def test_the_estimate_is_on_the_safe_side(text: str, at_least: int) -> None:
    assert estimate_tokens(text) >= at_least


def test_the_built_in_base_counts_with_its_own_tokenizers() -> None:
    limits = limits_of("tiny")
    assert (limits.t5_tokens, limits.clip_tokens) == (40, 77)
    assert limits.count_t5("a red circle") == 4
    assert limits.count_clip("a red circle") == 5
    assert (
        limits.count_t5("circle " * 100) == 101
    )  # the tokenizer's own padding and truncation are off
    assert limits.fits_t5("circle " * 39)
    assert not limits.fits_t5("circle " * 40)


def test_a_folder_is_a_base_model_and_the_profile_s_limit_wins() -> None:
    limits = limits_of(str(BASE_FOLDER), text_tokens=32)
    assert limits.t5_tokens == 32
    assert limits.count_t5("a red circle") == 4


def test_a_missing_base_model_is_estimated_and_not_downloaded() -> None:
    assert limits_of("nobody/nothing") == TextLimits()
    assert limits_of("not a model: at all") == TextLimits()


def test_a_broken_tokenizer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_2").mkdir()
    (tmp_path / "tokenizer_2/tokenizer.json").write_text("{}")
    with pytest.raises(GridctlError, match="is no tokenizer"):
        limits_of(str(tmp_path))
