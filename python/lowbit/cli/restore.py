# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""`lowbit restore`: raises the fewest layers of a bundle until gates hold."""
from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import InvalidInput
from ..eval.report import show, to_json
from ..restore import recipe_path
from ..restore import restore as run_restore
from .console import Log, size
from .layers import show_layers


def restore(options: Namespace) -> int:
    log = Log(options)
    if options.price_per_hour is not None and not options.price_per_hour > 0:
        raise InvalidInput(f"--price-per-hour must be positive: {options.price_per_hour:g}")
    with contextlib.ExitStack() as stack:
        report = run_restore(
            options.bundle, options.model, options.data, options.gate, out=options.out, calibration_data=options.calibration_data,
            calibration=options.calibration, dims=dict(options.dim), task=options.task, label_key=options.label_key, output=options.output, metric=options.metric,
            batch=max(1, options.batch), window=options.window, stride=options.stride, pool=options.pool,
            levels=[level.strip() for level in options.levels.split(",")], reround=options.reround, samples=options.sensitivity, resamples=options.resamples,
            price_per_hour=options.price_per_hour, seed=options.seed, threads=options.threads, force=options.force,
            progress=lambda what: stack.enter_context(log.progress(what)))
    if options.json:
        print(to_json(report))
    else:
        _show(log.stdout, report)
    if report["passed"]:
        log.say(f"wrote {options.out} and {recipe_path(options.out)}")
        return 0
    print(f"lowbit restore: {report['recommendation']}; nothing was written", file=sys.stderr)
    return 1


def _show(console: Console, report: dict[str, Any]) -> None:
    protocol = report["protocol"]
    console.print(f"[bold]{escape(report['bundle'])}[/] on {escape(protocol['data'])}: layers chosen on {protocol['choosing_samples']} samples, "
                  f"figures from the other {protocol['held_samples']}; {protocol['recipes_tried']} recipes tried")
    show_layers(console, report["bundle"], report["sensitivity"])
    if report["raised"]:
        console.print(f"\n[bold]raised[/] {len(report['raised'])} of {report['layers']} layers (order: {report['order']})")
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("layer", "operator", "from", "to"):
            table.add_column(column)
        for column in ("drift alone", "bytes before", "after"):
            table.add_column(column, justify="right")
        for entry in report["raised"]:
            table.add_row(escape(entry["layer"]), entry["op"], f"{entry['from']} per {entry['per']}" if entry["per"] else entry["from"], entry["to"],
                          show(entry["alone"]), size(entry["bytes_before"]), size(entry["bytes_after"]))
        console.print(table)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("\ngate", "before\n(held half)", "after\n(choosing half)", "after\n(held half)", ""):
        table.add_column(column)
    for gate in report["gates"]:
        table.add_row(escape(gate["gate"]), show(gate["before"]), show(gate["choosing"]), show(gate["held"]),
                      "[green]holds[/]" if gate["holds_on_choosing"] and gate["holds_on_held"] else "[bold red]FAILS[/]")
    console.print(table)
    bytes_ = report["bytes"]
    console.print(f"weights {size(bytes_['weights_before'])} → {size(bytes_['weights_after'])}, {bytes_['share_of_fp16_after']:.0%} of fp16's {size(bytes_['weights_fp16'])}; "
                  f"bundle {size(bytes_['bundle_before'])} → {size(bytes_['bundle_after'])}")
    if report["passed"]:
        console.print(f"[bold]recommendation[/]: {escape(report['recommendation'])}")
