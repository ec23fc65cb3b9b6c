from pathlib import Path

from gridctl.cli.batch import grouped


def test_messages_that_differ_only_in_names_and_numbers_are_counted() -> None:
    paths = [f"clips/holiday {number} of 3.mp4" for number in range(10_000)]
    failures = [(f"{path} ends after {len(path)} seconds; replace it.", path) for path in paths]
    other = ("clips/b.mp4 does not exist; check the name.", "clips/b.mp4")
    lines = grouped([*failures[:5], other, *failures[5:]])
    assert lines == [
        failures[0][0],
        failures[1][0],
        "... and 9,998 more like this; --json lists all.",
        other[0],
    ]


def test_three_messages_and_all_kinds_of_a_few_are_shown() -> None:
    notes = [(f"{Path('a') / str(k)}.mp4 has {k} frames left over.", "") for k in range(3)]
    assert grouped(notes) == [text for text, _ in notes]
    kinds = [("because " * number, "") for number in range(30)]
    assert grouped(kinds)[20:] == ["... and 10 others; --json lists all."]
