"""Clips, weights and old files stay as they are: values of the built-in model, kept in golden/.

Other processors sum in another order, so a few values may differ by a level or in the last digits.
`tests/golden/values.py` has the commands and writes the values again.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.golden.values import (
    CLIPS,
    FOLDER,
    OLD,
    gridctl,
    in_blocks,
    metrics_of,
    read_frames,
    weights_of,
    write_inputs,
)

MEAN_LEVELS, MOST_LEVELS = 0.25, 3  # of 255: means of 4x4 pixels, rounded to whole levels


@pytest.fixture
def inputs(made_once: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the commands are given: the current folder."""
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    folder = tmp_path / "inputs"
    shutil.copytree(made_once("golden", write_inputs), folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", CLIPS)
def test_clips_stay_as_they_are(name: str, inputs: Path) -> None:
    expected = np.load(FOLDER / "clips.npz")[name].astype(np.float32)
    assert gridctl("generate", *CLIPS[name], "-o", "drawn-now.webp") == 0
    drawn = in_blocks(read_frames(inputs / "drawn-now.webp"))
    assert drawn.shape == expected.shape
    gaps = np.abs(drawn.round() - expected)
    assert gaps.mean() < MEAN_LEVELS
    assert gaps.max() <= MOST_LEVELS


def test_a_record_of_old_code_draws_the_same_clip(inputs: Path) -> None:
    assert gridctl("generate", "--from", "drawn.webp", "-o", "again.webp") == 0
    gaps = np.abs(
        in_blocks(read_frames(inputs / "again.webp")) - in_blocks(read_frames(OLD / "drawn.webp"))
    )
    assert gaps.mean() < MEAN_LEVELS
    assert gaps.max() <= MOST_LEVELS


@pytest.mark.parametrize("run", ["training", "resumed"])
def test_training_gives_the_same_weights(run: str, inputs: Path) -> None:
    """`resumed` goes on from a checkpoint that old code has written."""
    expected = json.loads((FOLDER / "training.json").read_text())[run]
    assert gridctl("train", f"{run}.toml", "-o", f"{run}.safetensors") == 0
    for found, wanted in zip(metrics_of(inputs / f"{run}.run"), expected["metrics"], strict=True):
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    weights = weights_of(inputs / f"{run}.safetensors")
    assert weights["norms"] == pytest.approx(expected["weights"]["norms"], rel=1e-3)
    assert weights["values"].keys() == expected["weights"]["values"].keys()
    for name, values in expected["weights"]["values"].items():
        gap = np.linalg.norm(np.subtract(weights["values"][name], values))
        assert gap < 1e-2 * np.linalg.norm(values)
