import codecs
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.text import decode, encodable, is_encodable, lines, normal_form, parse_json
from tests.hostile import no_hang

LINES = "a.mp4\r\nbär.mp4\n"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
    ],
)
def test_every_encoding_that_windows_tools_write_is_read(mark: bytes, encoding: str) -> None:
    assert decode(mark + LINES.encode(encoding)) == LINES


@pytest.mark.parametrize("data", [b"a.mp4\0b\xc3\xa4r.mp4\0", b"ab\0cd\0", b"\0", b""])
def test_a_list_with_nul_separators_is_not_mistaken_for_utf_16(data: bytes) -> None:
    assert decode(data).encode() == data


@pytest.mark.parametrize("data", [b"\xff", b"caf\xe9", codecs.BOM_UTF16_LE + b"a"])
def test_other_bytes_are_an_error(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        decode(data)


def test_halves_of_a_character_are_joined_or_dropped() -> None:
    assert encodable("A \ud83d\ude00 ball") == "A \U0001f600 ball"
    assert encodable("A \ud83d ball\udc00\ufffd.") == "A  ball."
    assert encodable(os.fsdecode(b"caf\xe9")) == "caf"


def test_text_gets_one_normal_form() -> None:
    assert encodable(unicodedata.normalize("NFD", "bär")) == "bär"


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_encodable_is_written_and_stays(text: str) -> None:
    fixed = encodable(text)
    assert fixed.encode("utf-8").decode("utf-8") == fixed
    assert encodable(fixed) == fixed
    assert is_encodable(fixed)
    assert is_encodable(text) == (not any(0xD800 <= ord(c) < 0xE000 for c in text))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5_000, "", "{'a': 1}"])
def test_json_from_outside_is_a_value_or_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text)
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text.encode())


def test_json_that_is_fine() -> None:
    assert parse_json('{"a": [1, 2.5, null, "\\u00e4"]}') == {"a": [1, 2.5, None, "ä"]}
    assert parse_json(b"[[[[[[[[[[7]]]]]]]]]]") == [[[[[[[[[[7]]]]]]]]]]


def test_the_lines_of_a_list() -> None:
    text = "\ufeffa.mp4\r\n b.mp4 \n\ufeffc\x0cd\u2028e.mp4\n\n"
    assert lines(text) == ["a.mp4", " b.mp4 ", "c\x0cd\u2028e.mp4", "", ""]


def test_a_letter_keeps_thirty_marks() -> None:
    with no_hang():
        marked = normal_form("e" + "\u0300\u0316" * 50_000 + "a\u0308")
    assert unicodedata.normalize("NFD", marked) == "e" + "\u0316" * 15 + "\u0300" * 15 + "a\u0308"
    with no_hang():
        assert len(normal_form("\u0f73" * 100_000)) <= 60
