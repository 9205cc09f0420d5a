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

from export import exported, feeds
from models import MODELS

from lowbit import Bundle
from lowbit.compiler import compile_bundle

TOLERANCE = 1e-4
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated; all by default")
    parser.add_argument("--opsets", default="18,23")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lowbit-torch-exports",
                        help="folder that keeps the exported models")
    parser.add_argument("--export-only", action="store_true")
    arguments = parser.parse_args()
    total = good = 0
    for name in arguments.models.split(","):
        for opset in map(int, arguments.opsets.split(",")):
            total += 1
            try:
                if arguments.export_only:
                    started = time.perf_counter()
                    path = exported(MODELS[name], opset, "f32", arguments.cache)
                    print(f"{name} opset {opset}: {path.name}, {time.perf_counter() - started:.0f} s", flush=True)
                    continue
                row = check(name, opset, arguments.cache)
            except Exception as error:  # one model's failure is a line of the table
                print(f"{name:20} {opset:3} FAILED {type(error).__name__}: {' '.join(str(error).split())[:400]}", flush=True)
                continue
            good += row["agrees"]
            print(f"{name:20} {opset:3} {'ok    ' if row['agrees'] else 'DIFFERS'} {row['nodes']:4} nodes  error {row['error']:.1e}"
                  f"  compile {row['seconds']:5.1f} s  run {row['run'] * 1e3:7.1f} ms (onnxruntime {row['theirs'] * 1e3:.1f}){row['note']}", flush=True)
    print(f"torch-export: {good} of {total} exports agree with onnxruntime")
    return good != total and not arguments.export_only


if __name__ == "__main__":
    sys.exit(main())
