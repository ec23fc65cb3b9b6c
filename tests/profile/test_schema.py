"""Every key has a description, its default is valid, and values are checked strictly."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from gridctl.errors import ProfileError
from gridctl.geometry import Grid
from gridctl.profile import (
    GridSection,
    Profile,
    StageSection,
    TrainSection,
    load_profile,
    values_of,
)
from gridctl.profile.document import kind_of

SECTIONS = {name: type(getattr(Profile(), name)) for name in Profile.model_fields}


@pytest.mark.parametrize("table", [Profile, StageSection, *SECTIONS.values()])
def test_every_key_says_what_it_is(table: type[BaseModel]) -> None:
    for name, field in table.model_fields.items():
        assert field.description, f"{table.__name__}.{name}"
        assert "\n" not in field.description


def test_plain_defaults_are_valid_themselves() -> None:
    defaults = Profile().model_dump(by_alias=True)
    assert Profile.model_validate(defaults) == Profile()
    assert Profile().grid.to_grid() == Grid(rows=4, cols=6, cell=(256, 256))


@pytest.mark.parametrize(
    ("said", "cell"),
    [("256x192", (256, 192)), ("64", (64, 64)), (64, (64, 64)), ([64, 32], (64, 32))],
)
def test_a_cell_can_be_written_in_three_ways(said: object, cell: tuple[int, int]) -> None:
    assert GridSection.model_validate({"cell": said}).cell == cell


@pytest.mark.parametrize("said", [True, [64], [64, 64, 64], [True, 64], 64.0, "100x100", 0])
def test_other_cells_are_refused(said: object) -> None:
    with pytest.raises(ValidationError):
        GridSection.model_validate({"cell": said})


@pytest.mark.parametrize(
    "table",
    [
        {"steps": "4"},
        {"steps": True},
        {"steps": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": 0.0},
        {"ema": 1.0},
        {"caption_dropout": 1.5},
        {"row_wraps": 1},
        {"data": 3},
        {"stages": []},  # the TOML key is `stage`
    ],
)
def test_wrong_types_and_values_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainSection.model_validate(table)


def test_stages_and_paths_come_from_toml_types() -> None:
    train = TrainSection.model_validate({"data": "vidgrid", "stage": [{"steps": 3, "data": "a"}]})
    assert train.data == Path("vidgrid")
    assert train.stages == (StageSection(steps=3, data=Path("a")),)


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
    for table in [StageSection, *SECTIONS.values()]:
        for name, field in table.model_fields.items():
            kind = kind_of(field)
            if "number" in kind:
                assert re.search(r"number, .*\d", kind), f"{table.__name__}.{name}"


def test_a_profile_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Profile().grid.rows = 5
