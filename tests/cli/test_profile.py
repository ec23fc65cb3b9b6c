"""`gridctl profile` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gridctl.cli.app import app
from gridctl.errors import InputError, ProfileError, UsageError
from gridctl.profile import load_profile, shipped_profiles


def call(*arguments: str) -> str:
    """stdout of a call that succeeds; raises what the command raises."""
    result = CliRunner().invoke(app, ["profile", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("GRIDCTL_PROFILE", "HF_TOKEN", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)


def test_list_names_every_profile_and_what_fits() -> None:
    text = call("list")
    assert all(name in text for name in shipped_profiles())
    rows: list[dict[str, Any]] = json.loads(call("list", "--json"))
    fits = {row["name"]: row["fits"] for row in rows}
    assert fits["tiny"]
    assert not fits["flux-dev-24gb"]  # its download is gated, and here is no token
    assert all(row["fits"] == (row["reasons"] == []) for row in rows)


def test_show_prints_the_profile_that_would_be_taken() -> None:
    assert "# tiny" in call("show")
    Path("gridctl.toml").write_text('extends = "tiny"\ntrain.rank = 5\n')
    line = next(line for line in call("show").splitlines() if line.startswith("train.rank"))
    assert line.split() == ["train.rank", "=", "5", "#", "gridctl.toml"]
    shown = json.loads(call("show", "flux-dev-24gb", "--json"))
    assert shown["memory.quantize"] == {"value": "nf4", "origin": "preset 24gb"}


def test_show_prints_a_valid_profile() -> None:
    Path("again.toml").write_text(call("show", "flux-schnell-24gb"))
    assert load_profile("again.toml").profile == load_profile("flux-schnell-24gb").profile


def test_check_lists_every_fault_of_every_file() -> None:
    Path("good.toml").write_text("grid.rows = 2")
    Path("bad.toml").write_text("grid.rows = 0\ngrid.colls = 2")
    assert call("check", "good.toml", "tiny") == "good.toml: ok\ntiny: ok\n"
    with pytest.raises(ProfileError) as caught:
        call("check", "bad.toml", "good.toml", "bad.toml")
    assert caught.value.faults == (
        "bad.toml: grid.rows: 0 is out of range; the least is 1.",
        "bad.toml: grid.colls: unknown key; did you mean cols?",
    )
    assert caught.value.exit_code == 2
    result = CliRunner().invoke(app, ["profile", "check", "good.toml", "bad.toml", "--json"])
    good, bad = json.loads(result.stdout)
    assert (good["faults"], len(bad["faults"])) == ([], 2)


def test_check_names_settings_that_every_stage_overrides() -> None:
    stages = "[[train.stage]]\nsteps = 10\n[[train.stage]]\nsteps = 20\n"
    Path("a.toml").write_text(f'extends = "tiny"\ntrain.steps = 5\ntrain.rank = 8\n{stages}')
    result = CliRunner().invoke(app, ["profile", "check", "a.toml"])
    assert result.stdout == "a.toml: ok\n"
    assert result.stderr == (
        "a.toml: train.steps has no effect: every [[train.stage]] sets steps\n"
    )
    Path("a.toml").write_text(f'extends = "tiny"\n{stages}[[train.stage]]\nlearning_rate = 1\n')
    assert CliRunner().invoke(app, ["profile", "check", "a.toml"]).stderr == ""


def test_init_writes_a_profile_and_never_over_one() -> None:
    assert call("init", "--from", "flux-dev-24gb") == "gridctl.toml\n"
    path = Path("gridctl.toml")
    assert load_profile(path).profile == load_profile("flux-dev-24gb").profile
    path.write_text("mine")
    with pytest.raises(InputError, match="--force"):
        call("init")
    assert path.read_text() == "mine"
    call("init", "--force")
    assert load_profile(path).profile == load_profile("tiny").profile
    with pytest.raises(UsageError, match="flux-dev-24gb"):
        call("init", "other.toml", "--from", "flux")
    assert not Path("other.toml").exists()
