"""Requests and jobs, and the adapter that a profile names."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from gridctl.errors import InputError, UsageError
from gridctl.generate import Request, tasks
from gridctl.generate.job import adapter_settings, find_adapter
from gridctl.geometry import Grid
from gridctl.lora.adapters import read_adapter_metadata
from gridctl.profile import Profile
from tests.generate.clips import RED

Make = Callable[..., Any]
GRID = Grid(rows=2, cols=3, cell=(32, 32))


def flagged(profile: Profile, **values: Any) -> Profile:
    """The profile with these values of [grid], set by flags."""
    keys = {f"grid.{key}": value for key, value in values.items()}
    return profile.with_values(keys, as_flags=True)


def test_which_adapter(make_profile: Make, adapter: Path) -> None:
    assert find_adapter(make_profile(model__adapter=str(adapter))) == adapter
    assert find_adapter(make_profile(model__adapter="none")) is None
    with pytest.raises(InputError, match=r"nowhere\.safetensors is not an adapter file"):
        find_adapter(make_profile(model__adapter="nowhere.safetensors"))
    with pytest.raises(UsageError, match="only with an adapter; name one with --adapter"):
        find_adapter(make_profile(model__base="black-forest-labs/FLUX.1-dev"))


def test_the_built_in_base_has_its_own_adapter(make_profile: Make) -> None:
    """weights/tiny-grid.safetensors ships beside it, with its grid, and was trained on it."""
    settings = adapter_settings(make_profile())
    assert settings.adapter is not None
    assert settings.adapter.name == "tiny-grid.safetensors"
    metadata = read_adapter_metadata(settings.adapter)
    assert metadata is not None
    assert (metadata.base, settings.grid) == ("tiny", metadata.grid)
    assert settings.keep_clean


def test_an_adapter_brings_its_grid(make_profile: Make, adapter: Path) -> None:
    """Whatever a file says of the grid; flags must say the same."""
    profile = make_profile(model__adapter=str(adapter), grid__rows=4, grid__cols=4, generate__fps=5)
    settings = adapter_settings(profile)
    assert (settings.grid, settings.fps, settings.keep_clean) == (GRID, 12.0, False)
    assert adapter_settings(flagged(profile, rows=2, cols=3)).grid == GRID
    for other in ({"order": "serpentine"}, {"rows": 3}, {"cols": 2}, {"cell": (16, 16)}):
        with pytest.raises(UsageError, match=r"trained on 2x3 .*row-major, and .* is asked for"):
            adapter_settings(flagged(profile, **other))


def test_another_base_than_the_adapters_is_refused(
    make_profile: Make, adapter: Path, base: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(base.folder, tmp_path / "model")
    profile = make_profile(model__adapter=str(adapter), model__base=str(folder))
    with pytest.raises(UsageError, match="was trained on tiny, and the base is"):
        adapter_settings(profile)


def test_a_lora_from_elsewhere_takes_the_profiles_grid(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(load_file(adapter), path)  # without the header
    profile = make_profile(
        model__adapter=str(path), caption__layout="{rows} by {cols}:", grid__rows=1, generate__fps=5
    )
    settings = adapter_settings(profile)
    assert (settings.grid, settings.fps) == (replace(GRID, rows=1), 5.0)
    assert (settings.prompt(RED), settings.keep_clean) == (f"1 by 3: {RED}", False)
    wish = adapter_settings(flagged(profile, cols=2, cell=(16, 16)))
    assert wish.grid == Grid(rows=1, cols=2, cell=(16, 16))


def test_words_of_the_adapter_are_known(adapter: Path, make_profile: Make, tmp_path: Path) -> None:
    metadata = read_adapter_metadata(adapter)
    assert metadata is not None
    path = tmp_path / "zebra.safetensors"
    taught = replace(metadata, words=("zebra",), keep=("first",))
    save_file(load_file(adapter), path, taught.to_header())
    profile = make_profile(model__adapter=str(path))
    settings = adapter_settings(profile)
    assert (settings.words, settings.keep_clean) == (("zebra",), True)
    request = Request(prompts=("a red Zebra",), output=tmp_path / "a.gif", profile=profile)
    long = tasks.t2v(request, frames=16)  # nor is there anything to say of clean cells
    assert (long.warnings, long.keep_clean) == ((), True)


def test_a_prompt_that_is_not_text_is_refused(small: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the prompt 'a \\udce4' is not UTF-8"):
        Request(prompts=("a star", "a \udce4"), output=tmp_path, profile=small())


def test_a_dry_run_of_one_grid(ask: Make, adapter: Path, tmp_path: Path) -> None:
    job = tasks.t2v(ask(RED, "a star", output="clips", many=True))
    layout = "2x3 grid of 6 video frames in reading order."
    first, second = (output.path for output in job.outputs)
    assert str(job).splitlines() == [
        "base     tiny",
        f"adapter  {adapter}",
        "grid     2x3 cells of 32x32, row-major:",
        "  0 generate     1 generate     2 generate",
        "  3 generate     4 generate     5 generate",
        f"prompt   {layout} {RED}",
        f"output   {first} (seed 0)",
        f"prompt   {layout} a star",
        f"output   {second} (seed 1)",
    ]
    assert job.to_json() == {
        "task": "t2v",
        "base": "tiny",
        "adapter": str(adapter),
        "rows": 2,
        "cols": 3,
        "cell": [32, 32],
        "order": "row-major",
        "grids": [
            {"frames": [0, 1, 2, 3, 4, 5], "actions": ["generate"] * 6, "release": [1.0] * 6}
        ],
        "num_frames": 6,
        "fps": 12.0,
        "outputs": [
            {"output": str(first), "prompt": f"{layout} {RED}", "seed": 0},
            {"output": str(second), "prompt": f"{layout} a star", "seed": 1},
        ],
    }


def test_a_dry_run_of_several_grids_or_none(ask: Make, tmp_path: Path) -> None:
    long = tasks.t2v(ask(RED), frames=9, long="windows")
    assert str(long).splitlines()[2:8] == [
        "grid 1/2 2x3 cells of 32x32, row-major:",
        "  0 generate     1 generate     2 generate",
        "  3 generate     4 generate     5 generate",
        "grid 2/2 2x3 cells of 32x32, row-major:",
        "  3 keep         4 keep         5 keep",
        "  6 generate     7 generate     8 generate",
    ]
    assert [grid["frames"] for grid in long.to_json()["grids"]] == [
        [0, 1, 2, 3, 4, 5],
        [3, 4, 5, 6, 7, 8],
    ]
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    given = tasks.i2v(ask(RED), at=[(frame, tmp_path / "a.png") for frame in range(6)])
    assert "grid     none: every frame is given" in str(given)
    assert given.to_json()["grids"] == []
