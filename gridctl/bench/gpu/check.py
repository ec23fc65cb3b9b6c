"""The GPU check: a random base, then every preset's jobs, as many at once as fit on the card."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gridctl.bench.gpu.jobs import PROMPT, GpuJob, planned_gib, run_job, where_it_was
from gridctl.bench.gpu.meter import append_row, read_rows
from gridctl.bench.harness import package_version
from gridctl.bench.random_base import make_base, make_grids
from gridctl.machine.devices import nvidia_cards
from gridctl.models.flux1 import Size
from gridctl.profile import PRESETS, load_profile

IN_ORDER = ("12gb", "80gb", "48gb", "24gb", "16gb")  # as time is limited
STEPS_BEFORE_KILL = 4
# Share of a card's nominal GB that a process can use, as GiB: drivers and cards differ.
USABLE_SHARE = 0.92
AT_ONCE = 4  # processes: more of them load no faster
_PACKAGES = ("torch", "diffusers", "transformers", "peft", "bitsandbytes", "torchao")
_THREADS = "4"  # of a process: several load at once, and threads that wait for cores only spin

_COLUMNS = (
    ("run", 42, None),
    ("cap", 7, "cap_gib"),
    ("planned", 9, "planned_gib"),
    ("allocated", 11, "allocated_gib"),
    ("reserved", 10, "reserved_gib"),
    ("s/step", 9, "seconds_per_step"),
    ("MFU", 8, "utilisation"),
)


@dataclass(frozen=True, kw_only=True)
class GpuResult:
    """The rows of a check in the order in which they were written, and their file."""

    results: Path
    rows: tuple[dict[str, Any], ...]

    @property
    def failed(self) -> tuple[dict[str, Any], ...]:
        return tuple(row for row in self.rows if "error" in row)


def check_gpu(
    output: Path,
    *,
    size: Size = "full",
    seconds: float = 440,
    presets: Sequence[str] = IN_ORDER,
    scratch: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> GpuResult:
    """Run every preset on the card: train, kill, resume, generate, encode; rows as they come.

    `size` "small" takes a small random base and the CPU: what can be rehearsed without a GPU.
    Ends after `seconds`, with the rows that are done, as JSON lines in `output`. `scratch` is
    where the base is made for the time of the check: a RAM disk (/dev/shm) with 60 GB free.
    """
    deadline = time.monotonic() + seconds
    output.mkdir(parents=True, exist_ok=True)
    results = output / "gpu-check.jsonl"
    results.unlink(missing_ok=True)
    ram = Path("/dev/shm")
    with TemporaryDirectory(
        prefix="gridctl-gpu-", dir=scratch or (ram if ram.is_dir() else None)
    ) as work:
        _check(Path(work), results, size=size, deadline=deadline, presets=presets, note=note)
    return GpuResult(results=results, rows=tuple(read_rows(results)))


def _check(
    work: Path,
    results: Path,
    *,
    size: Size,
    deadline: float,
    presets: Sequence[str],
    note: Callable[[str], None],
) -> None:
    card = nvidia_cards()[0] if size == "full" else None
    room = card.memory_mib / 1024 - 2 if card else 64.0
    os.environ.setdefault("OMP_NUM_THREADS", _THREADS)
    context = multiprocessing.get_context("spawn")  # a fork has no CUDA, if anything began it
    started = time.monotonic()
    with ProcessPoolExecutor(6 if card else 1, mp_context=context) as pool:
        base = make_base(
            work / "base", size, device="cuda" if card else "cpu", workers=pool if card else None
        )
    grid = load_profile("flux-dev-24gb", _small(size)).profile.grid.to_grid()
    data = make_grids(work / "grids", grid, count=4)
    row = {"job": "base", "kind": "base", "size": size, "wall_seconds": _since(started)}
    append_row(
        results,
        {
            **row,
            **{name: package_version(name) or "none" for name in _PACKAGES},
            "card": card.name if card else "cpu",
        },
    )
    note(f"base: {row['wall_seconds']} s")
    runner = _Runner(context=context, room=room, deadline=deadline, results=results, note=note)
    chains = [preset_jobs(preset, base, data, work, results, size) for preset in presets]
    if card:
        planned = {chain[0].name: planned_gib(chain[0]) for chain in chains}
        append_row(results, {"job": "plan", "kind": "plan", "planned_gib": planned})
    first = chains[0][0]
    encode = replace(first, name="encode", kind="encode", seconds=40, until=None)
    measured = preset_jobs("80gb", base, data, work, results, size)[0]
    cap = min(92.0, room) if card else None
    speed = replace(measured, name="speed", kind="speed", cap_gib=cap, seconds=100, until=None)
    runner.run_together([[encode], [speed]])  # the card to itself, once both are loaded
    others = short_runs(chains) if card else []
    runner.run_together([*chains, *others])


def short_runs(chains: Sequence[Sequence[GpuJob]]) -> list[list[GpuJob]]:
    """Short runs of other ways to train with the preset 24gb, if it is among the chains."""
    ways: dict[str, dict[str, Any]] = {
        "int8": {"memory.quantize": "int8"},
        "fp8": {"memory.quantize": "fp8"},
        "previews": {"train.preview_every": 2, "train.preview_prompts": [PROMPT]},
        "fixed segments": {},
    }
    trained = [chain[0] for chain in chains if chain[0].profile == "flux-dev-24gb"]
    return [
        [
            replace(
                train,
                name=f"24gb {way}",
                overrides={
                    **train.overrides,
                    **values,
                    "train.steps": STEPS_BEFORE_KILL,
                    "train.output": train.work / f"{way.replace(' ', '-')}.safetensors",
                },
                until=None,
                expandable=way != "fixed segments",
            )
        ]
        for train in trained
        for way, values in ways.items()
    ]


def preset_jobs(
    preset: str, base: Path, data: Path, work: Path, results: Path, size: Size
) -> list[GpuJob]:
    """A preset's jobs: train until the checkpoint and be killed, resume, generate."""
    output = work / f"{preset}.safetensors"
    overrides = {
        "model.base": str(base),
        "train.data": data,
        "train.output": output,
        "train.accumulate": 1,
        "train.log_every": 1,
        "train.steps": STEPS_BEFORE_KILL + 2,
        "train.checkpoint_every": STEPS_BEFORE_KILL,
        "train.keep_checkpoints": 1,
        "generate.steps": 8,
        **_small(size),
    }
    train = GpuJob(
        name=f"{preset} train",
        kind="train",
        profile=f"flux-dev-{preset}",
        overrides=overrides,
        work=work,
        results=results,
        cap_gib=USABLE_SHARE * (PRESETS[preset].card_gib or 0) if size == "full" else None,
        seconds=70,
        until=str(output.with_suffix(".run") / f"step-{STEPS_BEFORE_KILL:06}.safetensors"),
    )
    drawn = {**overrides, "model.adapter": str(output)}
    return [
        train,
        replace(train, name=f"{preset} resume", until=None),
        replace(train, name=f"{preset} generate", kind="generate", overrides=drawn, until=None),
    ]


