# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What was found: verdicts, figures, size against quality, tails, flips and slices."""
from __future__ import annotations

import math
from typing import Any

from ..report import PERCENT, Report, show, show_task
from . import charts
from .markup import Cell, Html, details, number, table, tag, text

QUANTITIES = {
    "kl": "KL divergence in nats", "loss_increase": "increase of the loss in nats", "confidence_loss": "fall of the probability of the reference's choice",
    "max_abs": "largest absolute error", "relative_error": "relative error", "cosine_distance": "cosine distance", "value_change": "change of the value"}


def is_distribution(data: dict[str, Any]) -> bool:
    """Whether the task compares distributions: KL and flips are there."""
    return all("kl" in c["tail"] for c in data["candidates"])


def legend(data: dict[str, Any]) -> Html:
    return tag("ul", *(tag("li", charts.swatch(i), f"{i + 1} {c['name']}") for i, c in enumerate(data["candidates"])), class_="legend")


def verdicts(report: Report) -> Html:
    """One sentence for each candidate: the verdict, the rule, and where."""
    cards = []
    for c in report.data["candidates"]:
        v = c["verdict"]
        where = f"; {v['where']}" if v["where"] else ""
        cards.append(tag("li", tag("p", tag("b", v["value"]), " ", tag("strong", c["name"])), tag("p", f"{v['rule']}{where}."), class_=f"card {v['value']}"))
    notes = [tag("p", "Warning: ", warning, class_="note") for warning in report.data["guards"]["warnings"]]
    return text(tag("ul", *cards, class_="cards"), *notes)


def gates(report: Report) -> Html:
    """Gates and what got worse against an earlier result, where there are any."""
    data, parts = report.data, []
    if data.get("gates"):
        rows = [[g["gate"], g["candidate"], number(g["value"]), Cell("holds" if g["holds"] else "fails", kind=f"v {'ok' if g['holds'] else 'cliff'}")] for g in data["gates"]]
        parts.append(table("Gates", [("gate", "text"), ("model", "text"), ("value", "number"), ("", "text")], rows))
    for entry in data.get("baseline", {}).get("regressions", []):
        parts.append(tag("p", f"Worse than in {data['baseline']['file']}: {entry['candidate']}: {entry['what']}.", class_="note"))
    return text(*parts)


def figures(report: Report) -> Html:
    """One row per model."""
    data = report.data
    reference, metric = data["reference"], (data["reference"]["task"] or {}).get("metric")
    distribution = is_distribution(data)

    def task(entry: dict[str, Any] | None) -> list[Cell]:
        if not entry or entry["value"] is None:
            return [number(None)] * 3
        change, interval = entry.get("change"), entry.get("ci95")
        return [number(entry["value"], show_task(metric, entry["value"])), Cell(" … ".join(show_task(metric, v) for v in interval) if interval else "–"),
                number(change["value"], _signed(metric, change["value"])) if change else number(None)]

    columns = [("model", "text"), ("verdict", "text"), (metric or "task", "number"), ("95 % interval", "number"), ("change", "number"), ("bytes", "number"), ("of reference", "number")]
    speed = any("speed" in c for c in data["candidates"])
    columns += [("ms per run", "number")] if speed else []
    columns += [(t, "number") for t in (["KL mean", "p99", "worst 1 %", "same answer"] if distribution else ["largest error", "relative error p99", "worst 1 %"])]
    columns += [("SQNR dB", "number"), ("cosine", "number")]
    rows = [["reference", "", *task(reference["task"]), number(reference["bytes"]), "", *([_ms(reference)] if speed else [])]]
    rows[0] += [Cell("") for _ in range(len(columns) - len(rows[0]))]
    for c in data["candidates"]:
        share = c["bytes"] / reference["bytes"] if c["bytes"] and reference["bytes"] else None
        row = [c["name"], Cell(c["verdict"]["value"], kind=f"v {c['verdict']['value']}"), *task(c["task"]), number(c["bytes"]),
               number(share, f"{share:.0%}" if share else "–"), *([_ms(c)] if speed else [])]
        tail = c["tail"]["kl" if distribution else "relative_error"]
        row += ([number(tail["mean"]), number(tail["p99"]), number(tail["cvar1"]), number(c["drift"]["top1_agreement"], f"{c['drift']['top1_agreement']:.2%}")]
                if distribution else [number(c["drift"]["max_abs"]), number(tail["p99"]), number(tail["cvar1"])])
        rows.append([*row, number(c["drift"]["sqnr_db"]), number(c["drift"]["cosine"])])
    return table("Each model on the same samples", columns, rows, sort=len(rows) > 3)


