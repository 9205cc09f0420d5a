# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The commands. Each takes the parsed options and returns the exit code."""
from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ..bench import bench as run_bench
from .arguments import DEVICE_FORMS
from ..compiler import calibrate_to, compile_bundle, compiler_errors, coverage_of, emit, emit_device_code, export_to, prepare
from ..data import open_data
from ..errors import InvalidInput
from ..eval import evaluate
from ..eval.baseline import Baseline
from ..eval.html import charts
from ..eval.speed import add_speed, load_bench
from ..eval.table import print_report
from ..feeds import Feeder
from ..output import check_free, whole, write_bytes, write_folder
from ..runtime import Bundle
from ..signature import batchable
from .console import Log, size
from .coverage import show_comparison, show_coverage
from .inspect_bundle import read_bundle, show_bundle
from .layers import add_ranges, add_sensitivity, print_sensitivity
from .restore import restore


def _plain_json(log: Log, data: Any) -> None:
    log.result(data, lambda console: console.print_json(data=data))


def inspect(options: Namespace) -> int:
    """ops, layers, shapes, bytes per precision; of a bundle, what its manifest says."""
    log = Log(options)
    if not Path(options.model).exists():
        raise InvalidInput(f"{options.model}: no such file")
    if Path(options.model).is_dir():
        bundle = read_bundle(Path(options.model))
        log.result(bundle, lambda console: show_bundle(console, bundle))
        return 0
    with compiler_errors() as compiler, log.busy("reading the model"):
        data = json.loads(compiler.inspect(options.model))
    log.result(data, lambda console: _show_model(console, options.model, data))
    return 0


def _show_model(console: Console, name: str, data: dict[str, Any]) -> None:
    console.print(f"[bold]{Path(name).name}[/]")
    for kind in ("inputs", "outputs"):
        for value in data.get(kind, []):
            dims = [s or ("?" if d < 0 else str(d)) for d, s in zip(value["dims"], value.get("symbols") or [""] * len(value["dims"]))]
            console.print(f"  {kind[:-1]}  {value['name']}: {value['dtype']} \\[{', '.join(dims)}]")
    operators = data["operators"]
    console.print("  " + ", ".join(f"{name} ×{count}" for name, count in sorted(operators.items(), key=lambda item: (-item[1], item[0]))))
    table = Table(box=None, header_style="bold")
    for column, justify in (("layer", "left"), ("operator", "left"), ("weights", "left"), ("parameters", "right"), ("quantizable", "left")):
        table.add_column(column, justify=justify)
    for layer in data.get("layers", []):
        shape = "×".join(str(d) for d in layer.get("shape", []))
        why = "yes" if layer.get("quantizable") else f"no: {layer.get('reason') or 'not said'}"
        table.add_row(layer["name"], layer["op"], shape, f"{layer.get('parameters', 0):,}", why)
    console.print(table)
    for cache in data.get("kv_cache", []):
        each = f": {cache['bytes_per_token']} bytes per token, {cache['int8_bytes_per_token']} with kv_cache=i8" if "bytes_per_token" in cache else ""
        console.print(f"  cache  {cache['past']} → {cache['present']}{each}", markup=False)
    if isinstance(data.get("bytes"), dict):
        console.print("  " + ", ".join(f"{precision} {size(count)}" for precision, count in data["bytes"].items()))


def recipe(options: Namespace) -> int:
    """show | explain | schema."""
    log = Log(options)
    with compiler_errors() as compiler:
        if options.what == "show":
            text = compiler.recipe_show(options.name)
        elif options.what == "schema":
            text = compiler.recipe_schema()
        else:
            if not Path(options.model).exists():
                raise InvalidInput(f"{options.model}: no such file")
            data = json.loads(compiler.recipe_explain(options.model, options.recipe))
            log.result(data, lambda console: _show_rules(console, data))
            return 0
    text = text if text.endswith("\n") else text + "\n"
    if options.out:
        write_bytes(options.out, text.encode(), force=options.force)
        log.say(f"wrote {options.out}")
    else:
        sys.stdout.write(text)
    return 0


