"""docs/profiles.md says what the schema says."""

from pathlib import Path

import pytest

import gridctl
from gridctl.profile import Profile, find_setting, values_of
from gridctl.profile.document import profile_page, type_in_words

PAGE = Path(gridctl.__file__).parent.parent / "docs" / "profiles.md"


def test_the_page_is_up_to_date() -> None:
    command = "python -m gridctl.profile.document docs/profiles.md"
    assert PAGE.read_text(encoding="utf-8") == profile_page(), f"run {command}"


def test_the_page_has_every_key() -> None:
    page = profile_page()
    assert all(f"| `{key.partition('.')[2]}` |" in page for key, _ in values_of(Profile()))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("grid.rows", "whole number, 1 or more"),
        ("grid.cell", "`WIDTHxHEIGHT`"),
        ("grid.order", "`row-major` or `serpentine`"),
        ("memory.gradient_checkpointing", "true or false"),
        ("pack.quality", "whole number, 1 to 100"),
        ("pack.end", "seconds, or text such as `1:02:03.5`"),
        ("caption.timeout_seconds", "number of seconds, above 0"),
        ("pack.workers", "whole number, 1 to 4,096"),
        ("train.data", "path"),
        ("train.preview_prompts", "list of text"),
        ("caption.request", "table"),
        ("train.ema", "number, 0 and below 1"),
        (
            "train.keep_patterns",
            "list of `first`, `last`, `ends`, `head`, `every`, `column` or `few`",
        ),
        ("train.stage", "array of tables"),
        ("generate.true_cfg_max_sigma", "number, above 0 to 1"),
    ],
)
def test_types_and_limits_in_words(key: str, words: str) -> None:
    assert type_in_words(find_setting(key)) == words
