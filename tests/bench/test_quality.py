import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gridctl.bench import quality
from gridctl.bench.quality import Score, bench_quality
from gridctl.errors import InputError, UsageError
from gridctl.toyworld.render import render_clip, render_frame
from gridctl.toyworld.scene import is_held_out

Make = Callable[..., Any]
COUNT = 6


def drawer(part: Any, *, shift: int) -> Any:
    """In place of the model: renders of the part's scenes, `shift` places further on."""
    scenes, _ = quality._prompts(part, COUNT, 0)
    scenes = scenes[shift:] + scenes[:shift]

    def render(drawing: Any, *, progress: Any) -> Iterator[Any]:
        for job, scene in zip(drawing.jobs, scenes, strict=True):
            if drawing.task == "image":
                yield job, render_frame(scene, 0.5, (64, 64))[None]
            else:
                yield job, render_clip(scene, 24, (64, 64))

    return render


@pytest.mark.parametrize(
    ("part", "own"), [("t2v", {"motion", "style"}), ("turn", {"turn order"}), ("image", {"style"})]
)
def test_true_renders_are_all_right_and_those_of_other_prompts_are_not(
    part: Any,
    own: set[str],
    monkeypatch: pytest.MonkeyPatch,
    make_profile: Make,
    tmp_path: Path,
) -> None:
    profile = make_profile(generate__size="64x64")
    monkeypatch.setattr(quality, "render", drawer(part, shift=0))
    true = bench_quality(profile, tmp_path / "true", count=COUNT, parts=[part])
    assert {score.what for score in true.scores} == {"shape", "color", "background", "all", *own}
    assert all(score.right == score.count == COUNT for score in true.scores)
    monkeypatch.setattr(quality, "render", drawer(part, shift=1))
    false = bench_quality(profile, tmp_path / "false", count=COUNT, parts=[part])
    assert next(score.right for score in false.scores if score.what == "all") == 0


@pytest.mark.parametrize("part", quality.PARTS)
def test_no_prompt_is_of_what_training_saw(part: Any) -> None:
    scenes, prompts = quality._prompts(part, 20, 5)
    assert all(is_held_out(scene) for scene in scenes)
    assert {scene.kind for scene in scenes} == {"solid" if part == "turn" else "shape"}
    assert len(set(prompts)) > 15
    assert quality._prompts(part, 4, 5)[1] == prompts[:4]


def test_the_real_path_leaves_a_report_with_pictures(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "quality"
    profile = make_profile(
        model__adapter=str(adapter), generate__steps=1, generate__size="64x64", generate__seed=3
    )
    result = bench_quality(profile, folder, count=2)
    assert {score.part for score in result.scores} == set(quality.PARTS) - {"vae"}
    assert result.figures["vae PSNR dB"] > 25
    report = json.loads((folder / "quality.json").read_text())
    assert len(report["scores"]) == len(result.scores)
    assert "seed 3" in report["about"]
    assert "true_cfg_scale 1.0 up to sigma 1.0" in report["about"]
    assert "stochastic above sigma 1.0" in report["about"]
    takes = [json.loads(line) for line in (folder / "takes.jsonl").read_text().splitlines()]
    for score in result.scores:
        mine = [take for take in takes if take["part"] == score.part]
        assert len(mine) == len({take["prompt"] for take in mine}) == 2
        assert sum(take["right"][score.what] for take in mine) == score.right
        assert all("color" in take["read"] for take in mine)
    sheet = Image.open(folder / "t2v-first.png")
    assert sheet.height == 2 * (32 + 2)
    assert len(list((folder / "t2v-worst").glob("*.mp4"))) == 2
    with pytest.raises(InputError, match="--force"):
        bench_quality(profile, folder, count=2)
    again = bench_quality(profile, folder, count=2, force=True)
    assert again == result


def test_wilsons_interval() -> None:
    score = Score(part="t2v", what="shape", right=95, count=100)
    assert score.interval == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert Score(part="t2v", what="shape", right=0, count=10).interval[0] == 0
    assert Score(part="t2v", what="shape", right=10, count=10).interval[1] == 1
    at_limit = Score(part="t2v", what="all", right=468, count=550)
    low, high = at_limit.interval
    assert high - low < 0.06


def test_a_count_of_none_is_refused(make_profile: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        bench_quality(make_profile(), tmp_path / "quality", count=0)
    assert not (tmp_path / "quality").exists()
