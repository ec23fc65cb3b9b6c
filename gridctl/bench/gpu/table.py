"""The rows of a GPU check as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = (
    ("run", 42, None),
    ("cap", 7, "cap_gib"),
    ("planned", 9, "planned_gib"),
    ("allocated", 11, "allocated_gib"),
    ("reserved", 10, "reserved_gib"),
    ("s/step", 9, "seconds_per_step"),
    ("MFU", 8, "utilisation"),
)


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each measured row, memory in GiB; what failed says why."""
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
