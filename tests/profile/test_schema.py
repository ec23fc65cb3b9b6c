"""Every key has a description, its default is valid, and values are checked strictly."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from gridctl.geometry import Grid
from gridctl.profile import GridSection, Profile, StageSection, TrainSection

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
def test_a_cell_is_said_in_three_ways(said: object, cell: tuple[int, int]) -> None:
    assert GridSection.model_validate({"cell": said}).cell == cell


@pytest.mark.parametrize("said", [True, [64], [64, 64, 64], [True, 64], 64.0, "100x100", 0])
def test_what_is_no_cell_is_refused(said: object) -> None:
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


def test_a_profile_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Profile().grid.rows = 5