def _show_rules(console: Console, data: dict[str, Any]) -> None:
    layers = data.get("layers") if isinstance(data, dict) else data
    if not layers:
        console.print_json(data=data)
        return
    keys = list(dict.fromkeys(key for layer in layers for key in layer))
    table = Table(*keys, box=None, header_style="bold")
    for layer in layers:
        table.add_row(*("" if layer.get(key) is None else str(layer[key]) for key in keys))
    console.print(table)
    cache = data.get("kv_cache", "float")
    if cache != "float":
        held = ", ".join(f"{each['past']} → {each['present']}" for each in cache["caches"])
        console.print(f"kv_cache: {cache['type']}, one scale per token and head: {held}", markup=False)


def calibrate(options: Namespace) -> int:
    log = Log(options)
    if options.coverage:
        return _coverage(options, log)
    if not options.out:
        raise InvalidInput("name the calibration file with -o CAL")
    if not options.data and not options.merge:
        raise InvalidInput("give --data, or calibration files with --merge")
    check_free(options.out, options.force or options.resume)
    with log.progress("calibrating") as progress:
        done = calibrate_to(options.model, options.recipe, options.data, options.out, force=options.force, batch=max(1, options.batch),
                            resume=options.resume, merge=options.merge, threads=options.threads, progress=progress)
    for note in done.notes:
        log.say(note)
    if not done.samples:
        raise InvalidInput(f"recipe {options.recipe} needs no calibration")
    log.say(f"wrote {options.out}: {done.samples} samples, recipe {options.recipe}")
    if options.json:
        print(json.dumps({"calibration": options.out, "samples": done.samples, "recipe": options.recipe, "coverage": done.coverage}))
    elif not options.quiet:
        show_coverage(log.stdout, done.coverage)
    return 0


def _coverage(options: Namespace, log: Log) -> int:
    """calibrate --coverage: other data against a calibration file."""
    if not options.data or options.merge or options.resume:
        raise InvalidInput("--coverage takes --data and neither --merge nor --resume")
    if options.out:
        check_free(options.out, options.force)
    with log.progress("running") as progress:
        report = coverage_of(options.model, options.recipe, options.data, options.coverage, batch=max(1, options.batch),
                             threads=options.threads, progress=progress)
    if report["same_data"]:
        log.say("these are the data that the calibration was made with")
    log.result(report, lambda console: show_comparison(console, report))
    return 0


def _prepare(options: Namespace, log: Log, scratch: str) -> dict[str, Any]:
    """What compiling needs of --calibration and --data: `calibration` and `quantizer`."""
    with log.progress("calibrating") as calibrating, log.progress("quantizing") as quantizing:
        done = prepare(options.model, options.recipe, scratch, data=options.data, calibration=options.calibration,
                       dims=dict(options.dim), threads=options.threads, calibrating=calibrating, quantizing=quantizing)
    for note in done.notes:
        log.say(note)
    if done.samples:
        log.say(f"calibrated with {done.samples} samples")
    if done.quantizer:
        log.say(f"rounded weights on {done.quantizer.samples} samples")
    if options.data and not done.samples and not done.quantizer:
        log.say(f"recipe {options.recipe} needs no {'more ' if options.calibration else ''}data: --data is not used")
    return {"calibration": done.calibration, "quantizer": done.quantizer}


def export(options: Namespace) -> int:
    log = Log(options)
    check_free(options.out, options.force)
    with tempfile.TemporaryDirectory(prefix="lowbit-") as scratch:
        prepared = _prepare(options, log, scratch)
        with log.busy(f"writing {Path(options.out).name}"):
            report = export_to(options.model, options.out, runtime=options.runtime, recipe=options.recipe, **prepared,
                               dims=dict(options.dim), external_data=options.external_data, force=options.force)
    files = [options.out, *([f"{options.out}.data"] if report["external_data"] else [])]
    quantized = sum(layer["weights"] != "float" for layer in report["layers"])
    log.say(f"wrote {' and '.join(files)}: {size(sum(Path(f).stat().st_size for f in files))}, {quantized} of {len(report['layers'])} layers quantized")
    if options.json:
        print(json.dumps(report, indent=1))
    return 0


