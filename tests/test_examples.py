"""Every example loads and runs."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from gridctl.profile import load_profile

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.toml"))


def test_there_are_examples() -> None:
    assert {"tiny.toml", "tiny-grid.toml", "flux-dev.toml", "stages.toml", "beating.toml"} <= {
        path.name for path in EXAMPLES
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads(path: Path) -> None:
    loaded = load_profile(path)
    assert str(path) in loaded.profile.origins.values()
    assert loaded.profile.train.data or loaded.profile.train.stages
    assert loaded.profile.train.output
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_the_tiny_example_runs_as_its_comment_says(
    gridctl: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gridctl.tiny.dataset import write_clips

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


def run_script(name: str, *arguments: object) -> list[str]:
    """Run an example as a user would; the lines that it prints."""
    command = [sys.executable, str(FOLDER / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_demo_clips_beat(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for folder in (before, after):
        run_script("beating.py", folder, 2)
    clip = after / "beat_001.mp4"
    assert " beating on a " in clip.with_suffix(".txt").read_text()
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    corner = frames[0][0, 0].astype(int)
    areas = [(np.abs(frame - corner).sum(-1) > 60).sum() for frame in frames]
    peaks = [k for k in range(1, 23) if areas[k - 1] < areas[k] >= areas[k + 1]]
    assert len(frames) == 24
    assert len(peaks) == 4
    assert max(areas) > 1.8 * min(areas)
    sheet, movie = map(Path, run_script("compare.py", before, after, tmp_path / "compare"))
    assert Image.open(sheet).size == (12 * 100 - 4, 4 * 100 - 4)  # both clips, before and after
    assert getattr(Image.open(movie), "n_frames", 1) == 24


def test_no_demo_clip_shows_what_the_demo_draws() -> None:
    draw = runpy.run_path(str(FOLDER / "beating.py"))["beating_scene"]
    scenes = [draw(np.random.default_rng(seed)) for seed in range(300)]
    assert {scene.motion for scene in scenes} == {"standing still"}
    assert ("red", "heart") not in {(scene.color, scene.shape) for scene in scenes}


@pytest.mark.slow
def test_the_demo_teaches_a_motion(tmp_path: Path) -> None:
    """The whole demo, with its training; the result is judged by the size of what it draws."""
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    demo = ["sh", str(FOLDER / "demo.sh"), "demo"]
    done = subprocess.run(demo, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def swell(folder: str) -> float:
        """Largest radius by smallest, of the first beat of the red heart."""
        clip = next((tmp_path / "demo" / folder).glob("001-*.mp4"))
        with av.open(str(clip)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        areas = [(frame[..., 0] > 100).sum() for frame in frames[:7]]
        return float(np.sqrt(areas[3] / areas[0]))

    assert swell("before") < 1.1
    assert 1.3 < swell("after") < 1.7
    assert (tmp_path / "demo/compare.gif").is_file()


def test_the_curriculum_runs(
    gridctl: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example with one step a stage: small cells first, then those of the grid."""
    import json
    import re

    from gridctl.geometry import Grid
    from gridctl.lora.adapters import read_adapter_metadata
    from gridctl.tiny.dataset import write_clips

    monkeypatch.chdir(tmp_path)
    write_clips(tmp_path / "clips", count=2, seed=0, num_frames=24, size=(64, 64))
    for folder in ("vidgrid-many", "vidgrid-fine"):
        assert gridctl("pack", "clips/", "-o", folder, "--profile", "tiny") == 0
        assert gridctl("caption", folder) == 0
    text = next(path for path in EXAMPLES if path.name == "stages.toml").read_text()
    short = re.sub(r"(?m)^(steps|batch_size) = \d+", r"\1 = 1", text)
    Path("stages.toml").write_text(short)
    assert gridctl("train", "stages.toml") == 0
    facts = read_adapter_metadata(Path("stages.safetensors"))
    assert facts is not None
    assert facts.grid == Grid(rows=4, cols=6, cell=(64, 64))
    first, second = (
        json.loads(line) for line in Path("stages.run/metrics.jsonl").read_text().splitlines()
    )
    assert (first["temporal_weight"], second["temporal_weight"]) == (0.0, 0.1)
    assert second["learning_rate"] == 5e-4


def test_the_mean_of_an_adapter_and_itself(adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "mean.safetensors"
    runpy.run_path(str(FOLDER / "average.py"))["main"](str(adapter), str(adapter), str(out))
    with safe_open(adapter, "pt") as before, safe_open(out, "pt") as after:
        assert before.metadata() == after.metadata()
        assert before.keys() == after.keys()
        for down in (name for name in before.keys() if ".lora_A." in name):  # noqa: SIM118
            up = down.replace(".lora_A.", ".lora_B.")
            one, mean = (
                f.get_tensor(up).double() @ f.get_tensor(down).double() for f in (before, after)
            )
            assert torch.allclose(one, mean, atol=1e-3 * float(one.abs().max()) + 1e-6)


def test_choices_are_compared_seed_by_seed(tmp_path: Path) -> None:
    """The table alone: a setting that is right in a tenth more of the clips of each seed."""
    import json

    lines = []
    for setting, right in (("baseline", 5), ("keep 0.3", 6)):
        for seed in (0, 1, 2):
            readings = [
                {"part": part, "index": k, "shape": True, "motion": k < right + seed, "all": False}
                | {"temporal_error": 10.0, "jump": [2.0, 1.0 + k]}
                for part in ("t2v", "i2v")
                for k in range(10)
            ]
            row = {"setting": setting, "seed": seed, "budget": 600, "base": 0.1, "temporal": 0.2}
            lines.append(json.dumps({**row, "readings": readings}) + "\n")
    (tmp_path / "results.jsonl").write_text("".join(lines))
    *_, head, _, baseline, keep, _ = run_script("choices.py", tmp_path, "--table")
    columns = [cell.strip() for cell in head.split("|")]
    place = columns.index("t2v motion")
    assert baseline.split("|")[place].strip() == "0.600"
    assert keep.split("|")[place].strip().startswith("0.700 (+0.100: ")
    jump = baseline.split("|")[columns.index("i2v jump")].strip()
    assert float(jump) == pytest.approx(20 / 55, abs=1e-3)  # a ratio of sums
    assert (tmp_path / "choices.md").exists()
