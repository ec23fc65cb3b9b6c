"""The GPU check, rehearsed on a small random base on the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.bench.gpu import check_gpu, table_lines


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
