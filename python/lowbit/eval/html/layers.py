# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The layers of all bundles in one table that sorts and filters: schemes, bytes, weight errors, and what each layer costs."""
from __future__ import annotations

import math
from typing import Any

from ..report import Report, show
from .markup import Cell, Html, details, number, table, tag, text

MOST = 2000  # rows; beyond that those with the largest errors
_BUDGET = ("weight_rounding_db", "activation_clipping_db", "activation_rounding_db", "kernel_db")
_TITLES = {"weight_rounding": "weight rounding", "activation_clipping": "activation clipping", "activation_rounding": "activation rounding", "kernel": "kernel"}


def layers(report: Report, name: str) -> Html:
    data = report.data
    entries = [entry for c, own in zip(data["candidates"], report.layers) for entry in _entries(c, own or [])]
    if not entries:
        return Html("")
    shown = entries
    if len(entries) > MOST:
        chosen = set(sorted(range(len(entries)), key=lambda i: -_damage(entries[i]))[:MOST])
        shown = [entry for i, entry in enumerate(entries) if i in chosen]
    sensitive, budget = any("alone" in e for e in shown), any("budget" in e for e in shown)
    top = {c["name"]: max((e.get("error") or 0 for e in shown if e["model"] == c["name"]), default=0) for c in data["candidates"]}
    columns = [("layer", "text"), ("model", "text"), ("operator", "text"), ("weights", "text"), ("activations", "text"),
               ("bytes", "number"), ("of fp32", "number"), ("weight error", "number")]
    if sensitive:
        columns += [("drift alone", "number"), ("share", "number"), ("drift without", "number"), ("gain", "number")]
    if budget:
        columns += [*((f"{_TITLES[key[:-3]]} dB", "number") for key in _BUDGET), ("largest part", "text")]
    columns.append(("kernel", "text"))
    rows = [_row(entry, top[entry["model"]], sensitive, budget) for entry in shown]
    models = list(dict.fromkeys(e["model"] for e in shown))
    choice = (tag("label", "Model ", tag("select", tag("option", "all", value=""), *(tag("option", m, value=m) for m in models)))
              if len(models) > 1 else None)
    form = tag("form", tag("label", "Filter ", tag("input", type="search", placeholder="name, operator, i4 …", aria_controls=name)), choice,
               tag("output", aria_live="polite", class_="soft"), class_="filter", data_for=name, hidden=True)
    ranges = [_ranges(c) for c in data["candidates"]]
    more = tag("p", f"{len(entries) - len(shown):,} of {len(entries):,} layers, with the smallest errors, are in the bundles' manifests alone.", class_="soft") if len(shown) < len(entries) else None
    grid = table("Layers of the bundles; weight error is relative to the weights' norm", columns, rows, sort=True, name=name)
    return text(*(_measured(c) for c in data["candidates"]), form, Html(grid.replace('class="scroll"', 'class="scroll tall"', 1)) if len(rows) > 20 else grid, more, *ranges)


def _entries(candidate: dict[str, Any], own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The manifest's layers with what sensitivity and error budget say of them."""
    measured = {e["layer"]: e for e in candidate.get("sensitivity", {}).get("layers", [])}
    split = {e["layer"]: e for e in candidate.get("error_budget", {}).get("layers", [])}
    return [{**layer, "name": str(layer.get("name")), "model": candidate["name"],
             **{key: measured[layer["name"]].get(key) for key in ("alone", "alone_share", "restored", "restore_gain") if layer.get("name") in measured},
             **({"budget": split[layer["name"]]} if layer.get("name") in split else {})} for layer in own]


def _damage(entry: dict[str, Any]) -> float:
    """What decides which layers are shown where there are too many: measured sensitivity first, else the weight error."""
    alone, error = entry.get("alone"), entry.get("error") or 0.0
    return 1e6 + alone if alone is not None and not math.isnan(alone) else error


def _row(entry: dict[str, Any], top: float, sensitive: bool, budget: bool) -> list[Any]:
    size, full, error = entry.get("bytes"), entry.get("fp32_bytes"), entry.get("error")
    share = size / full if size is not None and full else None
    row = [entry["name"], entry["model"], str(entry.get("op") or "–"), _scheme(entry), str(entry.get("activations") or "–"),
           number(size), number(share, f"{share:.0%}" if share is not None else "–")]
    meter = tag("span", tag("i", style=f"width:{100 * error / top:.0f}%"), class_="meter") if error and top else None
    row.append(Cell(text(show(error), meter), error))
    if sensitive:
        alone = entry.get("alone_share")
        row += [number(entry.get("alone")), number(alone, f"{alone:.1%}" if alone is not None else "–"), number(entry.get("restored")), number(entry.get("restore_gain"))]
    if budget:
        parts = entry.get("budget", {})
        row += [*(number(parts.get(key)) for key in _BUDGET), _TITLES.get(parts.get("largest", ""), parts.get("reason", "–"))]
    return [*row, str(entry.get("kernel") or "–")]


def _scheme(entry: dict[str, Any]) -> str:
    """Type, granularity and algorithm of the weights: "u4 per group of 128, mse"."""
    weights, per = str(entry.get("weights") or "–"), entry.get("per")
    if weights in ("float", "–") or not per:
        return weights
    group = f" of {entry['group']}" if per == "group" and entry.get("group") else ""
    return f"{weights} per {per}{group}" + (f", {entry['algorithm']}" if entry.get("algorithm") else "")


def _ranges(candidate: dict[str, Any]) -> Html | None:
    """How much of the evaluation's activations lies outside of what calibration saw, where that was looked at."""
    found = candidate.get("outside_range")
    if not found:
        return None
    rows = [[str(row["name"]), *(number(row.get(key), f"{row[key]:.3%}" if row.get(key) is not None else None) for key in ("outside", "saturated")), number(row.get("wider_by"))] for row in found]
    columns = [("value", "text"), ("outside of what was seen", "number"), ("clipped", "number"), ("wider by", "number")]
    return details(f"Calibrated ranges of {candidate['name']}", table(f"Share of the evaluation's values outside of the ranges of {candidate['name']}", columns, rows[:MOST], sort=True))


def _measured(candidate: dict[str, Any]) -> Html | None:
    found = candidate.get("sensitivity")
    if not found:
        return None
    what = "mean KL in nats" if found["measure"] == "kl" else "cosine distance"
    return tag("p", tag("strong", candidate["name"]), f": {what} of '{found['output']}' on {found['samples']:,} samples is {show(found['whole'])} with all layers quantized; "
               "“drift alone” is with this layer quantized alone, “drift without” with all others.", class_="soft")
