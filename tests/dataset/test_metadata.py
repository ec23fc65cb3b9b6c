import json
from dataclasses import replace
from pathlib import Path

import pytest

from gridctl.dataset.metadata import GridMetadata, metadata_from_text
from gridctl.errors import InputError
from gridctl.geometry import Grid

METADATA = GridMetadata(
    grid=Grid(rows=2, cols=3, cell=(32, 16), order="serpentine"),
    source="videos/Bär läuft \U0001f43b.mp4",
    times_seconds=(0.0, 0.041667, 1.5),
    fps=7.5,
    num_frames=3,
    text="a bear „runs“\nin 2 lines",
)


def test_json_round_trip() -> None:
    text = json.dumps(METADATA.to_json())
    assert metadata_from_text(text, Path("vid1.jpg")) == METADATA


def test_the_json_form() -> None:
    metadata = replace(METADATA, part=(2, 5), shared=2, made_from="0f")
    assert metadata.to_json() == {
        "gridctl": 1,
        "rows": 2,
        "cols": 3,
        "cell": [32, 16],
        "order": "serpentine",
        "source": "videos/Bär läuft \U0001f43b.mp4",
        "times_seconds": [0.0, 0.041667, 1.5],
        "fps": 7.5,
        "num_frames": 3,
        "text": "a bear „runs“\nin 2 lines",
        "part": [2, 5],
        "shared": 2,
        "made_from": "0f",
    }
    assert GridMetadata.from_json(metadata.to_json(), Path("a.jpg")) == metadata


def test_keys_that_may_be_absent() -> None:
    data = replace(METADATA, part=(2, 5), shared=2, made_from="0f").to_json()
    for key in ("text", "part", "shared", "made_from"):
        del data[key]
    assert GridMetadata.from_json(data, Path("a.jpg")) == replace(METADATA, text=None)


def test_the_limits_of_each_value() -> None:
    for fine in ({"shared": 2}, {"part": (5, 5)}, {"fps": 1e-9}):
        replace(METADATA, **fine)
    six = replace(METADATA, num_frames=6, times_seconds=(0.0,) * 6, shared=5)
    assert six.shared == 5


@pytest.mark.parametrize(
    "change",
    [
        {"shared": -1},
        {"part": (0, 1)},
        {"part": (3, 2)},
        {"fps": float("inf")},
        {"times_seconds": (0.0,) * 4},
        {"num_frames": 7},
        {"num_frames": 0},
        {"times_seconds": (0.0,)},
        {"fps": 0.0},
        {"fps": float("nan")},
        {"shared": 3},
    ],
)
def test_contradictions_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        replace(METADATA, **change)


@pytest.mark.parametrize("text", ["", "a holiday photo", "[1, 2]", '{"camera": 1}', "7"])
def test_other_descriptions_are_not_metadata(text: str) -> None:
    assert metadata_from_text(text, Path("photo.jpg")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"cell": [30, 16]},
        {"cell": 32},
        {"rows": "two"},
        {"fps": None},
        {"order": "spiral"},
        {"gridctl": 99},
    ],
)
def test_damaged_metadata_names_the_file(change: dict[str, object]) -> None:
    text = json.dumps({**METADATA.to_json(), **change})
    with pytest.raises(InputError, match=r"vid1\.jpg") as caught:
        metadata_from_text(text, Path("vid1.jpg"))
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    data = METADATA.to_json()
    del data["cols"]
    with pytest.raises(InputError, match=r"vid1\.jpg.*cols is missing"):
        GridMetadata.from_json(data, Path("vid1.jpg"))


@pytest.mark.parametrize(
    ("key", "value", "fact"),
    [
        ("num_frames", "1e999", "infinity"),
        ("shared", "-1e999", "infinity"),
        ("times_seconds", "[0, 1e999, 2]", "not a number"),
        ("times_seconds", "[NaN, 1, 2]", "not a number"),
        ("rows", "1e999", "whole number"),
        ("part", "[1, 1e999]", "infinity"),
        ("part", "7", "subscriptable"),
        ("part", "[]", "index"),
        ("text", '"\\ud800"', ""),
    ],
)
def test_odd_values_are_one_error_line(key: str, value: str, fact: str) -> None:
    data = replace(METADATA, part=(1, 1)).to_json()
    del data[key]
    text = json.dumps(data)[:-1] + f', "{key}": {value}}}'
    if not fact:
        assert metadata_from_text(text, Path("vid1.jpg")) is not None
        return
    with pytest.raises(InputError, match=fact) as caught:
        metadata_from_text(text, Path("vid1.jpg"))
    assert str(caught.value).startswith("vid1.jpg has gridctl metadata that cannot be used: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 60_000, '{"gridctl": ' * 60_000, "9" * 5_000])
def test_text_without_end_is_not_metadata(text: str) -> None:
    assert metadata_from_text(text, Path("vid1.jpg")) is None
