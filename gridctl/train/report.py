"""The report of a run: one HTML file with curves, previews, settings, data and machine."""

from __future__ import annotations

import base64
import html
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gridctl import __version__
from gridctl.errors import InputError, counted
from gridctl.files import write_text
from gridctl.machine.devices import nvidia_cards
from gridctl.profile import Profile, profile_toml
from gridctl.train.metrics import read_metrics
from gridctl.train.preview import contact_sheets
from gridctl.train.resume import RUN_FILE
from gridctl.train.setup import Setup, run_folder

REPORT_FILE = "report.html"
_WIDTH, _HEIGHT, _EDGE = 560, 220, 46  # of a chart, in SVG units
_COLORS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")
_SHEETS = 24  # contact sheets shown at most, evenly over the run
_SMOOTHING = 0.9
_Line = list[tuple[float, float]]

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em }}
.charts {{ display: flex; flex-wrap: wrap; gap: 1.5em }} figure {{ margin: 0 0 1em }}
figcaption {{ font-weight: 600 }} svg text {{ font: 11px system-ui, sans-serif; fill: #555 }}
img {{ max-width: 100% }} pre {{ background: #f4f4f5; padding: 1em; overflow-x: auto }}
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
    """What the report tells about a run besides its metrics: it goes into run.json."""
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
    """Write `report.html` of a run folder, of a run that is finished or at work.

    It needs no other file and no network. Raises InputError without a run.
    """
    try:
        run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["about"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} holds no run to report on; train first, or check -o."
        ) from error
    log = read_metrics(folder)
    good, verdict = judge(log, total=run["steps"])
    page = _PAGE.format(
        title=html.escape(folder.stem),
        tone="good" if good else "bad",
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


def judge(log: Sequence[Mapping[str, Any]], *, total: int) -> tuple[bool, str]:
    """(whether the run looks well, a sentence on it) from its metrics."""
    steps = [entry for entry in log if entry["step"] > 0]  # 0 is validation of the start
    if not steps:
        return False, "No step is logged yet."
    last = steps[-1]
    where = f"Step {last['step']:,} of {total:,}. "
    if last["loss"] is None or last["grad_norm"] is None:
        return False, f"{where}The loss is not a finite number: the run failed."
    checked = [entry for entry in log if entry.get("validation") is not None]
    if len(checked) > 1:
        values = [entry["validation"] for entry in checked]
        best = min(range(len(values)), key=values.__getitem__)
        text = (
            f"Validation loss {values[0]:.4f} at step {checked[0]['step']:,}, {values[-1]:.4f} now"
        )
        if values[-1] > 1.02 * values[best]:
            step = checked[best]["step"]
            return False, (
                f"{where}{text}; it was best, {values[best]:.4f}, at step {step:,} and has risen "
                "since: the adapter overfits. Consider the checkpoint of that step."
            )
        return values[-1] < values[0], f"{where}{text}."
    tenth = max(1, len(steps) // 10)
    first, now = (_mean(part) for part in (steps[:tenth], steps[-tenth:]))
    text = f"{where}Training loss {first:.4f} at the start, {now:.4f} now."
    return now < first, f"{text} Without grids in val/ nothing tells whether it overfits."


def _own(settings: Sequence[str]) -> list[str]:
    """The lines of a profile without those that only other commands read."""
    others = ("pack.", "unpack.", "caption.")
    return [
        line
        for line in settings
        if not line.removeprefix("# ").startswith(others) or "caption.layout" in line
    ]


def _mean(entries: Sequence[Mapping[str, Any]]) -> float:
    return sum(entry["loss"] or 0.0 for entry in entries) / len(entries)


def _charts(log: Sequence[Mapping[str, Any]]) -> list[str]:
    bands = [band["sigma"] for entry in log for band in entry.get("validation_bands", ())]
    sigmas = sorted(set(bands))
    charts = {
        "Training loss, smoothed": {
            "loss": _smooth(_line(log, "loss")),
            "base": _smooth(_line(log, "base")),
            "temporal": _smooth(_line(log, "temporal")),
        },
        "Validation loss": {"validation": _line(log, "validation")},
        "Validation, base loss by noise level": {
            f"sigma {sigma}": _band(log, sigma, "base") for sigma in sigmas
        },
        "Validation, temporal loss by noise level": {
            f"sigma {sigma}": _band(log, sigma, "temporal") for sigma in sigmas
        },
        "Gradient norm": {"gradient norm": _line(log, "grad_norm")},
        "Learning rate": {"learning rate": _line(log, "learning_rate")},
        "Seconds a step": {"seconds": _line(log, "seconds")},
    }
    return [
        _chart(title, lines)
        for title, lines in charts.items()
        if any(len(line) > 1 for line in lines.values())
    ]


def _line(log: Sequence[Mapping[str, Any]], key: str) -> _Line:
    return [(entry["step"], entry[key]) for entry in log if entry.get(key) is not None]


def _band(log: Sequence[Mapping[str, Any]], sigma: float, kind: str) -> _Line:
    return [
        (entry["step"], band[kind])
        for entry in log
        for band in entry.get("validation_bands", ())
        if band["sigma"] == sigma and band[kind] is not None
    ]


def _smooth(line: _Line) -> _Line:
    mean = weight = 0.0
    smoothed = []
    for step, value in line:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        weight = _SMOOTHING * weight + 1 - _SMOOTHING
        smoothed.append((step, mean / weight))
    return smoothed


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
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<svg width="{_WIDTH}" height="{_HEIGHT}">{frame}{"".join(drawn)}{ends}</svg></figure>'
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
