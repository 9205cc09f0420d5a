# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""`lowbit eval --sensitivity`: which layers cause the drift, as a part of the report and as a table."""
from __future__ import annotations

import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..data import open_data
from ..errors import InvalidInput
from ..eval.ranges import outside_ranges, warning_of
from ..eval.report import Report, show
from ..eval.sensitivity import Probe, measure_of, sensitivity
from ..feeds import Feeder, Window
from ..runtime import Bundle
from ..subjects import device_of, open_subject
from ..variants import Variants
from .console import Log, size
from .inspect_bundle import read_bundle

SHOWN = 20


def add_sensitivity(options: Namespace, log: Log, report: Report) -> None:
    """Adds `sensitivity` (and `error_budget`) to each candidate that is a bundle of the reference's model."""
    if options.sensitivity is None:
        if options.error_budget is not None:
            raise InvalidInput("--error-budget looks at the most sensitive layers: give --sensitivity N too")
        return
    if not Path(options.reference).is_file():
        raise InvalidInput(f"--sensitivity compiles the reference again with other recipes, so it has to be an .onnx file, not {options.reference}")
    bundles = [(path, entry) for path, entry in zip(options.candidate, report.data["candidates"]) if Path(path).is_dir()]
    if not bundles:
        raise InvalidInput("--sensitivity needs a candidate that is a bundle")
    for path, entry in bundles:
        with tempfile.TemporaryDirectory(prefix="lowbit-") as scratch:
            bundle = Bundle(path, threads=options.threads)
            variants = Variants(bundle, options.reference, scratch, data=options.calibration_data, calibration=options.calibration,
                                dims=dict(options.dim), threads=options.threads)
            with log.progress("calibrating") as progress:
                variants.calibrate(progress)
            feeder = Feeder(open_data(options.data), bundle.inputs, bundle.outputs, batch=1 if options.task == "lm" else max(1, options.batch),
                            window=Window(options.window, options.stride))
            reference = open_subject(options.reference, threads=options.threads)
            probe = Probe.make(reference, feeder, options.sensitivity, report.data["protocol"]["output"], measure_of(options.task), options.threads)
            with log.progress(f"measuring layers of {bundle.path.name}") as progress:
                entry["sensitivity"] = sensitivity(variants, probe, progress=progress)
            if options.error_budget:
                from ..eval.error_budget import error_budget

                layers = [layer["layer"] for layer in entry["sensitivity"]["layers"][: options.error_budget]]
                with log.progress(f"splitting errors of {bundle.path.name}") as progress:
                    entry["error_budget"] = error_budget(variants, probe, layers, scratch, progress=progress)


def add_ranges(options: Namespace, log: Log, report: Report) -> None:
    """Adds `outside_range` to each bundle that was calibrated by --calibration, and a warning where its ranges are too small."""
    if options.calibration is None or not Path(options.reference).is_file():
        return
    for path, entry in zip(options.candidate, report.data["candidates"]):
        folder = Path(device_of(path)[0])
        if not folder.is_dir():
            continue
        manifest = read_bundle(folder)
        with log.progress(f"ranges of {folder.name}") as progress:
            rows = outside_ranges(options.reference, folder, manifest, open_data(options.data), options.calibration,
                                  threads=options.threads, progress=progress)
        if rows is not None:
            entry["outside_range"] = rows
            warning = warning_of(entry["name"], rows)
            report.data["guards"]["warnings"] += [warning] if warning else []


def print_sensitivity(console: Console, report: Report) -> None:
    for candidate in report.data["candidates"]:
        if "sensitivity" in candidate:
            show_layers(console, candidate["name"], candidate["sensitivity"])
        if "error_budget" in candidate:
            _show_budget(console, candidate["error_budget"])


def show_layers(console: Console, name: str, data: dict[str, Any]) -> None:
    """The most sensitive layers; JSON has them all."""
    what = "KL in nats" if data["measure"] == "kl" else "1 − cosine"
    console.print(f"\n[bold]layers of {escape(name)}[/], {what} of '{escape(data['output'])}' on {data['samples']} samples; {show(data['whole'])} with all of them")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("layer", "operator", "weights", "activations"):
        table.add_column(column)
    columns = ["bytes", "alone", "share"] + (["all but it", "gain"] if data["layers"] and "restored" in data["layers"][0] else [])
    for column in columns:
        table.add_column(column, justify="right")
    for entry in data["layers"][:SHOWN]:
        row = [escape(entry["layer"]), entry["op"], entry["weights"], escape(entry["activations"]), size(entry["bytes"]), show(entry["alone"]), f"{entry['alone_share']:.1%}"]
        if "restored" in entry:
            row += [show(entry["restored"]), show(entry["restore_gain"])]
        table.add_row(*row)
    console.print(table)
    if len(data["layers"]) > SHOWN:
        console.print(f"… and {len(data['layers']) - SHOWN} less sensitive ones, in the JSON")


def _show_budget(console: Console, data: dict[str, Any]) -> None:
    console.print("\n[bold]error budget[/]: squared change of the model's output that each step makes, relative to it, in dB")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("layer")
    for column in ("weight rounding", "activation clipping", "activation rounding", "together", "kernel"):
        table.add_column(column, justify="right")
    for entry in data["layers"]:
        table.add_row(escape(entry["layer"]), *(show(entry[key]) for key in ("weight_rounding_db", "activation_clipping_db", "activation_rounding_db", "together_db", "kernel_db")))
    console.print(table)
