import pytest

from gridctl.errors import (
    ExitCode,
    GridctlError,
    InputError,
    PartialError,
    ProfileError,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GridctlError("x"), 1),
        (InputError("x"), 1),
        (UsageError("x"), 2),
        (ProfileError(["x"]), 2),
        (PartialError("x"), 3),
    ],
)
def test_each_kind_has_its_exit_code(error: GridctlError, code: int) -> None:
    assert isinstance(error, GridctlError)
    assert error.exit_code == code


def test_the_exit_codes_are_those_that_shells_know() -> None:
    assert [(code.name, code.value) for code in ExitCode] == [
        ("DONE", 0),
        ("FAILED", 1),
        ("USAGE", 2),
        ("PARTIAL", 3),
        ("INTERRUPTED", 130),
        ("TERMINATED", 143),
    ]


def test_a_profile_error_holds_every_fault_a_line_each() -> None:
    error = ProfileError(["a.toml: grid.colls: unknown key", "a.toml: grid.rows: 0 is too few"])
    assert error.faults == ("a.toml: grid.colls: unknown key", "a.toml: grid.rows: 0 is too few")
    assert str(error).splitlines() == list(error.faults)
