"""The GPU check, rehearsed on a small random base on the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.bench.gpu import check_gpu, table_lines
from gridctl.bench.gpu.check import preset_jobs, short_runs


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


def test_the_table_by_hand() -> None:
    rows = [
        {"job": "base", "kind": "base", "size": "full", "torch": "2.11"},
        {"job": "plan", "kind": "plan", "planned_gib": {"24gb train": 12.34}},
        {"job": "24gb train", "kind": "train", "cap_gib": 22.08, "allocated_gib": 11.0,
         "reserved_gib": 13.62, "seconds_per_step": 1.2345},
        {"job": "24gb train", "kind": "train ended", "note": "killed after its checkpoint"},
        {"job": "24gb resume", "kind": "train", "error": "no time left"},
        {"job": "speed", "kind": "speed", "variant": "half", "seconds": 0.5, "utilisation": 0.321},
        {"job": "speed", "kind": "speed", "variants": 10},
    ]  # fmt: skip
    versions, head, *lines = table_lines(rows)
    assert versions == "size full, torch 2.11"
    assert head.split() == ["run", "cap", "planned", "allocated", "reserved", "s/step", "MFU"]
    assert [line.split() for line in lines] == [
        ["24gb", "train", "22.1", "12.3", "11.0", "13.6", "1.234", "-"],
        ["24gb", "resume", "-", "12.3", "-", "-", "-", "-", "no", "time", "left"],
        ["speed:", "half", "-", "-", "-", "-", "0.500", "32.1", "%"],
    ]


def test_a_preset_trains_is_killed_resumes_and_draws(tmp_path: Path) -> None:
    jobs = preset_jobs("24gb", tmp_path / "base", tmp_path, tmp_path, tmp_path / "rows", "full")
    assert [(job.name, job.kind) for job in jobs] == [
        ("24gb train", "train"), ("24gb resume", "train"), ("24gb generate", "generate"),
    ]  # fmt: skip
    assert [job.cap_gib for job in jobs] == [pytest.approx(0.92 * 24)] * 3
    train, resume, draw = jobs
    steps = [train.overrides[f"train.{key}"] for key in ("checkpoint_every", "steps")]
    assert steps == [4, 6]  # the kill comes after the checkpoint, before the end
    assert Path(str(train.until)).name == "step-000004.safetensors"
    assert (resume.until, resume.overrides) == (None, train.overrides)
    assert draw.overrides["model.adapter"] == str(train.overrides["train.output"])
    names = [chain[0].name for chain in short_runs([jobs])]
    assert names == ["24gb int8", "24gb fp8", "24gb previews", "24gb fixed segments"]
    others = preset_jobs("80gb", tmp_path, tmp_path, tmp_path, tmp_path, "full")
    assert short_runs([others]) == []