def _ms(entry: dict[str, Any]) -> Cell:
    return number(entry["speed"]["median_ms"]) if "speed" in entry else number(None)


def _signed(metric: str | None, value: float) -> str:
    shown = show_task(metric, value).replace("-", "−")
    return f"+{shown}" if value > 0 else shown


def pareto(report: Report, prefix: str) -> Html:
    """Bytes, and time where it was measured, against damage and against the task value."""
    data = report.data
    reference, candidates = data["reference"], data["candidates"]
    if any(c["bytes"] is None for c in candidates):
        return Html("")
    damage = "mean KL in nats" if is_distribution(data) else "noise power, 1 / SQNR"
    value = lambda c: c["drift"]["kl"] if is_distribution(data) else 10 ** (-_finite(c["drift"]["sqnr_db"], math.nan) / 10)  # noqa: E731
    points = lambda x: [charts.Point(i, x(c), value(c)) for i, c in enumerate(candidates) if x(c) is not None and 0 < _finite(value(c), 0.0)]  # noqa: E731
    drawn = [charts.Plane("bytes of the whole model", damage, points(lambda c: c["bytes"]), log_y=True)]
    metric, better = data["protocol"]["metric"], data["protocol"]["higher_is_better"]
    if metric and better is not None:
        entries = [(None, reference), *enumerate(candidates)]
        values = [charts.Point(i, e["bytes"], e["task"]["value"], tuple(e["task"]["ci95"]) if e["task"]["ci95"] else None)
                  for i, e in entries if e["bytes"] is not None and math.isfinite(_finite(e["task"]["value"], math.nan))]
        drawn.append(charts.Plane("bytes of the whole model", metric, values, better="high" if better else "low", percent=metric in PERCENT))
    if any("speed" in c for c in candidates):
        drawn.append(charts.Plane("milliseconds per run", damage, points(lambda c: c.get("speed", {}).get("median_ms")), log_y=True))
    chart = charts.planes(f"{prefix}pareto", "Models by their size, and by their time where it was measured, against what they lost", drawn)
    exact = [c["name"] for c in candidates if value(c) == 0]
    notes = [tag("p", f"{name} does not differ from the reference and has no place on a logarithmic axis.", class_="soft") for name in exact]
    if not any("speed" in c for c in candidates):
        notes.append(tag("p", "Speed was not measured; give --bench the result of lowbit bench on the same models.", class_="soft"))
    said = tag("p", "Left is small. The dotted line joins the models that no other one beats; bars are 95 % intervals.", class_="soft")
    return text(said if chart else None, chart, legend(data) if chart else None, *notes, _ladder(data))


def _ladder(data: dict[str, Any]) -> Html | None:
    ladder = data.get("ladder")
    if not ladder or not ladder["change"]:
        return None
    change = ladder["change"]
    expected = f"; rounding noise alone gives {show(change['expected'])} times" if change["expected"] else ""
    return tag("p", "From ", "more to fewer bits" if ladder["order_by"] == "bits" else "larger to smaller",
               f", damage sets in between {change['after']} and {change['before']}: {show(change['factor'])} times{expected}.")


def _finite(value: float | None, otherwise: float) -> float:
    return value if value is not None and math.isfinite(value) else otherwise


