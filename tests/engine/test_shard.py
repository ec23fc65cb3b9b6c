import pytest

from gridctl.engine.shard import parse_shard, take_shard
from gridctl.errors import UsageError


def test_shards_are_counted_from_1_and_share_all() -> None:
    assert parse_shard("2/8") == (2, 8)
    shares = [take_shard("abcdefg", (number, 3)) for number in (1, 2, 3)]
    assert shares == [["a", "d", "g"], ["b", "e"], ["c", "f"]]
    assert take_shard("abc", None) == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["2", "a/b", "2-8", "1/2/3", "-1/2"])
def test_other_text_is_not_a_shard(text: str) -> None:
    with pytest.raises(UsageError, match="write 1/8 for the first of eight"):
        parse_shard(text)


@pytest.mark.parametrize(("number", "total"), [(0, 2), (3, 2), (1, 0)])
def test_a_shard_out_of_range_is_refused(number: int, total: int) -> None:
    for refuse in (
        lambda: parse_shard(f"{number}/{total}"),
        lambda: take_shard("ab", (number, total)),
    ):
        with pytest.raises(UsageError, match=f"shard {number}/{total} is out of range"):
            refuse()
