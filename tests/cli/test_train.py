import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gridctl.lora.adapters import read_adapter_metadata

Cli = Callable[..., int]
GRID = '[grid]\nrows = 2\ncols = 3\ncell = "32x32"\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a profile for the small dataset."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(
        f'extends = "tiny"\n{GRID}[train]\nrank = 2\nbatch_size = 1\nsteps = 2\nlog_every = 1\n'
    )
    return tmp_path


def test_it_trains_and_the_second_time_has_nothing_to_do(
    gridctl: Cli, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gridctl("train", "mine.toml", "--data", dataset) == 0
    output = capsys.readouterr()
    assert output.out == "adapter.safetensors\n"
    assert "loss " in output.err
    assert "adapter.run" in output.err
    assert gridctl("train", "mine.toml", "--data", dataset, "--steps", 3, "--json") == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["adapter"] == "adapter.safetensors"
    assert result["run_folder"] == "adapter.run"
    assert (result["steps"], result["resumed_at"]) == (3, 2)
    assert "resuming at step 2 of 3" in output.err


def test_flags_come_before_the_profile(gridctl: Cli, dataset: Path, here: Path) -> None:
    assert gridctl("train", "mine.toml", "--data", dataset, "--steps", 1, "--rank", 3) == 0
    flags = {
        "--start": "adapter.safetensors",
        "--output": "new/b.safetensors",
        "--steps": 1,
        "--batch-size": 2,
        "--learning-rate": 0.5,
        "--rank": 3,
        "--temporal-weight": 0.25,
        "--seed": 7,
    }
    words = [str(word) for pair in flags.items() for word in pair]
    assert gridctl("train", "mine.toml", "--data", dataset, *words) == 0
    metadata = read_adapter_metadata(here / "new" / "b.safetensors")
    assert metadata is not None
    for line in (
        'train.start = "adapter.safetensors"',
        "train.steps = 1",
        "train.batch_size = 2",
        "train.learning_rate = 0.5",
        "train.rank = 3",
        "train.temporal_weight = 0.25",
        "train.seed = 7",
    ):
        assert line in metadata.profile.splitlines()


def test_other_settings_need_force(
    gridctl: Cli, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gridctl("train", "mine.toml", "--data", dataset, "--steps", 1) == 0
    capsys.readouterr()
    arguments = ["train", "mine.toml", "--data", dataset, "--steps", 1, "--seed", 1, "--quiet"]
    assert gridctl(*arguments) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "gridctl: adapter.run holds a run with other data or settings (train.seed 0 → 1); use "
        "another output (-o), or --force to start over."
    ]
    assert gridctl(*arguments, "--force") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["mine.toml"], 2, "train.data is not set"),
        (["mine.toml", "--data", "nowhere"], 1, "nowhere is not a folder"),
        (["mine.toml", "--data", "empty"], 1, "holds no grid image"),
        (["nowhere.toml"], 2, "nowhere.toml"),
        (["mine.toml", "--steps", "0"], 2, "steps"),
        (["mine.toml", "--base", "a/schnell"], 2, "train.allow_distilled = true"),
        (["mine.toml", "--base", "a/b", "--data", "DATA"], 1, "a/b is not on this machine"),
        (["mine.toml", "--base", "nowhere", "--data", "DATA"], 2, "nowhere is not a model"),
        (["tiny", "--data", "DATA"], 1, "the profile's grid is 4x6"),
        (["wide.toml", "--data", "DATA"], 1, "would be enlarged"),
    ],
)
def test_a_fault_is_one_line_and_leaves_nothing(
    gridctl: Cli,
    dataset: Path,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    (here / "empty").mkdir()
    (here / "wide.toml").write_text(f'extends = "mine.toml"\n{GRID.replace("32x32", "64x64")}')
    before = sorted(here.iterdir())
    arguments = [str(dataset) if word == "DATA" else word for word in arguments]
    assert gridctl("train", "--quiet", *arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("gridctl: ")
    assert words in output.err
    assert sorted(here.iterdir()) == before


def test_only_our_own_lines_reach_the_user(dataset: Path, here: Path) -> None:
    """A process of its own: the libraries say some things only once."""
    arguments = ["train", "mine.toml", "--data", str(dataset), "--steps", "1"]
    end = subprocess.run(
        [sys.executable, "-m", "gridctl", *arguments], capture_output=True, text=True, check=False
    )
    assert end.returncode == 0, end.stderr
    assert end.stdout == "adapter.safetensors\n"
    # A slow machine prints a line of progress now and then.
    lines = [line for line in end.stderr.splitlines() if not line.startswith("train: ")]
    assert [line.split()[0] for line in lines] == ["Profile", "4", "loss"], end.stderr


def test_a_checkpoint_is_exported_and_drawn_with(
    gridctl: Cli, dataset: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = here / "mine.toml"
    profile.write_text(f"{profile.read_text()}checkpoint_every = 1\n[generate]\nsteps = 1\n")
    assert gridctl("train", "mine.toml", "--data", dataset) == 0
    capsys.readouterr()
    assert gridctl("train", "mine.toml", "--export", "1") == 0
    assert capsys.readouterr().out == "adapter-000001.safetensors\n"
    assert gridctl("train", "mine.toml", "--export", "last", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"adapter": "adapter-000002.safetensors"}
    assert gridctl("train", "mine.toml", "--export", "new") == 2
    assert gridctl("train", "mine.toml", "--export", "3") == 1
    drawn = {}
    for adapter in (
        "adapter.run",
        "adapter.run/step-000002.safetensors",
        "adapter-000002.safetensors",
        "adapter.run/step-000001.safetensors",
    ):
        out = here / "frames" / str(len(drawn))
        call = ["generate", "t2v", "a red circle", "--adapter", adapter, "-o", out]
        assert gridctl(*call, "--profile", "mine.toml", "--quiet") == 0
        drawn[adapter] = [frame.read_bytes() for frame in sorted(out.glob("*.png"))]
    newest, last, exported, first = drawn.values()
    assert newest == last
    assert len(newest) == len(exported) == 6  # exported in 16 bits: nearly the same
    assert newest != first


def test_the_cache_is_filled_in_shares(
    gridctl: Cli,
    dataset: Path,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRIDCTL_CACHE", str(here / "cache"))
    call = ["train", "mine.toml", "--data", dataset, "--prepare-only"]
    for shard, encoded in (("1/2", 4), ("2/2", 4), ("2/2", 0)):
        assert gridctl(*call, "--shard", shard) == 0
        output = capsys.readouterr()
        assert output.out == f"{encoded} encoded\n"
        assert "4 grids to train on" in output.err
    assert not (here / "adapter.run").exists()
    assert gridctl("train", "mine.toml", "--data", dataset, "--shard", "1/2") == 2
    assert gridctl(*call, "--shard", "3/2") == 2
