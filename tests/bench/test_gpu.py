"""The GPU check, rehearsed on a small random base on the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.bench.gpu import check_gpu, table_lines
from gridctl.bench.gpu.meter import append_row, read_rows
from gridctl.bench.random_base import make_base, make_models
from gridctl.models.base import open_base
from gridctl.models.hub import file_hash
from gridctl.profile import load_profile


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A whole check with one preset."""
    output = tmp_path_factory.mktemp("gpu")
    return list(check_gpu(output, size="small", seconds=300, presets=["24gb"]).rows)


def named(rows: list[dict[str, Any]], job: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["job"] == job]


@pytest.mark.slow
def test_a_killed_run_resumes_at_its_checkpoint(rows: list[dict[str, Any]]) -> None:
    steps, end = named(rows, "24gb train")
    assert (steps["steps_done"], end["note"]) == (4, "killed after its checkpoint")
    assert steps["seconds_per_step"] > 0
    (resumed,) = named(rows, "24gb resume")
    assert (resumed["resumed_at"], resumed["steps"], "error" in resumed) == (4, 6, False)


@pytest.mark.slow
def test_every_job_leaves_its_rows(rows: list[dict[str, Any]]) -> None:
    assert named(rows, "base")[0]["torch"] == torch.__version__
    assert named(rows, "encode")[0]["grids"] == 4
    assert named(rows, "24gb generate")[0]["clip_kib"] > 0
    variants = {row["variant"]: row for row in named(rows, "speed") if "variant" in row}
    assert variants.pop("sampling, cuDNN attention")["error"].startswith("UsageError")
    assert len(variants) == 5  # the compiled ones need a GPU
    assert all(row["seconds"] > 0 and row["utilisation"] > 0 for row in variants.values())


@pytest.mark.slow
def test_the_table_has_a_line_for_each_row(rows: list[dict[str, Any]]) -> None:
    lines = table_lines(rows)
    assert lines[0].startswith("size small")
    assert [line for line in lines if line.startswith("24gb resume")]
    assert [line for line in lines if "cuDNN" in line and "UsageError" in line]


def test_a_job_without_time_left_is_skipped(tmp_path: Path) -> None:
    result = check_gpu(tmp_path, size="small", seconds=1, presets=["24gb"])
    assert [row["error"] for row in result.failed] == ["no time left"] * 5


def test_rows_are_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    append_row(path, {"a": 1, "path": tmp_path})
    append_row(path, {"a": 2})
    assert read_rows(path) == [{"a": 1, "path": str(tmp_path)}, {"a": 2}]


@pytest.mark.parametrize("shard_bytes", [20_000, 2**30])
def test_a_random_base_loads_as_flux(tmp_path: Path, shard_bytes: int) -> None:
    folder = make_base(tmp_path / "base", "small", device="cpu", shard_bytes=shard_bytes)
    values = {"model.base": str(folder), "memory.device": "cpu"}
    base = open_base(load_profile(None, values).profile)
    transformer = base.load_transformer()
    weights = sorted((folder / "transformer").glob("*.safetensors"))
    assert (len(weights) > 1) == (shard_bytes < 2**30)
    assert all(file_hash(path) == path.resolve().name for path in weights)  # not read
    assert all(p.isfinite().all() and p.device.type == "cpu" for p in transformer.parameters())
    with base.text_encoders() as encode:
        assert encode.text_tokens == 32
        one, other = encode(["a red circle"]), encode(["a blue square"])
    assert not torch.equal(one.pooled, other.pooled)
    with base.vae() as vae:
        config = vae.config
        assert (config.scaling_factor, config.shift_factor) == (0.3611, 0.1159)


def test_the_full_base_has_the_size_of_flux_dev() -> None:
    billions = {
        part: sum(p.numel() for p in model.parameters()) / 1e9
        for part, (model, _, _) in make_models("full").items()
    }
    expected = {"transformer": 11.90, "vae": 0.084, "text_encoder": 0.123, "text_encoder_2": 4.76}
    assert billions == pytest.approx(expected, rel=0.01)
