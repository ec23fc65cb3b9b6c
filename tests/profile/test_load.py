"""Chains of real files: precedence, origins, and every fault at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from gridctl.errors import ProfileError
from gridctl.profile import (
    PRESETS,
    Profile,
    load_profile,
    profile_toml,
    resolve_profile,
    shipped_profiles,
    values_of,
)
from gridctl.profile.toml import toml_line, toml_value

KEYS = {key for key, _ in values_of(Profile())}

# Keys of several types and sections, with values that are all valid.
SAMPLES: dict[str, st.SearchStrategy[Any]] = {
    "grid.rows": st.integers(1, 9),
    "grid.cell": st.sampled_from(["64x64", "64x32", "256x256"]),
    "grid.order": st.sampled_from(["row-major", "serpentine"]),
    "model.base": st.text(min_size=1).filter(
        lambda text: text.isprintable() and not text.startswith("~")
    ),
    "memory.device": st.sampled_from(["auto", "cpu", "cuda"]),
    "memory.encode_batch": st.integers(1, 99),
    "caption.subject": st.text(st.characters(exclude_categories=["Cs"])),
    "train.learning_rate": st.floats(1e-9, 10),
    "train.row_wraps": st.booleans(),
    "train.data": st.sampled_from(["a", "b c"]),
    "train.stage": st.lists(st.fixed_dictionaries({}, optional={"steps": st.integers(1, 9)})),
    "generate.fps": st.floats(0.1, 240),
}
LEVEL = st.fixed_dictionaries({}, optional=SAMPLES)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def as_toml(values: dict[str, Any], extends: str | None = None) -> str:
    lines = [f"extends = {toml_value(extends)}"] if extends else []
    return "\n".join([*lines, *(f"{key} = {toml_value(value)}" for key, value in values.items())])


def faults(source: str | Path, overrides: dict[str, Any] | None = None) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as caught:
        load_profile(source, overrides)
    assert all("\n" not in fault for fault in caught.value.faults)
    return caught.value.faults


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles")


@given(flags=LEVEL, child=LEVEL, parent=LEVEL)
def test_the_nearest_level_that_has_a_key_wins(
    folder: Path, flags: dict[str, Any], child: dict[str, Any], parent: dict[str, Any]
) -> None:
    write(folder / "parent.toml", as_toml(parent))
    path = write(folder / "child.toml", as_toml(child, "parent.toml"))
    loaded = load_profile(path, {**dict.fromkeys(SAMPLES), **flags})
    levels = {"flag": flags, str(path): child, str(folder / "parent.toml"): parent}
    default = dict(values_of(Profile()))
    assert set(loaded.profile.origins) == KEYS
    for key, value in values_of(loaded.profile):
        origin = next((name for name, level in levels.items() if key in level), "default")
        expected = levels[origin][key] if origin != "default" else default[key]
        assert loaded.profile.origins[key] == origin
        assert toml_line(key, value) == toml_line(key, expected)


@given(child=LEVEL, preset=st.none() | st.sampled_from(list(PRESETS)))
def test_a_written_profile_loads_as_the_same_one(
    folder: Path, child: dict[str, Any], preset: str | None
) -> None:
    loaded = load_profile(
        write(folder / "any.toml", as_toml(child)), {"memory.preset": preset, "train.rank": 7}
    )
    again = load_profile(write(folder / "again.toml", profile_toml(loaded.profile)))
    assert again.profile == loaded.profile


def test_a_preset_fills_only_the_keys_that_no_file_sets(tmp_path: Path) -> None:
    parent = write(tmp_path / "parent.toml", '[memory]\npreset = "24gb"\nencode_batch = 3\n')
    child = write(tmp_path / "child.toml", 'extends = "parent.toml"\n[memory]\npreset = "80gb"\n')
    assert load_profile(parent).profile.memory.quantize == "nf4"
    loaded = load_profile(child, {"memory.optimizer": "adamw"})
    memory = loaded.profile.memory
    assert (memory.quantize, memory.encode_batch, memory.optimizer) == ("none", 3, "adamw")
    assert loaded.profile.origins["memory.quantize"] == "preset 80gb"
    assert loaded.profile.origins["memory.encode_batch"] == str(parent)
    assert loaded.profile.origins["memory.optimizer"] == "flag"
    assert loaded.profile.origins["memory.preset"] == str(child)


def test_a_preset_flag_overrides_the_profiles_preset() -> None:
    loaded = load_profile("flux-dev-24gb", {"memory.preset": "cpu"})
    assert loaded.profile.memory.device == "cpu"
    assert loaded.profile.origins["memory.device"] == "preset cpu"


def test_extends_takes_shipped_names_and_paths_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "base.toml", 'extends = "tiny"\ntrain.rank = 5')
    top = write(tmp_path / "deep" / "top.toml", 'extends = "../base.toml"\ntrain.seed = 9')
    loaded = load_profile(top)
    assert (loaded.profile.train.rank, loaded.profile.train.seed) == (5, 9)
    assert loaded.profile.grid.cell == (64, 64)
    assert loaded.profile.origins["grid.cell"] == "tiny"


def test_all_faults_are_listed_at_once_with_their_file(tmp_path: Path) -> None:
    parent = write(
        tmp_path / "parent.toml", '[grid]\ncolls = 4\nrows = "4"\n[memory]\npreset = "9gb"\n'
    )
    child = write(
        tmp_path / "child.toml",
        'extends = "parent.toml"\nrows = 4\n[grid]\ncell = 100\nrows = 2\n'
        "[train]\nfps = 3\n[[train.stage]]\nstepz = 1\nsteps = -1\n",
    )
    assert set(faults(child, {"train.rank": 0})) == {
        f"{parent}: grid.colls: unknown key; did you mean cols?",
        # a fault counts although the child sets this key as well
        f'{parent}: grid.rows: "4" is not a whole number; write one like 4.',
        f'{parent}: memory.preset: "9gb" is not known; choose cpu, 12gb, 16gb, 24gb, 48gb or 80gb.',
        f"{child}: rows: unknown key; did you mean grid.rows?",
        f"{child}: grid.cell: cell 100x100 is not a multiple of 16 pixels on both sides, "
        "so a FLUX token would hold two frames; use 96x96.",
        f"{child}: train.fps: unknown key; did you mean unpack.fps or generate.fps?",
        f"{child}: train.stage[0].stepz: unknown key; did you mean steps?",
        f"{child}: train.stage[0].steps: -1 is out of range; the least is 1.",
        "command line: train.rank: 0 is out of range; the least is 1.",
    }


@given(
    section=st.sampled_from([*Profile().values(), "train.stage"]),
    name=st.text("abcdefghijklmnopqrstuvwxyz_-", min_size=1, max_size=12),
)
def test_any_unknown_key_is_reported(folder: Path, section: str, name: str) -> None:
    known = {key.rpartition(".")[2] for key in KEYS}
    known |= {"temporal_weight_end", "learning_rate_end"}
    head = "[[train.stage]]" if section == "train.stage" else f"[{section}]"
    path = write(folder / "unknown.toml", f"{head}\n{name} = 1\n")
    if name in known:
        return
    (fault,) = faults(path)
    where = "train.stage[0]" if section == "train.stage" else section
    assert fault.startswith(f"{path}: {where}.{name}: unknown key; ")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[gird]\nrows = 4", "gird: unknown key; did you mean grid?"),
        ("[bench]\nxyz = 4", "bench.xyz: unknown key; the keys here are repeats."),
        ('[bench]\n"a b\\n" = 4', 'bench."a b\\n": unknown key; the keys here are repeats.'),
        ("grid = 3", "grid: 3 is not a table; write [grid] above its keys."),
        (
            "train.stage = 3",
            "train.stage: 3 is not an array of tables; write [[train.stage]] above each.",
        ),
        ("extends = 3", "extends: 3 is not a name or path; write one in quotes."),
        ("a = ]", "line 1, column 5: not TOML (Invalid value); correct it there."),
        ("train.ema = 1.0", "train.ema: 1.0 is out of range; it must be less than 1.0."),
        (
            "train.row_wraps = 1",
            "train.row_wraps: 1 is not true or false; write one of them, without quotes.",
        ),
        (
            "train.keep_patterns = []",
            "train.keep_patterns: [] is empty; write at least one, or leave the key out.",
        ),
        ('model.base = ""', 'model.base: "" is empty; write a name in the quotes.'),
        (
            "generate.seed = 18446744073709551616",
            "generate.seed: 18446744073709551616 is out of range; the most is 9223372036854775807.",
        ),
        (
            "train.steps = 10000000000",
            "train.steps: 10000000000 is out of range; the most is 1000000000.",
        ),
        (
            "model.adapter_scale = inf",
            "model.adapter_scale: inf is not a finite number; write one like 0.5.",
        ),
        ("generate.fps = 1e400", "generate.fps: inf is not a finite number; write one like 0.5."),
        (
            "train.learning_rate = 1e4",
            "train.learning_rate: 10000.0 is out of range; the most is 10.0.",
        ),
    ],
)
def test_each_kind_of_fault_has_a_remedy(tmp_path: Path, text: str, fault: str) -> None:
    path = write(tmp_path / "bad.toml", text)
    assert faults(path) == (f"{path}: {fault}",)


def test_a_layout_that_cannot_be_filled_in_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults(write(tmp_path / "bad.toml", 'caption.layout = "a grid of {cells}"'))
    assert "caption.layout: layout 'a grid of {cells}' cannot be filled in" in fault


def test_text_that_is_not_utf8_is_a_fault_and_a_byte_order_mark_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b'model.base = "\xff"')
    assert faults(path) == (f"{path}: byte 14 is not UTF-8; save the file as UTF-8 text.",)
    path.write_bytes(b"\xef\xbb\xbfgrid.rows = 2")
    assert load_profile(path).profile.grid.rows == 2


@pytest.mark.parametrize("value", ["1" + 5000 * "0", 2000 * "[" + 2000 * "]"])
def test_what_python_cannot_read_is_a_fault(tmp_path: Path, value: str) -> None:
    path = write(tmp_path / "bad.toml", f"train.steps = {value}")
    assert faults(path)[0].startswith(f"{path}: ")
    path = write(tmp_path / "hexadecimal.toml", f"train.steps = 0x1{4000 * '0'}")
    fault = "train.steps: this number is out of range; the most is 1000000000."
    assert faults(path) == (f"{path}: {fault}",)


def test_a_missing_profile_names_the_nearest_and_all_that_ship() -> None:
    (fault,) = faults("flux-dev-24g")
    assert fault.startswith("flux-dev-24g: no such profile; did you mean flux-dev-24gb? ")
    assert all(name in fault for name in shipped_profiles())


def test_a_missing_parent_does_not_hide_faults_of_the_child(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", 'extends = "nowhere.toml"\ngrid.rows = 0')
    first, second = faults(path)
    assert first == f"{path}: grid.rows: 0 is out of range; the least is 1."
    assert second.startswith(f"{path}: extends: {tmp_path / 'nowhere.toml'}: no such profile; ")


def test_a_folder_or_an_empty_name_is_not_a_profile(tmp_path: Path) -> None:
    assert "a folder, not a profile" in faults(tmp_path)[0]
    assert "no such profile" in faults(write(tmp_path / "a.toml", 'extends = "no/x"'))[0]
    assert faults("")


def test_a_circle_is_a_fault(tmp_path: Path) -> None:
    first = write(tmp_path / "a.toml", 'extends = "b.toml"')
    second = write(tmp_path / "b.toml", 'extends = "./a.toml"')
    (fault,) = faults(first)
    assert fault.startswith(f"{second}: extends: the profiles extend each other in a circle")
    assert "take one `extends` out" in fault


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_load_and_say_what_they_are_for(name: str) -> None:
    assert load_profile(name).profile.grid.to_grid().num_frames == 24
    first = shipped_profiles()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")


def test_the_profiles_that_must_ship_do() -> None:
    assert {"tiny", "flux-dev-24gb", "flux-schnell-24gb"} <= set(shipped_profiles())
    assert load_profile("tiny").profile.model.base == "tiny"
    assert load_profile("tiny").profile.grid.to_grid().num_tokens == 384
    assert load_profile("flux-dev-24gb").profile.memory.quantize == "nf4"
    assert load_profile("flux-schnell-24gb").profile.generate.steps == 4


def test_shipped_profiles_set_no_memory_key_but_the_preset() -> None:
    for path in shipped_profiles().values():
        memory = tomli.loads(path.read_text(encoding="utf-8")).get("memory", {})
        assert set(memory) <= {"preset"}, path


def test_which_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDCTL_PROFILE", raising=False)
    plain = resolve_profile(None, fallback=None, overrides={"grid.rows": 2})
    assert plain.choice == "No profile: using the defaults."
    assert (plain.source, plain.profile.grid.rows) == (None, 2)
    assert resolve_profile(None, fallback="tiny").choice == "Profile tiny (the default)."

    write(tmp_path / "gridctl.toml", "grid.rows = 3")
    local = resolve_profile(None, fallback="tiny")
    assert local.choice == "Profile gridctl.toml (in the current folder)."
    assert local.profile.grid.rows == 3

    monkeypatch.setenv("GRIDCTL_PROFILE", "flux-dev-24gb")
    from_environment = resolve_profile(None, fallback=None)
    assert from_environment.choice == "Profile flux-dev-24gb (from $GRIDCTL_PROFILE)."

    assert resolve_profile("tiny", fallback=None).source == "tiny"

    monkeypatch.setenv("GRIDCTL_PROFILE", "")
    assert resolve_profile(None, fallback=None).source == "gridctl.toml"


@pytest.mark.parametrize("way", ["flag", "environment", "extends"])
def test_a_profile_in_the_home_folder(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "mine.toml", "train.rank = 5")
    child = write(tmp_path / "child.toml", 'extends = "~/mine.toml"')
    if way == "environment":
        monkeypatch.setenv("GRIDCTL_PROFILE", "~/mine.toml")
    flag = {"flag": "~/mine.toml", "environment": None, "extends": str(child)}[way]
    assert resolve_profile(flag, fallback=None).profile.train.rank == 5


def test_a_file_named_like_a_shipped_profile_is_reached_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tiny", "train.rank = 3")
    assert load_profile("tiny").profile.train.rank == 32
    assert load_profile("./tiny").profile.train.rank == 3
    assert load_profile(Path("tiny")).profile.train.rank == 3
