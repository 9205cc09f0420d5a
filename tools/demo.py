#!/usr/bin/env python3
# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Quantizes the bundled CNN and language model, runs the results, and shows what each lost. Called by tools/demo.sh."""
from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

import lowbit
from lowbit.cli.console import size
from lowbit.compiler import calibrate_to, compile_bundle, emit_device_code
from lowbit.eval.html import page
from lowbit.eval.table import print_report
from lowbit.output import write_folder, write_text

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "python" / "lowbit" / "models"
# The last one is coarser than anyone should be: one scale for a whole matrix.
RECIPES = ("fp32", "int8", "int4:group=32", "int4:per=tensor")
CUDA_RECIPES = ("int8", "int4:group=32")
SUBJECTS = (("digits_cnn", "digits", "classify"), ("tiny_llama", "tiny_llama", "lm"))


def compile_all(console: Console, model: str, data: str, folder: Path, cuda: str) -> list[Path]:
    """CPU bundles of every recipe, which are returned, and the CUDA kernels of some."""
    source = str(MODELS / f"{model}.onnx")
    bundles = []
    for recipe in RECIPES:
        name = recipe.replace(":", ".").replace("=", "")
        calibration = str(folder / f"{model}.{name}.lbcal")
        samples = calibrate_to(source, recipe, str(MODELS / f"{data}_calib.npz"), calibration, force=True).samples
        used = calibration if samples else None
        out = folder / f"{model}.{name}.lowbit"
        begin = time.monotonic()
        report = compile_bundle(source, str(out), recipe=recipe, calibration=used, force=True)
        summary = report["summary"]
        console.print(f"  {out.name}: cpu, {summary['quantized']} of {summary['quantizable']} layers quantized, "
                      f"weights {size(summary['fp32_bytes'])} → {size(summary['quantized_bytes'])}, "
                      f"{f'{samples} samples, ' if samples else ''}{time.monotonic() - begin:.1f} s", markup=False)
        bundles.append(out)
        if cuda and recipe in CUDA_RECIPES:
            folder_cuda = folder / f"{model}.{name}.cubin"
            begin = time.monotonic()
            files = emit_device_code(source, "cubin", recipe=recipe, calibration=used, arch=cuda)
            write_folder(str(folder_cuda), files, force=True)
            kernels = json.loads(files["kernels.json"])["kernels"]
            console.print(f"  {folder_cuda.name}: cuda, {len(kernels)} kernels for {cuda}, most registers {max(k['registers'] for k in kernels)}, "
                          f"spilled bytes {sum(k['spill_bytes'] for k in kernels)}, {time.monotonic() - begin:.1f} s", markup=False)
    return bundles


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "demo-out", help="where the bundles go (default demo-out)")
    parser.add_argument("--report", type=Path, default=ROOT / "demo-report.html")
    parser.add_argument("--cuda", default="sm_80,sm_90a", metavar="ARCH", help="architectures of the CUDA kernels; '' for none")
    options = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    if options.out.exists():
        shutil.rmtree(options.out)
    options.out.mkdir(parents=True)
    reports = []
    for model, data, task in SUBJECTS:
        console.rule(model)
        bundles = compile_all(console, model, data, options.out, options.cuda)
        report = lowbit.evaluate(MODELS / f"{model}.onnx", [str(b) for b in bundles], MODELS / f"{data}_eval.npz", task=task)
        print_report(console, report)
        reports.append(report)
    write_text(options.report, page(*reports), force=True)
    console.print(f"\nwrote {options.report}; bundles are in {options.out}", markup=False)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lowbit.Error as error:
        print(f"demo: error: {error}", file=sys.stderr)
        sys.exit(error.code)
