"""Every example loads, and the values in it are its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gridctl.profile import load_profile

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.toml"))


def test_there_are_examples() -> None:
    assert {"tiny.toml", "tiny-grid.toml", "flux-dev.toml", "stages.toml"} <= {
        path.name for path in EXAMPLES
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads(path: Path) -> None:
    loaded = load_profile(path)
    assert str(path) in loaded.origins.values()
    assert loaded.profile.train.data or loaded.profile.train.stages
    assert loaded.profile.train.output
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_the_tiny_example_runs_as_its_comment_says(
    gridctl: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gridctl.toyworld.dataset import write_clips

    monkeypatch.chdir(tmp_path)
    write_clips(tmp_path / "clips", count=2, seed=0, num_frames=20, size=(64, 64))
    tiny = next(path for path in EXAMPLES if path.name == "tiny.toml")
    assert gridctl("pack", "clips/", "-o", "vidgrid", "--profile", tiny) == 0
    assert gridctl("caption", "vidgrid", "--profile", tiny) == 0
    assert gridctl("train", tiny, "--steps", 1, "--batch-size", 1) == 0
    prompt = ["a red circle moves right", "--profile", tiny, "--steps", 2]
    made = ["-o", "out.mp4", "--adapter", "adapter.safetensors"]
    assert gridctl("generate", "t2v", *prompt, *made) == 0
    assert (tmp_path / "out.mp4").stat().st_size > 0
