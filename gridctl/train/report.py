"""The report of a run: one HTML file with curves, previews, settings, data and machine."""

from __future__ import annotations

import base64
import html
import json
import math
import platform
import statistics
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from gridctl import __version__
from gridctl.errors import InputError, counted
from gridctl.files import write_text
from gridctl.machine.devices import nvidia_cards
from gridctl.profile import Profile, profile_toml
from gridctl.train.checkpoint import list_checkpoints
from gridctl.train.metrics import flat_metrics, read_metrics, smoothed, validation_keys
from gridctl.train.preview import contact_sheets
from gridctl.train.resume import RUN_FILE
from gridctl.train.setup import Setup, run_folder

REPORT_FILE = "report.html"
_WIDTH, _HEIGHT, _EDGE = 560, 220, 46  # of a chart, in SVG units
_COLORS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")
_SHEETS = 24  # contact sheets shown at most, evenly over the run
_MIN_VALIDATIONS = 6  # fewer are no curve that can be judged
_MIN_LOSSES = 20  # of the training loss, which is noisier
_Line = list[tuple[float, float]]  # (step, value)
Tone = Literal["good", "bad", "open"]

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em }}
.charts {{ display: flex; flex-wrap: wrap; gap: 1.5em }} figure {{ margin: 0 0 1em }}
figcaption {{ font-weight: 600 }} svg text {{ font: 11px system-ui, sans-serif; fill: #555 }}
svg, img {{ max-width: 100%; height: auto }}
pre {{ background: #f4f4f5; padding: 1em; overflow-x: auto }}
.good {{ color: #047857 }} .bad {{ color: #b91c1c }}
</style>
<h1>{title}</h1>
<p class="{tone}">{verdict}</p>
<div class="charts">{charts}</div>
{previews}
<h2>Data</h2>{data}
<h2>Machine</h2><p>{machine}</p>
<h2>Settings</h2><pre>{settings}</pre>
</html>
"""


def about(setup: Setup, *, processes: int) -> dict[str, Any]:
    """The parts of a run's report that its metrics do not hold, for run.json."""
    shared = f", {processes} processes" if processes > 1 else ""
    cards = ", ".join(card.name for card in nvidia_cards()) or "no NVIDIA GPU"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "peft"))
    return {
        "steps": setup.total_steps,
        "datasets": list(dict.fromkeys(map(str, setup.datasets))),
        "previews": setup.preview_prompts,
        "profile": profile_toml(setup.profile, keep_folders=False),
        "machine": f"{platform.node()}, {platform.machine()}, {cards}{shared}; "
        f"gridctl {__version__}, Python {platform.python_version()}, {libraries}",
    }


def write_report(folder: Path) -> Path:
    """Write `report.html` of a run folder, whether the run is finished or still training.

    It needs no other file and no network. Raises InputError without a run, or if run.json is
    damaged.
    """
    path = folder / RUN_FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8"))["about"]
    except FileNotFoundError:
        raise InputError(f"{folder} holds no run to report on; train first, or check -o.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); `gridctl train` with the same profile writes it "
            "again."
        ) from error
    log = read_metrics(folder)
    saved = [int(path.stem.removeprefix("step-")) for path in list_checkpoints(folder)]
    tone, verdict = judge(log, total=run["steps"], checkpoints=saved)
    page = _PAGE.format(
        title=html.escape(folder.stem),
        tone=tone,
        verdict=html.escape(verdict),
        charts="".join(_charts(log)),
        previews=_previews(folder, run["previews"]),
        data="".join(f"<p>{html.escape(text)}</p>" for text in run["datasets"]),
        machine=html.escape(run["machine"]),
        settings=html.escape("\n".join(_own(run["profile"].splitlines()))),
    )
    write_text(folder / REPORT_FILE, page)
    return folder / REPORT_FILE


def report(profile: Profile) -> Path:
    """Write the report of a profile's run, and return its path. Raises what `write_report` does."""
    return write_report(run_folder(profile))


def judge(
    log: Sequence[Mapping[str, Any]], *, total: int, checkpoints: Collection[int]
) -> tuple[Tone, str]:
    """A verdict on a run from its log, and a sentence that explains it.

    `total` is the number of steps, `checkpoints` the steps that can be exported. Without enough
    points for a verdict, or if the loss moves within its noise, the sentence only says what is
    known.
    """
    steps = [entry for entry in log if entry["step"] > 0]  # 0 is validation before training
    if not steps:
        return "open", "No step is logged yet."
    where = f"Step {steps[-1]['step']:,} of {total:,}. "
    if steps[-1]["loss"] is None or steps[-1]["grad_norm"] is None:
        return "bad", f"{where}The loss is not a finite number: the run failed."
    validation = _line(log, "validation")
    tone, text = (
        _judge_validation(validation, checkpoints)
        if len(validation) > 1
        else _judge_training([loss for _, loss in _line(steps, "loss")])
    )
    return tone, where + text


def _judge_validation(line: _Line, checkpoints: Collection[int]) -> tuple[Tone, str]:
    """Judge (step, loss) of each validation.

    The lowest of several noisy losses is low by chance, so overfitting takes more than a loss
    above it: the last three must all be higher, by 2 % and by three standard deviations.
    """
    (first_step, first), (_, last) = line[0], line[-1]
    text = f"Validation loss {first:.4f} at step {first_step:,.0f}, {last:.4f} now"
    if len(line) < _MIN_VALIDATIONS:
        return "open", (
            f"{text}. It is too early for a verdict: that takes {_MIN_VALIDATIONS} validations, "
            f"and there are {len(line)}."
        )
    best_step, best = min(line, key=lambda point: point[1])
    recent = [loss for _, loss in line[-3:]]
    noise = _noise([loss for _, loss in line])
    if min(recent) - best > max(0.02 * best, 3 * noise):
        if best_step == 0:
            return "bad", (
                f"{text}: training has only raised it. Lower train.learning_rate, or check that "
                "val/ shows what the other grids show."
            )
        return "bad", (
            f"{text}. It was lowest, {best:.4f}, at step {best_step:,.0f} and has risen since: the "
            f"adapter overfits. {_way_back(line, checkpoints, below=min(recent))}"
        )
    if first - max(recent) > 3 * noise:
        return "good", f"{text}; the lowest was {best:.4f}, at step {best_step:,.0f}."
    return "open", f"{text}: no change beyond its noise."


def _noise(values: Sequence[float]) -> float:
    """The standard deviation of values around a curve, from their second differences.

    The median of absolute values, so that a few large changes count little. 1.48 makes it a
    standard deviation, and a second difference has six times the variance of a value.
    """
    bends = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return 1.48 * statistics.median(bends) / math.sqrt(6)


def _way_back(line: _Line, checkpoints: Collection[int], *, below: float) -> str:
    """The checkpoint with the lowest validation loss, if one is there that was better than now."""
    better = [(loss, int(step)) for step, loss in line if step in checkpoints and loss < below]
    if not better:
        return "No checkpoint from before the rise is left; train again with fewer steps."
    loss, step = min(better)
    return f"--export {step} writes the adapter of the best checkpoint that is left ({loss:.4f})."


def _judge_training(losses: Sequence[float]) -> tuple[Tone, str]:
    """Judge the training losses: the mean of their last quarter against that of the first."""
    quarter = max(1, len(losses) // 4)
    first, last = losses[:quarter], losses[-quarter:]
    before, now = statistics.fmean(first), statistics.fmean(last)
    text = f"Training loss {before:.4f} at the start, {now:.4f} now"
    blind = "Without grids in val/, overfitting does not show."
    if len(losses) < _MIN_LOSSES:
        return "open", f"{text}. It is too early for a verdict. {blind}"
    noise = math.sqrt((statistics.variance(first) + statistics.variance(last)) / quarter)
    if abs(now - before) <= 2 * noise:
        return "open", f"{text}: no change beyond its noise. {blind}"
    return ("good" if now < before else "bad"), f"{text}. {blind}"


def _own(settings: Sequence[str]) -> list[str]:
    """The lines of a profile that training reads."""
    others = ("pack.", "unpack.", "caption.")
    return [
        line
        for line in settings
        if not line.removeprefix("# ").startswith(others) or "caption.layout" in line
    ]


def _charts(log: Sequence[Mapping[str, Any]]) -> list[str]:
    flat = [{"step": entry["step"], **flat_metrics(entry)} for entry in log]

    def lines(*keys: str) -> dict[str, _Line]:
        return {key.rpartition("/")[-1].replace("_", " "): _line(flat, key) for key in keys}

    losses = lines("loss", "base", "temporal")
    charts = {
        "Training loss, smoothed": {name: _smooth(line) for name, line in losses.items()},
        "Validation loss": lines("validation"),
        "Validation, base loss by noise level": lines(*validation_keys("base")),
        "Validation, temporal loss by noise level": lines(*validation_keys("temporal")),
        "Gradient norm": lines("grad_norm"),
        "Learning rate": lines("learning_rate"),
        "Seconds per step": lines("seconds"),
    }
    return [
        _chart(title, lines)
        for title, lines in charts.items()
        if any(len(line) > 1 for line in lines.values())
    ]


def _line(log: Sequence[Mapping[str, Any]], key: str) -> _Line:
    return [(entry["step"], entry[key]) for entry in log if entry.get(key) is not None]


def _smooth(line: _Line) -> _Line:
    return list(zip((step for step, _ in line), smoothed(v for _, v in line), strict=True))


def _chart(title: str, lines: Mapping[str, _Line]) -> str:
    """An SVG of lines by name, with the ends of both axes written at them."""
    points = [point for line in lines.values() for point in line]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    high = high if high > low else low + (abs(low) or 1.0)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / max(1, right - left)
        up = (y - low) / (high - low)
        return (
            round(_EDGE + across * (_WIDTH - _EDGE - 8), 1),
            round(_HEIGHT - 24 - up * (_HEIGHT - 56), 1),
        )

    drawn = []
    for index, (name, line) in enumerate(lines.items()):
        color = _COLORS[index]
        path = " ".join("{},{}".format(*place(*point)) for point in line)
        drawn.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{path}"/>')
        legend = _EDGE + 110 * index
        drawn.append(f'<text x="{legend}" y="12" style="fill:{color}">{html.escape(name)}</text>')
    ends = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
        for x, y, anchor, text in (
            (_EDGE - 4, 36, "end", f"{high:.3g}"),
            (_EDGE - 4, _HEIGHT - 24, "end", f"{low:.3g}"),
            (_EDGE, _HEIGHT - 6, "start", f"step {left:,.0f}"),
            (_WIDTH - 8, _HEIGHT - 6, "end", f"{right:,.0f}"),
        )
    )
    frame = f'<path d="M{_EDGE} 28V{_HEIGHT - 22}H{_WIDTH - 8}" fill="none" stroke="#ccc"/>'
    size = f'width="{_WIDTH}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f"<svg {size}>{frame}{''.join(drawn)}{ends}</svg></figure>"
    )


def _previews(folder: Path, prompts: Sequence[str]) -> str:
    sheets = contact_sheets(folder)
    if not sheets:
        return ""
    steps = list(sheets)
    every = -(-len(steps) // _SHEETS)
    shown = [*steps[:-1:every], steps[-1]]
    rows = "".join(f"<li>{html.escape(prompt)}</li>" for prompt in prompts)
    images = "".join(
        f"<figure><figcaption>step {step:,}</figcaption>"
        f'<img alt="previews at step {step}" src="data:image/jpeg;base64,'
        f'{base64.b64encode(sheets[step].read_bytes()).decode()}"></figure>'
        for step in shown
    )
    return f"<h2>Previews</h2><p>{counted(len(prompts), 'row')}:</p><ol>{rows}</ol>{images}"
