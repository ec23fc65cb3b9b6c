"""docs/profiles.md says what the schema says."""

from pathlib import Path

import pytest

import gridctl
from gridctl.profile import (
    GenerateSection,
    GridSection,
    MemorySection,
    PackSection,
    Profile,
    TrainSection,
)
from gridctl.profile.document import kind_of, profile_page

PAGE = Path(gridctl.__file__).parent.parent / "docs" / "profiles.md"


def test_the_page_is_up_to_date() -> None:
    command = "python -m gridctl.profile.document docs/profiles.md"
    assert PAGE.read_text(encoding="utf-8") == profile_page(), f"run {command}"


def test_the_page_has_every_key() -> None:
    page = profile_page()
    for section in Profile().model_dump(by_alias=True).values():
        assert all(f"| `{key}` |" in page for key in section)


@pytest.mark.parametrize(
    ("section", "key", "kind"),
    [
        (GridSection, "rows", "whole number, 1 or more"),
        (GridSection, "cell", "`WIDTHxHEIGHT`"),
        (GridSection, "order", "`row-major` or `serpentine`"),
        (MemorySection, "gradient_checkpointing", "true or false"),
        (PackSection, "quality", "whole number, 1 to 100"),
        (PackSection, "end", "number, above 0"),
        (PackSection, "workers", "whole number, 1 to 4,096"),
        (TrainSection, "data", "path"),
        (TrainSection, "ema", "number, 0 and below 1"),
        (
            TrainSection,
            "keep_patterns",
            "list of `first`, `last`, `ends`, `head`, `every`, `column` or `few`",
        ),
        (TrainSection, "stages", "array of tables"),
        (GenerateSection, "true_cfg_max_sigma", "number, above 0 to 1"),
    ],
)
def test_types_and_limits_in_words(section: type[Profile], key: str, kind: str) -> None:
    assert kind_of(section.model_fields[key]) == kind
