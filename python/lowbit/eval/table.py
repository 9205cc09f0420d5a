# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The report for a terminal."""
from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .report import Report, show, show_task

COLOURS = {"ok": "green", "drift": "yellow", "cliff": "bold red", "inconclusive": "magenta"}


def counts(protocol: dict[str, Any]) -> str:
    """How much was seen: samples, and positions where those are the units."""
    text = f"{protocol['samples']:,} samples"
    return text if protocol["unit"] == "sample" else f"{text}, {protocol['units']:,} {protocol['unit']}s"


def print_report(console: Console, report: Report) -> None:
    """Verdicts and figures, one line per model, then what is worst."""
    data = report.data
    task, reference = data["protocol"]["task"], data["reference"]
    value = reference["task"] or {"metric": None, "value": None, "ci95": None}
    console.print(f"[bold]{escape(reference['name'])}[/] on {escape(data['protocol']['data'])}: {counts(data['protocol'])}")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model")
    table.add_column("verdict")
    distribution = all("kl" in c["tail"] for c in data["candidates"])
    columns = [value["metric"] or "", "95 % interval", "bytes"]
    columns += ["KL mean", "KL p99", "KL worst 1 %", "same answer", "c→w", "w→c"] if distribution else ["SQNR dB", "cosine", "rel. error p99", "worst 1 %"]
    for name in columns:
        table.add_column(name, justify="right")
    metric = value["metric"]

    def bounds(entry: dict | None) -> str:
        return " … ".join(show_task(metric, v) for v in entry["ci95"]) if entry and entry["ci95"] else "–"

    table.add_row("reference", "", show_task(metric, value["value"]), bounds(value), show(reference["bytes"]), *[""] * (len(columns) - 3))
    for c in data["candidates"]:
        verdict = c["verdict"]["value"]
        row = [escape(c["name"]), f"[{COLOURS[verdict]}]{verdict}[/]", show_task(metric, (c["task"] or {}).get("value")), bounds(c["task"]), show(c["bytes"])]
        if distribution:
            kl, flips = c["tail"]["kl"], c["flips"]
            row += [show(kl["mean"]), show(kl["p99"]), show(kl["cvar1"]), f"{c['drift']['top1_agreement']:.2%}",
                    show(flips["correct_to_wrong"]), show(flips["wrong_to_correct"])]
        else:
            relative = c["tail"]["relative_error"]
            row += [show(c["drift"]["sqnr_db"]), show(c["drift"]["cosine"]), show(relative["p99"]), show(relative["cvar1"])]
        table.add_row(*row)
    console.print(table)
    for c in data["candidates"]:
        verdict = c["verdict"]
        where = f" ({verdict['where']})" if verdict["where"] else ""
        console.print(f"[{COLOURS[verdict['value']]}]{verdict['value']}[/] {escape(c['name'])}: {escape(verdict['rule'] + where)}")
        if c["flips"]:
            console.print(f"    McNemar p = {show(c['flips']['mcnemar_p_adjusted'])}{' (Holm)' if len(data['candidates']) > 1 else ''}; {data['protocol']['units']:,} {data['protocol']['unit']}s detect a drop of "
                          f"{c['flips']['detectable_drop']:.2%} or more")
    for entry in data.get("gates", []):
        mark = "[green]holds[/]" if entry["holds"] else "[bold red]FAILS[/]"
        console.print(f"gate {escape(entry['gate'])}: {mark} for {escape(entry['candidate'])} ({show(entry['value'])})")
    ladder = data.get("ladder")
    if ladder and ladder["change"]:
        change = ladder["change"]
        expected = f", where rounding noise alone gives {show(change['expected'])} times" if change["expected"] else ""
        console.print(f"damage sets in between {escape(change['after'])} and {escape(change['before'])}: {show(change['factor'])} times{expected}")
    for entry in data.get("baseline", {}).get("regressions", []):
        console.print(f"[bold red]worse than before[/] {escape(entry['candidate'])}: {escape(entry['what'])}")
    for warning in data["guards"]["warnings"]:
        console.print(f"[yellow]warning[/] {escape(warning)}")
