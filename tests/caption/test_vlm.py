"""`vlm` on a real model: GLM-4.1V's classes with some thousand parameters, trained on the spot."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BatchFeature

from gridctl.caption import caption, open_describer
from gridctl.caption.vlm import VlmDescriber
from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import UsageError
from gridctl.geometry import Grid
from gridctl.profile import CaptionSection, load_profile

Run = Callable[..., subprocess.CompletedProcess[str]]


def seen(number: int) -> str:
    """The caption of the coloured grid of that number."""
    colour = "blue" if number % 2 else "red"
    opening = "2x2 grid of 4 video frames in reading order."
    return f"{opening} A {colour} picture. It stays {colour}.\n"


def test_a_glm_describes_what_it_sees_in_batches(
    glm: Path, coloured: Path, run_with_torchvision: Run
) -> None:
    (coloured / "vid2.png").write_bytes((coloured / "vid2.png").read_bytes()[:3000])
    strip = Grid(rows=1, cols=300, cell=(16, 16))  # GLM takes nothing that is longer than 200:1
    metadata = GridMetadata(grid=strip, source="c", times_seconds=(0.0,), fps=1.0, num_frames=1)
    save_grid(np.zeros((16, 16 * 300, 3), np.uint8), coloured / "vid9.png", metadata)
    profile = coloured.parent / "mine.toml"
    profile.write_text(f'[caption]\nbackend = "vlm"\nmodel = "{glm}"\nbatch = 3\n')
    done = run_with_torchvision("gridctl", "caption", coloured, "--profile", profile)
    assert done.returncode == 3, done.stderr
    texts = {path.stem: path.read_text() for path in coloured.glob("*.txt")}
    assert texts == {f"vid{k}": seen(k) for k in (0, 1, 3, 4)}
    assert "vid2.png" in done.stderr
    assert f"vid9.png: {glm} cannot take it (absolute aspect ratio" in done.stderr
    assert "Warning" not in done.stderr
    # The profile, the rate, two equal captions, two failures, and their count.
    assert len(done.stderr.splitlines()) == 7
    entries = map(json.loads, (coloured / "metadata.jsonl").read_text().splitlines())
    made = {entry["file_name"]: entry for entry in entries}
    assert made["vid0.png"]["caption_backend"] == "vlm"
    assert made["vid0.png"]["caption_model"] == str(glm)
    assert "Describe what is seen" in made["vid0.png"]["caption_prompt"]


@pytest.mark.slow
@pytest.mark.parametrize("view", ["grid", "keyframes", "frames"])
def test_every_view_in_half_precision(
    view: str, glm: Path, coloured: Path, run_with_torchvision: Run
) -> None:
    profile = coloured.parent / "mine.toml"
    profile.write_text('[model]\ndtype = "bfloat16"\n[memory]\npreset = "cpu"\n')
    flags = ["--backend", "vlm", "--model", glm, "--view", view, "--profile", profile]
    done = run_with_torchvision("gridctl", "caption", coloured, *flags)
    assert done.returncode == 0, done.stderr
    texts = {path.stem: path.read_text() for path in coloured.glob("*.txt")}
    assert texts == {f"vid{k}": seen(k) for k in range(5)}


@pytest.mark.slow
def test_a_broken_model_is_one_error_line(
    glm: Path, coloured: Path, run_with_torchvision: Run
) -> None:
    for change in ("model.safetensors", "chat_template.jinja", "config.json"):
        kept = (glm / change).read_bytes()
        (glm / change).unlink()
        try:
            flags = ["--backend", "vlm", "--model", glm, "--quiet"]
            done = run_with_torchvision("gridctl", "caption", coloured, *flags)
        finally:
            (glm / change).write_bytes(kept)
        assert done.returncode == 1, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert str(glm) in done.stderr
    assert not list(coloured.glob("*.txt"))


class ThinkingAloud:
    """A processor whose template begins the answer with a thought, and its model, in outline."""

    tokenizer = SimpleNamespace(
        padding_side="right", bos_token=None, pad_token=None, eos_token="<eos>"
    )
    generation_config = SimpleNamespace(eos_token_id=0)
    device, dtype = "cpu", torch.float32

    def apply_chat_template(self, *_: object, **__: object) -> str:
        return "What is it? <think>\n"

    def __call__(self, **_: object) -> BatchFeature:
        return BatchFeature({"input_ids": torch.ones(1, 3, dtype=torch.long)})

    def generate(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.cat([input_ids, torch.ones(1, 8, dtype=torch.long)], dim=1)

    def decode(self, *_: object, **__: object) -> str:
        return "The first frame shows a dog. The next"


def test_a_thought_begun_by_the_template(coloured: Path) -> None:
    image = coloured / "vid0.png"
    outline = ThinkingAloud()
    model = VlmDescriber(
        model="m",
        network=outline,
        processor=outline,
        settings=CaptionSection(max_tokens=8),
    )
    (failure,) = caption([image], describer=model).failed
    assert "still thinking" in failure.reason
    assert not image.with_suffix(".txt").exists()


def test_missing_torchvision_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    profile = load_profile(None, {"caption.backend": "vlm"}).profile
    with pytest.raises(UsageError, match=r"needs torchvision.*pip install torchvision"):
        open_describer(profile)


def test_a_missing_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    flags = {"caption.backend": "vlm", "memory.preset": "24gb"}
    with pytest.raises(UsageError, match="asks for a GPU"):
        open_describer(load_profile(None, flags).profile)