def _small(size: Size) -> dict[str, Any]:
    if size == "full":
        return {}
    small = {"grid.rows": 2, "grid.cols": 2, "grid.cell": "32x32", "model.text_tokens": 32}
    return small | {
        "memory.device": "cpu",
        "memory.quantize": "none",
        "memory.offload": "none",
        "train.rank": 4,
        "generate.steps": 2,
    }


class _Runner:
    """Runs chains of jobs, each in its process, when the card has room for its cap."""

    def __init__(
        self,
        *,
        context: Any,
        room: float,
        deadline: float,
        results: Path,
        note: Callable[[str], None],
    ) -> None:
        self._context, self._deadline, self._results = context, deadline, results
        self._note = note
        self._room, self._places = room, AT_ONCE
        self._changed = threading.Condition()

    def run_together(self, chains: Sequence[Sequence[GpuJob]]) -> None:
        """Chains side by side, begun in their order, as far as the card has room."""
        threads = [threading.Thread(target=self.run, args=(chain,)) for chain in chains]
        for thread in threads:
            thread.start()
            time.sleep(0.2)  # so that they queue in this order
        for thread in threads:
            thread.join()

    def run(self, chain: Sequence[GpuJob]) -> None:
        """The jobs of a chain one after the other; what has no time left is a row, too."""
        needed = max(job.cap_gib or 0 for job in chain)
        with self._changed:
            while not self._fits(needed) and time.monotonic() < self._deadline:
                self._changed.wait(timeout=1)
            self._room -= needed
            self._places -= 1
        try:
            for job in chain:
                self._run(job)
            _clear(chain[0])
        finally:
            with self._changed:
                self._room += needed
                self._places += 1
                self._changed.notify_all()

    def _fits(self, gib: float) -> bool:
        return self._room >= gib and self._places > 0

    def _run(self, job: GpuJob) -> None:
        left = self._deadline - time.monotonic()
        if left < job.seconds / 2:
            append_row(self._results, {"job": job.name, "kind": job.kind, "error": "no time left"})
            return
        started = time.monotonic()
        process = self._context.Process(target=run_job, args=(job,))
        process.start()
        killed = self._wait(process, job)
        if killed or process.exitcode:
            facts = {"job": job.name, "kind": f"{job.kind} ended", "wall_seconds": _since(started)}
            reason = killed or f"exit code {process.exitcode}"
            expected = killed == "killed after its checkpoint"
            append_row(self._results, {**facts, "note" if expected else "error": reason})
        self._note(f"{job.name}: {_since(started)} s")

    def _wait(self, process: Any, job: GpuJob) -> str | None:
        """Until it ends by itself, has left the file it waits for, or the time is over."""
        while process.is_alive():
            process.join(timeout=0.05)
            if job.until and Path(job.until).exists():
                process.kill()
                process.join()
                return "killed after its checkpoint"
            if time.monotonic() > self._deadline:
                os.kill(process.pid, signal.SIGUSR1)  # it writes where it is
                process.join(timeout=1)
                process.kill()
                process.join()
                return f"cut off: the time is over, at {where_it_was(job)}"
        return None


