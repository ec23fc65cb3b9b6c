"""Every setting has a help text and limits, its default is valid, and values are checked."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from gridctl.errors import ProfileError
from gridctl.geometry import Grid
from gridctl.profile import (
    GridSection,
    Profile,
    StageSection,
    TrainSection,
    load_profile,
    parse_section,
    values_of,
)
from gridctl.profile.settings import Section, settings_of
from gridctl.storage import as_path

SECTIONS = {row.name: row.kind for row in settings_of(Profile)}


@pytest.mark.parametrize("section", [Profile, StageSection, *SECTIONS.values()])
def test_every_setting_has_a_help_text(section: type[Section]) -> None:
    for row in settings_of(section):
        assert row.help.endswith((".", ").")), f"{section.__name__}.{row.name}"
        assert "\n" not in row.help


def test_defaults_are_valid_themselves() -> None:
    assert parse_section(Profile, Profile().to_json()) == Profile()
    assert Profile().grid.to_grid() == Grid(rows=4, cols=6, cell=(256, 256))


@pytest.mark.parametrize(
    ("written", "cell"),
    [("256x192", (256, 192)), ("64", (64, 64)), (64, (64, 64)), ([64, 32], (64, 32))],
)
def test_a_cell_can_be_written_in_three_ways(written: object, cell: tuple[int, int]) -> None:
    assert parse_section(GridSection, {"cell": written}).cell == cell


@pytest.mark.parametrize("written", [True, [64], [64, 64, 64], [True, 64], 64.0, "100x100", 0])
def test_other_cells_are_refused(written: object) -> None:
    with pytest.raises(ProfileError, match="cell"):
        parse_section(GridSection, {"cell": written})


@pytest.mark.parametrize(
    "table",
    [
        {"steps": "4"},
        {"steps": True},
        {"steps": 4.0},
        {"steps": 0},
        {"steps": None},
        {"learning_rate": float("nan")},
        {"learning_rate": True},
        {"learning_rate": 10**400},
        {"learning_rate": 0.0},
        {"ema": 1.0},
        {"caption_dropout": 1.5},
        {"row_wraps": 1},
        {"data": 3},
        {"keep_patterns": "first"},
        {"keep_patterns": ["middle"]},
        {"preview_prompts": [3]},
        {"stages": []},  # the TOML key is `stage`
    ],
)
def test_wrong_types_and_values_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_section(TrainSection, table)
    (fault,) = caught.value.faults
    assert fault.startswith(next(iter(table)))


def test_toml_types_become_ours() -> None:
    table = {"data": "vidgrid", "learning_rate": 1, "stage": [{"steps": 3, "data": "s3://a/b"}]}
    train = parse_section(TrainSection, table | {"keep_patterns": ["ends"], "lora_alpha": None})
    assert (train.data, train.keep_patterns, train.lora_alpha) == (Path("vidgrid"), ("ends",), None)
    assert type(train.learning_rate) is float
    assert train.stages == (StageSection(steps=3, data=as_path("s3://a/b")),)


def test_json_holds_the_same_section() -> None:
    train = TrainSection(data=as_path("s3://a/b"), stages=(StageSection(cell=(32, 48)),))
    found = train.to_json()
    assert (found["data"], found["stage"][0]["cell"]) == ("s3://a/b", [32, 48])
    assert parse_section(TrainSection, found) == train


def test_other_values_keep_the_rest_and_their_origins() -> None:
    loaded = load_profile("tiny", {"train.rank": 7}).profile
    other = loaded.with_values({"train.steps": 5, "grid.rows": 2})
    assert other == replace(
        loaded, train=replace(loaded.train, steps=5), grid=replace(loaded.grid, rows=2)
    )
    assert other.is_flag("train.rank")
    assert other.is_set("train.learning_rate")
    assert not other.is_flag("train.learning_rate")
    assert not other.is_set("train.ema")
    assert not Profile().is_set("train.rank")


@pytest.mark.parametrize("key", ["train.seed", "generate.seed"])
def test_every_seed_is_one_that_torch_takes(key: str) -> None:
    import torch

    largest = 2**63 - 1
    assert dict(values_of(load_profile(None, {key: largest}).profile))[key] == largest
    torch.Generator().manual_seed(largest + 10**6)  # the seed of the last of a million prompts
    with pytest.raises(ProfileError, match="the most is 9223372036854775807"):
        load_profile(None, {key: largest + 1})


@pytest.mark.parametrize(
    "key",
    [
        "model.base", "model.adapter", "caption.mapping", "caption.model", "train.data",
        "train.output", "train.start",
    ],
)  # fmt: skip
def test_every_path_may_start_at_home(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    loaded = load_profile(None, {key: "~/file"})
    assert str(dict(values_of(loaded.profile))[key]) == "/home/someone/file"
    stage = load_profile(None, {"train.stage": [{"data": "~/file"}]}).profile.train.stages[0]
    assert str(stage.data) == "/home/someone/file"
    same = load_profile(None, {key: "~nobody-of-this-name/file"}).profile
    assert str(dict(values_of(same))[key]) == "~nobody-of-this-name/file"


def test_every_number_has_limits() -> None:
    for section in [StageSection, *SECTIONS.values()]:
        for row in settings_of(section):
            assert row.kind not in (int, float) or row.limits, f"{section.__name__}.{row.name}"


def test_a_profile_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Profile().grid.rows = 5  # type: ignore[misc]
