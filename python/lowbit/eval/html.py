# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The report as one page: no scripts, no network, light and dark."""
from __future__ import annotations

import math
from html import escape
from typing import Any

import numpy as np

from .report import Report, show, show_task
from .table import counts

_STYLE = """
:root{--bg:#fff;--fg:#1b1f24;--soft:#59636e;--line:#d8dee4;--card:#f6f8fa;--ok:#1a7f37;--drift:#9a6700;--cliff:#cf222e;--inconclusive:#8250df;
--c0:#0969da;--c1:#bc4c00;--c2:#1a7f37;--c3:#8250df;--c4:#bf3989;--c5:#57606a}
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--soft:#9198a1;--line:#30363d;--card:#161b22;--ok:#3fb950;--drift:#d29922;
--cliff:#f85149;--inconclusive:#a371f7;--c0:#58a6ff;--c1:#f0883e;--c2:#3fb950;--c3:#bc8cff;--c4:#f778ba;--c5:#8b949e}}
*{box-sizing:border-box}body{margin:0 auto;max-width:72rem;padding:1.5rem;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:3rem 0 0}h1:first-child{margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.3rem 0}.soft{color:var(--soft)}
.cards{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));margin:1rem 0}
.card{background:var(--card);border:1px solid var(--line);border-left:.4rem solid var(--v);border-radius:.4rem;padding:.7rem 1rem}
.card b{color:var(--v);text-transform:uppercase;letter-spacing:.04em}.scroll{overflow-x:auto}
.ok{--v:var(--ok)}.drift{--v:var(--drift)}.cliff{--v:var(--cliff)}.inconclusive{--v:var(--inconclusive)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}td.t{text-align:left;white-space:normal}td.v{color:var(--v);font-weight:600}th{color:var(--soft);font-weight:600}
svg{width:100%;max-width:56rem;height:auto}svg text{fill:var(--soft);font:12px system-ui,sans-serif}.grid{stroke:var(--line)}.bar{height:.6rem;background:var(--c0);border-radius:.2rem}
summary{cursor:pointer;color:var(--soft)}
"""
_MAX_LAYERS = 200


def page(*reports: Report) -> str:
    """A whole HTML document; several reports come one after the other."""
    body = "\n".join(part for report in reports for part in _parts(report) if part)
    names = ", ".join(escape(report.data["reference"]["name"]) for report in reports)
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>lowbit eval: {names}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n")


def _parts(report: Report) -> list[str]:
    data = report.data
    return [_head(data), _cards(data), _gates(data), _table(data), _tails(report), _slices(data), _worst(data), _layers(report), _protocol(data)]