def compile(options: Namespace) -> int:
    log = Log(options)
    if not options.emit and not options.out:
        raise InvalidInput("name the bundle with -o OUT.lowbit (or print a form with --emit)")
    if options.out:
        check_free(options.out, options.force)
    if options.recipe == "fp32":
        log.say("recipe fp32: only what the model quantizes itself is quantized; --recipe int8 or int4 does more")
    with tempfile.TemporaryDirectory(prefix="lowbit-") as scratch:
        arguments = dict(recipe=options.recipe, **_prepare(options, log, scratch), target=options.target, arch=options.arch, dims=dict(options.dim))
        if options.emit:
            return _emit(options, log, arguments)
        with log.busy(f"compiling {Path(options.model).name}"):
            report = compile_bundle(options.model, options.out, **arguments, force=options.force)
    bundle_bytes = sum(f.stat().st_size for f in Path(options.out).rglob("*") if f.is_file())
    summary = report.get("summary", {})
    said = f"wrote {options.out}: {size(bundle_bytes)}"
    if "quantizable" in summary:
        said += f", {summary.get('quantized', 0)} of {summary['quantizable']} layers quantized"
    log.say(said)
    for layer in summary.get("left_in_float", []):
        log.detail(f"left in float: {layer['name']} ({layer['op']}): {layer['reason']}")
    if options.json:
        print(json.dumps(report, indent=1))
    return 0


def _emit(options: Namespace, log: Log, arguments: dict[str, Any]) -> int:
    if options.emit in DEVICE_FORMS and (options.out or options.emit == "cubin"):
        return _emit_device_code(options, log, arguments)
    content = emit(options.model, options.emit, **arguments)
    if options.out:
        write_bytes(options.out, content, force=options.force)
        log.say(f"wrote {options.out}: {size(len(content))}")
    else:
        sys.stdout.buffer.write(content)
    return 0


def _emit_device_code(options: Namespace, log: Log, arguments: dict[str, Any]) -> int:
    """A folder with one file per kernel and architecture, and kernels.json."""
    if not options.out:
        raise InvalidInput("cubins are files: name a folder for them with -o")
    arguments.pop("quantizer")
    files = emit_device_code(options.model, options.emit, **arguments)
    write_folder(options.out, files, force=options.force)
    table = json.loads(files["kernels.json"])
    log.say(f"wrote {options.out}: {len(table['kernels'])} kernels, {size(sum(map(len, files.values())))}")
    if options.json:
        print(json.dumps(table, indent=1))
    return 0


def run(options: Namespace) -> int:
    log = Log(options)
    check_free(options.out, options.force)
    bundle = Bundle(options.bundle, threads=options.threads, device=options.device)
    data = open_data(options.inputs)
    feeds = None
    if data.stacked is not None and not batchable(bundle.inputs, bundle.outputs):  # the arrays may be one feed as they are
        exact = {value.name: data.stacked[value.name] for value in bundle.inputs if value.name in data.stacked}
        if len(exact) == len(bundle.inputs) and all(value.fits(exact[value.name].shape) for value in bundle.inputs):
            feeds = [exact]
    collected: dict[str, list[np.ndarray]] = {}
    if feeds is None:
        feeder = Feeder(data, bundle.inputs, bundle.outputs, batch=32)
        feeds = (feed.inputs for feed in feeder)
    with log.progress("running") as progress:
        for count, feed in enumerate(feeds, 1):
            for name, array in bundle.run(feed).items():
                collected.setdefault(name, []).append(array)
            progress(count, None)
    outputs = {}
    for name, parts in collected.items():
        if len({part.shape[1:] for part in parts}) > 1:
            raise InvalidInput(f"output '{name}' has another shape for each sample ({list(parts[0].shape)}, …), so they cannot be stacked; run the samples one by one with [a:b]")
        outputs[name] = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts[0].ndim else np.stack(parts)
    with whole(options.out, force=options.force) as temporary:
        with open(temporary, "wb") as file:
            np.savez(file, **outputs)
    shapes = {name: {"dtype": str(array.dtype), "shape": list(array.shape)} for name, array in outputs.items()}
    log.say(f"wrote {options.out}: " + ", ".join(f"{name} {s['dtype']} {s['shape']}" for name, s in shapes.items()))
    if options.json:
        print(json.dumps({"outputs": shapes, "isa": bundle.isa}))
    return 0


