from pathlib import Path

import pytest

from gridctl.errors import GridctlError
from gridctl.models.family import TokenLimit, estimate_tokens
from gridctl.tiny.weights import BASE_FOLDER

TOKENIZER = BASE_FOLDER / "tokenizer_2" / "tokenizer.json"


@pytest.mark.parametrize(
    ("text", "at_least"),  # counts of FLUX.1's T5 tokenizer, a special token included
    [("a red circle", 4), ("A photograph.", 4), ("incomprehensibilities", 5), ("1999", 2)],
)
def test_the_estimate_is_on_the_safe_side(text: str, at_least: int) -> None:
    assert estimate_tokens(text) >= at_least


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 2), ("abc", 3), ("abcd", 4), ("a red, b!", 7), ("12 ab", 5)]
)
def test_the_estimate_by_hand(text: str, tokens: int) -> None:
    """Two special tokens, one per three letters of a word, and one per other character."""
    assert estimate_tokens(text) == tokens


def test_without_a_tokenizer_tokens_are_estimated() -> None:
    limit = TokenLimit(encoder="T5", tokens=4)
    assert limit.count("a red circle") == estimate_tokens("a red circle") == 6
    assert (limit.fits("a red"), limit.fits("a red b")) == (True, False)
    assert limit.unread("a red circle moves far away") == ""  # nobody knows


def test_a_limit_counts_with_its_tokenizer_alone() -> None:
    """The padding and truncation that a tokenizer.json may ask for are off."""
    limit = TokenLimit(encoder="T5", tokens=40, file=TOKENIZER)
    assert limit.count("a red circle") == 4
    assert limit.count("circle " * 100) == 101
    assert limit.fits("circle " * 39)
    assert not limit.fits("circle " * 40)


def test_words_that_are_cut_off_are_named_as_they_were_written() -> None:
    limit = TokenLimit(encoder="T5", tokens=4, file=TOKENIZER)
    assert limit.unread("a red circle") == ""  # 4 with the end token
    assert limit.unread("a red circle Moves, slowly") == "Moves, slowly"
    assert limit.unread("a red circle moves") == "moves"
    assert TokenLimit(encoder="T5", tokens=3, file=TOKENIZER).unread("a red circle") == "circle"


def test_a_limit_reads_as_a_phrase() -> None:
    assert f"the {TokenLimit(encoder='T5', tokens=512)}" == "the 512 tokens that T5 reads"


def test_a_broken_tokenizer_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(GridctlError, match="is not a tokenizer") as error:
        TokenLimit(encoder="T5", tokens=4, file=path).count("a")
    assert "\n" not in str(error.value)