def _clear(job: GpuJob) -> None:
    """Delete what a chain wrote: the RAM disk has room for the base and few runs."""
    output = Path(job.overrides["train.output"])
    shutil.rmtree(output.with_suffix(".run"), ignore_errors=True)
    output.unlink(missing_ok=True)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The measured rows as lines of a table, memory in GiB; a failed one ends with its error."""
    plans: list[dict[str, float]] = [r["planned_gib"] for r in rows if r["kind"] == "plan"]
    planned = plans[0] if plans else {}
    lines = ["".join(f"{name:<{width}}" for name, width, _ in _COLUMNS)]
    for row in rows:
        if row["kind"] == "base":
            versions = {k: v for k, v in row.items() if k not in ("job", "kind")}
            lines.insert(0, ", ".join(f"{name} {value}" for name, value in versions.items()))
            continue
        if row["kind"] == "plan" or "note" in row or "variants" in row:
            continue
        if row["kind"] == "train":
            expected = planned.get(row["job"].replace("resume", "train"))
            row = {**row, "planned_gib": expected}
        name = f"{row['job']}: {row['variant']}" if "variant" in row else row["job"]
        values = [name, *(_shown(row, key) for _, _, key in _COLUMNS[1:] if key)]
        line = "".join(f"{v:<{w}}" for v, (_, w, _) in zip(values, _COLUMNS, strict=True))
        lines.append(f"{line}{row.get('error', '')}".rstrip())
    return lines


def _shown(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if key == "seconds_per_step" and value is None:
        value = row.get("seconds")
    if value is None:
        return "-"
    if key == "utilisation":
        return f"{100 * value:.1f} %"
    return f"{value:.3f}" if key == "seconds_per_step" else f"{value:.1f}"