def bench(options: Namespace) -> int:
    log = Log(options)
    with log.progress("timing") as progress:
        data = run_bench(options.models, inputs=options.inputs, repeat=options.repeat, dims=dict(options.dim), batch=max(1, options.batch),
                         seed=options.seed, threads=options.threads, progress=progress)
    log.result(data, lambda console: _show_bench(console, data))
    return 0


def _show_bench(console: Console, data: dict[str, Any]) -> None:
    protocol = data["protocol"]
    shapes = ", ".join(f"{name} {shape}" for name, shape in protocol["shapes"].items())
    console.print(f"inputs: {protocol['inputs']} ({shapes}); {protocol['rounds']} rounds, interleaved; threads: {protocol['threads']}", markup=False)
    table = Table(box=None, header_style="bold")
    for column in ("model", "runtime"):
        table.add_column(column)
    for column in ("median ms", "p10", "p90", "speed", "bytes", "peak memory"):
        table.add_column(column, justify="right")
    for subject in data["subjects"]:
        ms = subject["ms"]
        table.add_row(subject["name"], subject["runtime"], *(f"{ms[key]:.4g}" for key in ("median", "p10", "p90")),
                      f"{subject['speed']:.2f}×", size(subject["bytes"]), size(subject["peak_memory_bytes"]))
    console.print(table)
    console.print(f"peak memory: {protocol['peak_memory']}", markup=False)


def eval(options: Namespace) -> int:
    log = Log(options)
    for path in (options.out, options.html, options.junit):
        if path:
            check_free(path, options.force)
    baseline = Baseline(options.baseline) if options.baseline else None
    if options.html:
        charts.require()  # before the work, not after it
    bench_result = load_bench(options.bench) if options.bench else None
    checkpoint = options.checkpoint or (f"{options.out}.part" if options.out else None)
    if options.resume and checkpoint is None:
        raise InvalidInput("--resume needs --checkpoint FILE, or -o F.json whose checkpoint is F.json.part")
    with log.progress("evaluating") as progress:
        report = evaluate(options.reference, options.candidate, options.data, task=options.task, label_key=options.label_key,
                          output=options.output, gates=options.gate, batch=max(1, options.batch), window=options.window,
                          stride=options.stride, pool=options.pool, seed=options.seed, threads=options.threads, progress=progress,
                          metric=options.metric, checkpoint=checkpoint, resume=options.resume, calibration_data=options.calibration_data,
                          tokenizer=options.tokenizer, scorer=options.scorer)
    if bench_result:
        add_speed(report.data, bench_result, options.bench)
    if baseline:
        report.data["baseline"] = baseline.compare(report.data)
    add_sensitivity(options, log, report)
    add_ranges(options, log, report)
    log.say(f"reference: {report.data['reference']['name']} in {report.data['reference']['runtime']}")
    for candidate in report.data["candidates"]:
        log.say(f"candidate: {candidate['name']} in {candidate['runtime']}")
    log.result(report.data, lambda console: (print_report(console, report), print_sensitivity(console, report)))
    if options.html:
        report.to_html(options.html, force=options.force)
        log.say(f"wrote {options.html}")
    if options.junit:
        report.to_junit(options.junit, force=options.force)
        log.say(f"wrote {options.junit}")
    if report.gate_error:
        raise report.gate_error
    for entry in report.data["gates"]:
        if not entry["holds"]:
            print(f"lowbit eval: gate failed: {entry['gate']}: {entry['candidate']} has {entry['value']}", file=sys.stderr)
    worse = report.data["baseline"]["regressions"] if baseline else []
    for entry in worse:
        print(f"lowbit eval: worse than {options.baseline}: {entry['candidate']}: {entry['what']}", file=sys.stderr)
    if options.json or options.out:
        for warning in report.data["guards"]["warnings"]:
            log.say(f"warning: {warning}")
    return 0 if report.data["passed"] and not worse else 1