def _row(cells: list[str], tag: str = "td") -> str:
    return "<tr>" + "".join(cell if cell.startswith("<td") else f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _grid(header: list[str], rows: list[list[str]]) -> str:
    return f'<div class="scroll"><table><thead>{_row(header, "th")}</thead><tbody>{"".join(_row(r) for r in rows)}</tbody></table></div>'


def _head(data: dict[str, Any]) -> str:
    p = data["protocol"]
    return (f"<h1>What quantization changed in {escape(data['reference']['name'])}</h1><p class='soft'>Reference in {escape(data['reference']['runtime'])}; "
            f"task {escape(p['task'])} on {escape(p['data'])}: {counts(p)}</p>")


def _cards(data: dict[str, Any]) -> str:
    cards = []
    for c in data["candidates"]:
        v = c["verdict"]
        where = f"<p class='soft'>{escape(v['where'])}</p>" if v["where"] else ""
        cards.append(f"<div class='card {v['value']}'><b>{v['value']}</b> {escape(c['name'])}<p>{escape(v['rule'])}</p>{where}</div>")
    return f"<div class='cards'>{''.join(cards)}</div>"


def _gates(data: dict[str, Any]) -> str:
    if not data.get("gates"):
        return ""
    rows = [[escape(g["gate"]), escape(g["candidate"]), show(g["value"]),
             "<td class='v ok'>holds</td>" if g["holds"] else "<td class='v cliff'>fails</td>"] for g in data["gates"]]
    return "<h2>Gates</h2>" + _grid(["gate", "model", "value", ""], rows)


def _table(data: dict[str, Any]) -> str:
    reference = data["reference"]
    task = reference["task"] or {"metric": None, "value": None, "ci95": None}
    metric = task["metric"]
    distribution = data["protocol"]["task"] in ("classify", "lm")

    def bounds(entry: dict[str, Any] | None) -> str:
        return " … ".join(show_task(metric, v) for v in entry["ci95"]) if entry and entry.get("ci95") else "–"

    extra = (["KL mean", "KL p99", "KL worst 1 %", "same answer", "correct→wrong", "wrong→correct", "McNemar p", "detectable drop"]
             if distribution else ["max error", "relative error p99", "worst 1 %"])
    header = ["model", "verdict", escape(metric or "task"), "95 % interval", "change", "bytes", "SQNR dB", "cosine", *extra]
    rows = [["reference", "", show_task(metric, task["value"]), bounds(task), "", show(reference["bytes"]), *[""] * (2 + len(extra))]]
    for c in data["candidates"]:
        change = (c["task"] or {}).get("change")
        row = [escape(c["name"]), f"<td class='v {c['verdict']['value']}'>{c['verdict']['value']}</td>", show_task(metric, (c["task"] or {}).get("value")), bounds(c["task"]),
               show_task(metric, change["value"]) if change else "–", show(c["bytes"]), show(c["drift"]["sqnr_db"]), show(c["drift"]["cosine"])]
        if distribution:
            kl, flips = c["tail"]["kl"], c["flips"]
            row += [show(kl["mean"]), show(kl["p99"]), show(kl["cvar1"]), f"{c['drift']['top1_agreement']:.2%}", show(flips["correct_to_wrong"]),
                    show(flips["wrong_to_correct"]), show(flips["mcnemar_p"]), f"{flips['detectable_drop']:.2%}"]
        else:
            relative = c["tail"]["relative_error"]
            row += [show(c["drift"]["max_abs"]), show(relative["p99"]), show(relative["cvar1"])]
        rows.append(row)
    return "<h2>Figures</h2>" + _grid(header, rows)


def _tails(report: Report) -> str:
    """Share of units above a value, both axes logarithmic: the tail is what a mean hides."""
    quantity = "kl" if all("kl" in d for d in report.distributions) else "relative_error"
    label = "KL divergence in nats" if quantity == "kl" else "relative error"
    series = []
    for values in (d[quantity] for d in report.distributions):
        finite = np.sort(values[np.isfinite(values)])
        series.append(finite[finite > 0])
    if not any(len(s) for s in series):
        return f"<h2>The tail</h2><p class='soft'>No {escape(label)} above zero.</p>"
    total = max(len(d[quantity]) for d in report.distributions)
    largest = max(s[-1] for s in series if len(s))
    smallest = min(np.quantile(s, 0.05) for s in series if len(s))
    high = math.ceil(math.log10(largest) + 1e-9)
    low = max(math.floor(math.log10(smallest)), high - 9)
    high = max(high, low + 1)
    bottom = -max(1, math.ceil(math.log10(total)))
    width, height, left, top = 840, 360, 70, 12
    right, foot = width - 16, height - 44
    x = lambda v: left + (math.log10(v) - low) / (high - low) * (right - left)  # noqa: E731
    y = lambda share: top + math.log10(share) / bottom * (foot - top)  # noqa: E731
    out = [f"<svg viewBox='0 0 {width} {height + 18 * len(series)}' role='img' aria-label='Share of {report.data['protocol']['unit']}s above a {label}'>"]
    for power in range(low, high + 1):
        at = x(10.0**power)
        out.append(f"<line class='grid' x1='{at:.1f}' x2='{at:.1f}' y1='{top}' y2='{foot}'/><text x='{at:.1f}' y='{foot + 16}' text-anchor='middle'>{_power(power)}</text>")
    for power in range(bottom, 1):
        at = y(10.0**power)
        out.append(f"<line class='grid' x1='{left}' x2='{right}' y1='{at:.1f}' y2='{at:.1f}'/><text x='{left - 6}' y='{at + 4:.1f}' text-anchor='end'>{_share(power)}</text>")
    out.append(f"<text x='{(left + right) / 2}' y='{foot + 34}' text-anchor='middle'>{label}</text>")
    for i, values in enumerate(series):
        pick = np.unique(np.concatenate([len(values) - np.unique(np.geomspace(1, len(values), 160).astype(int))])) if len(values) else np.array([], int)
        points = [(x(max(values[j], 10.0**low)), y((len(values) - j) / total)) for j in pick]
        colour, dash = f"var(--c{i % 6})", ("", "6 3", "2 3")[i // 6 % 3]
        out.append(f"<polyline fill='none' stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}' points='{' '.join(f'{a:.1f},{b:.1f}' for a, b in points)}'/>")
        name = escape(report.data["candidates"][i]["name"])
        out.append(f"<line x1='{left}' x2='{left + 24}' y1='{height + 18 * i + 4}' y2='{height + 18 * i + 4}' stroke='{colour}' stroke-width='3' stroke-dasharray='{dash}'/>"
                   f"<text x='{left + 32}' y='{height + 18 * i + 8}'>{name}</text>")
    out.append("</svg>")
    levels = ["p50", "p90", "p99", "p999", "max", "cvar1"]
    rows = [[f"{escape(c['name'])}: {q}", *(show(t[level]) for level in levels)] for c in report.data["candidates"] for q, t in c["tail"].items()]
    table = _grid(["", "median", "p90", "p99", "p99.9", "max", "mean of worst 1 %"], rows)
    return (f"<h2>The tail</h2><p class='soft'>Share of {report.data['protocol']['unit']}s (vertical) whose {label} is above a value (horizontal).</p>"
            f"{''.join(out)}<details><summary>percentiles of every quantity</summary>{table}</details>")


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -4 <= power <= 4 else f"1e{power}"


def _share(power: int) -> str:
    return f"{10.0 ** (power + 2):g} %"


def _slices(data: dict[str, Any]) -> str:
    parts = []
    for c in data["candidates"]:
        if not c["slices"]:
            continue
        keys = list(dict.fromkeys(key for part in c["slices"].values() for key in part))
        rows = [[escape(name), *(show(part.get(key)) for key in keys)] for name, part in c["slices"].items()]
        parts.append(f"<details open><summary>{escape(c['name'])}</summary>{_grid(['slice', *(escape(k) for k in keys)], rows)}</details>")
    return "<h2>Slices</h2>" + "".join(parts) if parts else ""


def _worst(data: dict[str, Any]) -> str:
    parts = []
    for c in data["candidates"]:
        keys = list(dict.fromkeys(key for entry in c["worst"] for key in entry))
        rows = [[escape(" ".join(map(str, v))) if isinstance(v := entry.get(key), list) else escape(show(v)) for key in keys] for entry in c["worst"]]
        parts.append(f"<details open><summary>{escape(c['name'])}</summary>{_grid([escape(k) for k in keys], rows)}</details>")
    return "<h2>Worst samples</h2>" + "".join(parts)


def _layers(report: Report) -> str:
    parts = []
    for c, layers in zip(report.data["candidates"], report.layers):
        if not layers:
            continue
        largest = max((layer.get("error") or 0 for layer in layers), default=0) or 1
        rows = []
        for layer in layers[:_MAX_LAYERS]:
            error = layer.get("error")
            share = (error or 0) / largest * 100
            rows.append([escape(str(layer.get("name"))), escape(str(layer.get("op"))), escape(str(layer.get("weights"))), escape(str(layer.get("activations"))),
                         escape(str(layer.get("kernel"))), show(layer.get("fp32_bytes")), show(layer.get("bytes")), show(error),
                         f"<td style='width:8rem'><div class='bar' style='width:{share:.0f}%'></div></td>"])
        more = f"<p class='soft'>… and {len(layers) - _MAX_LAYERS} more in the manifest</p>" if len(layers) > _MAX_LAYERS else ""
        header = ["layer", "operator", "weights", "activations", "kernel", "fp32 bytes", "bytes", "weight error", ""]
        parts.append(f"<details open><summary>{escape(c['name'])}</summary>{_grid(header, rows)}{more}</details>")
    return "<h2>Layers</h2>" + "".join(parts) if parts else ""


def _protocol(data: dict[str, Any]) -> str:
    rows = []
    for key, value in data["protocol"].items():
        text = ", ".join(f"{k} {v:g}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        rows.append(_row([escape(key), f"<td class='t'>{escape(text)}</td>"]))
    return f"<h2>Protocol</h2><div class='scroll'><table><tbody>{''.join(rows)}</tbody></table></div>"
