# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Exports models from torch, compiles each into one bundle, runs it at several lengths and compares with onnxruntime.

    python check.py                                  every model at opset 18 and 23
    python check.py --models llama_kv,vit --opsets 18
    python check.py --dtypes f16,bf16 --models resnet18,bert,llama

A model agrees when, for every output at every length, max |difference| <= 1e-4 * max |output|. In f16 and bf16 the
yardstick is onnxruntime's own error: its distance to the same model in f32.
"""
from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

MISSING = [name for name in ("torch", "torchvision", "transformers", "onnxscript") if not importlib.util.find_spec(name)]
if MISSING:
    print(f"torch-export: skipped, {', '.join(MISSING)} not installed; tools/setup.sh --exports installs it")
    sys.exit(0)

import numpy as np
import onnx
import onnxruntime

from export import exported, feeds, torch_run
from models import MODELS

from lowbit import Bundle
from lowbit.compiler import compile_bundle

TOLERANCE = 1e-4
UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8}
SLOW = 60.0  # seconds of compilation that count as a defect


class Reference:
    """onnxruntime on a model; where it refuses a batch, one batch entry after the other.

    (At opset 23 torch hands RotaryEmbedding a cosine of batch 1 for any batch, which onnxruntime does not broadcast.)
    """

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 2
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.one_by_one = False

    def run(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return self.session.run(None, feed)
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument:
            self.one_by_one = True
        batch = len(next(iter(feed.values())))
        rows = [self.session.run(None, {name: array[i : i + 1] for name, array in feed.items()}) for i in range(batch)]
        return [np.concatenate(parts) for parts in zip(*rows)]


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """max |difference| / max |theirs|; infinite where shapes, NaNs or types differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return float("inf")
    scale = np.max(np.abs(theirs), initial=0.0, where=~np.isnan(theirs))
    worst = np.max(np.abs(ours - theirs), initial=0.0, where=~np.isnan(theirs))
    return float(worst / scale) if scale else float(worst)


def compile_model(path: Path, folder: str, dims: dict[str, int]) -> tuple[Bundle, float]:
    started = time.perf_counter()
    bundle = os.path.join(folder, "bundle")
    compile_bundle(str(path), bundle, dims=dims, force=True)
    return Bundle(bundle, threads=2), time.perf_counter() - started


def timed(function, argument):
    started = time.perf_counter()
    return function(argument), time.perf_counter() - started


def check(name: str, opset: int, folder: Path) -> dict:
    """f32: one bundle against onnxruntime at all lengths."""
    model = MODELS[name]
    path = exported(model, opset, "f32", folder)
    session = Reference(path)
    row: dict = {"nodes": len(onnx.load(path, load_external_data=False).graph.node), "error": 0.0, "seconds": 0.0, "run": 0.0}
    with tempfile.TemporaryDirectory(prefix="lowbit-") as temporary:
        bundle, row["seconds"] = compile_model(path, temporary, {})
        for feed in feeds(model, "f32", session.inputs):
            theirs, row["theirs"] = timed(session.run, feed)
            ours, row["run"] = timed(bundle.run, feed)
            for value, expected in zip(session.outputs, theirs):
                row["error"] = max(row["error"], distance(ours[value], expected))
        bundle.close()
    row["note"] = "  (onnxruntime: entry by entry)" if session.one_by_one else ""
    row["agrees"] = row["error"] <= TOLERANCE and row["seconds"] <= SLOW
    return row


def check_half(name: str, opset: int, dtype: str, folder: Path) -> dict:
    """f16 or bf16: our distance to the f32 model against that of onnxruntime, or of torch where onnxruntime has no kernels."""
    model = MODELS[name]
    path = exported(model, opset, dtype, folder)
    exact = Reference(exported(model, opset, "f32", folder))
    row: dict = {"nodes": len(onnx.load(path, load_external_data=False).graph.node), "error": 0.0, "other": 0.0, "seconds": 0.0, "run": 0.0}
    try:
        other, row["note"] = Reference(path).run, "  (other: onnxruntime)"
    except Exception:  # NotImplemented and its kin
        other, row["note"] = None, "  (other: torch)"
    with tempfile.TemporaryDirectory(prefix="lowbit-") as temporary:
        bundle, row["seconds"] = compile_model(path, temporary, {})
        for index, feed in enumerate(feeds(model, dtype, exact.inputs)):
            wide = {name: array.astype(np.float32) if array.dtype.kind not in "iub" else array for name, array in feed.items()}
            expected, row["theirs"] = timed(exact.run, wide)
            ours, row["run"] = timed(bundle.run, feed)
            theirs = other(feed) if other else torch_run(model, dtype, index)
            for value, mine, his, truth in zip(exact.outputs, ours.values(), theirs, expected):
                row["error"] = max(row["error"], distance(mine, truth))
                row["other"] = max(row["other"], distance(his, truth))
        bundle.close()
    # Neither rounds where the other does: twice the other's error, and one rounding of the largest output.
    row["agrees"] = row["error"] <= 2 * row["other"] + UNIT[dtype] and row["seconds"] <= SLOW
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated; all by default")
    parser.add_argument("--opsets", default="18,23")
    parser.add_argument("--dtypes", default="f32", help="of f32, f16, bf16")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lowbit-torch-exports",
                        help="folder that keeps the exported models")
    parser.add_argument("--export-only", action="store_true")
    arguments = parser.parse_args()
    total = good = 0
    wanted = [arguments.models.split(","), arguments.opsets.split(","), arguments.dtypes.split(",")]
    for name, opset, dtype in ((n, int(o), d) for n, o, d in itertools.product(*wanted)):
        total += 1
        label = f"{name:20} {opset:3} {dtype:4}"
        try:
            if arguments.export_only:
                path, seconds = timed(lambda folder: exported(MODELS[name], opset, dtype, folder), arguments.cache)
                print(f"{label} {path.name}, {seconds:.0f} s", flush=True)
                continue
            row = check(name, opset, arguments.cache) if dtype == "f32" else check_half(name, opset, dtype, arguments.cache)
        except Exception as error:  # one model's failure is a line of the table
            print(f"{label} FAILED {type(error).__name__}: {' '.join(str(error).split())[:400]}", flush=True)
            continue
        good += row["agrees"]
        errors = f"error {row['error']:.1e}" + (f" (other {row['other']:.1e})" if "other" in row else "")
        print(f"{label} {'ok    ' if row['agrees'] else 'DIFFERS'} {row['nodes']:4} nodes  {errors}  compile {row['seconds']:5.1f} s  "
              f"run {row['run'] * 1e3:7.1f} ms (onnxruntime {row['theirs'] * 1e3:.1f}){row['note']}", flush=True)
    print(f"torch-export: {good} of {total} exports agree with onnxruntime")
    return good != total and not arguments.export_only


if __name__ == "__main__":
    sys.exit(main())
