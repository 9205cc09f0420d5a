# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Coverage reports for people: the values that calibration covers least, in a short table."""
from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

ROWS = 12


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    if share == 0:
        return "0"
    return f"{100 * share:.2g} %" if share >= 1e-4 else "< 0.01 %"


def _range(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:.4g} … {high:.4g}"


def _table(console: Console, title: str, columns: list[str], rows: list[tuple[float, list[str]]]) -> None:
    """The rows with the greatest first entries, in their own order."""
    kept = sorted(sorted(range(len(rows)), key=lambda i: (-rows[i][0], i))[:ROWS])
    table = Table(box=None, header_style="bold", title=title, title_justify="left", title_style="")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for index in kept:
        table.add_row(*rows[index][1])
    console.print(table)
    if len(rows) > len(kept):
        console.print(f"… and {len(rows) - len(kept)} that are covered better; --json lists all", markup=False)


def show_coverage(console: Console, report: dict[str, Any]) -> None:
    """What `lowbit calibrate` found about the data that it was given."""
    rows = []
    for entry in report.get("observers", []):
        if "min" not in entry:
            rows.append((9.0, [entry["name"], "no sample reaches it", *["–"] * 5]))
            continue
        dead = f"{entry['dead_channels']} of {entry['channels']}"
        rows.append((entry.get("widened_since_half", 0.0) + entry.get("saturated", 0.0) + entry["dead_channels"] / max(1, entry["channels"]),
                     [entry["name"], _range(entry["min"], entry["max"]), _range(entry.get("chosen_min"), entry.get("chosen_max")),
                      _percent(entry.get("saturated")), _percent(entry["outermost_tenth"]), _percent(entry.get("widened_since_half")), dead]))
    _table(console, f"{report['samples']} samples; ranges by {report['method']}",
           ["value", "seen", "range", "outside", "in its outer tenth", "wider since half", "dead channels"], rows)


def show_comparison(console: Console, report: dict[str, Any]) -> None:
    """What `lowbit calibrate --coverage` found about other data."""
    rows = []
    for entry in report["observers"]:
        if "min" not in entry:
            rows.append((9.0, [entry["name"], "no sample reaches it", *["–"] * 5]))
            continue
        rows.append((entry["outside"] + entry["wider_by"] + entry.get("saturated", 0.0) + entry["woken_channels"] / max(1, entry["channels"]),
                     [entry["name"], _range(entry["min"], entry["max"]), _range(entry["seen_min"], entry["seen_max"]), _percent(entry["outside"]),
                      _percent(entry.get("saturated")), _percent(entry["wider_by"]), f"{entry['woken_channels']} of {entry['channels']}"]))
    _table(console, f"{report['samples']} samples against a calibration with {report['calibration_samples']}",
           ["value", "calibrated", "seen", "outside", "outside of its scale", "wider by", "channels that were dead"], rows)