def tails(report: Report, prefix: str) -> Html:
    """Share of units above a value, both axes logarithmic: the tail is what a mean hides."""
    data = report.data
    quantity = next((q for q in ("kl", "cosine_distance" if data["protocol"]["task"] == "embed" else "relative_error") if all(q in c["tail"] for c in data["candidates"])), None)
    if quantity is None:
        return Html("")
    unit, label = data["protocol"]["unit"], QUANTITIES[quantity]
    curves = [report.survival(i, quantity) for i in range(len(data["candidates"]))]
    chart = charts.tails(f"{prefix}tail", f"Share of the {unit}s whose {label} is at least a value", label, f"share of the {unit}s", curves)
    said = (tag("p", f"Share of the {unit}s (up) whose {label} is at least so large (to the right). A curve that reaches far to the right has a few {unit}s that were hit hard; "
                "the dot is the worst one.", class_="soft") if chart else tag("p", f"No {label} above zero.", class_="soft"))
    levels = [("p50", "median"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max"), ("cvar1", "mean of worst 1 %"), ("mean", "mean")]
    kinds = list(dict.fromkeys(q for c in data["candidates"] for q in c["tail"]))
    rows = [[Cell(c["name"]), Cell(QUANTITIES.get(q, q)), *(number(c["tail"][q][key]) for key, _ in levels)] for q in kinds for c in data["candidates"] if q in c["tail"]]
    grid = table(f"Percentiles over the {unit}s; more is worse in all of them", [("model", "text"), ("quantity", "text"), *((t, "number") for _, t in levels)], rows, sort=True)
    return text(said, chart, legend(data) if chart else None, details("Percentiles of every quantity", grid))


def flips(report: Report) -> Html:
    """Answers that changed, whether that is more than chance, and what this much data can detect."""
    data = report.data
    if not all(c["flips"] for c in data["candidates"]):
        return Html("")
    unit = data["protocol"]["unit"]
    titles = [(f"{unit}s", "number"), ("correct → wrong", "number"), ("wrong → correct", "number"), ("wrong → other wrong", "number"), ("McNemar p", "number"),
              ("p after Holm", "number"), ("sure and right", "number"), ("of them broke", "number"), ("detectable drop", "number")]
    rows, said = [], []
    for c in data["candidates"]:
        f, sure = c["flips"], c["flips"]["confident"]
        rows.append([c["name"], number(f["pairs"]), number(f["correct_to_wrong"]), number(f["wrong_to_correct"]), number(f["wrong_to_other_wrong"]),
                     number(f["mcnemar_p"]), number(f["mcnemar_p_adjusted"]), number(sure["count"]), number(sure["share"], f"{sure['broken']:,} ({sure['share']:.1%})"),
                     number(f["detectable_drop"], f"{f['detectable_drop']:.2%}")])
        net = (f["correct_to_wrong"] - f["wrong_to_correct"]) / f["pairs"]
        found = f["mcnemar_p_adjusted"] < 0.05
        what = f"{'a drop' if net > 0 else 'a gain'} of {abs(net):.2%} is significant" if found else f"no significant change found (net {net:+.2%} of answers lost)".replace("-", "−")
        said.append(tag("li", tag("strong", c["name"]), f": {what}; p = {show(f['mcnemar_p_adjusted'])}. A drop of {f['detectable_drop']:.2%} or more would have been found with 80 % power."))
    return text(tag("ul", *said), table(f"Answers against the labels, {unit} by {unit}, and McNemar's mid-p test", [("model", "text"), *titles], rows))


def slices(report: Report, name: str) -> Html:
    """Change of the task value in every slice, one column per candidate; all columns below."""
    data = report.data
    candidates, protocol = data["candidates"], data["protocol"]
    names = list(dict.fromkeys(key for c in candidates for key in c["slices"]))
    if not names:
        return Html("")
    metric = protocol["metric"]
    valued = any("change" in part for part in candidates[0]["slices"].values())
    ratio = valued and not protocol["higher_is_better"]
    worst = "kl" if is_distribution(data) else "cosine_distance" if protocol["task"] == "embed" else "relative_error"
    rows = []
    for key in names:
        parts = [c["slices"].get(key) for c in candidates]
        first = next(part for part in parts if part)
        row: list[Any] = [key, number(first["count"])]
        if valued:
            row.append(number(first["reference"], show_task(metric, first["reference"])))
        rows.append([*row, *(_slice_cell(part, valued, ratio, metric, worst) for part in parts)])
    what = ((f"{metric}, as a multiple of the reference's" if ratio else f"change of {metric}") if valued else QUANTITIES[worst])
    columns = [("slice", "text"), (f"{protocol['unit']}s", "number"), *([("reference", "number")] if valued else []), *((c["name"], "number") for c in candidates)]
    grid = table(f"By slice: {what}; the stronger the colour, the worse", columns, rows, sort=True, name=name)
    full = []
    for c in candidates:
        keys = list(dict.fromkeys(key for part in c["slices"].values() for key in part))
        cells = [[n, *(number(part.get(key)) for key in keys)] for n, part in c["slices"].items()]
        if cells:
            full.append(details(f"All figures of {c['name']}", table(f"Slices of {c['name']}", [("slice", "text"), *((k.replace("_", " "), "number") for k in keys)], cells, sort=True)))
    return text(tag("p", f"{protocol['slices'][:1].upper()}{protocol['slices'][1:]}.", class_="soft"), grid, *full)


def _slice_cell(part: dict[str, Any] | None, valued: bool, ratio: bool, metric: str | None, worst: str) -> Cell:
    if part is None:
        return number(None)
    if not valued:
        cell, heat = number(part.get(worst)), 0.0
    elif ratio:
        times = part["candidate"] / part["reference"] if part["reference"] else math.nan
        cell, heat = number(times, f"× {times:.4g}"), (times - 1) / 0.5
    else:
        cell, heat = number(part["change"], _signed(metric, part["change"])), -part["change"] / 0.1
    if math.isfinite(heat) and heat > 0.02:
        cell.kind, cell.style = "heat", f"--h:{min(60.0, 60 * heat):.0f}%"
    return cell
