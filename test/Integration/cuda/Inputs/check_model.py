"""Quantizes a model and compares every quantized layer's CUDA kernel in the emulator with the CPU; with --chips also
assembles all of the model's kernels and fails where one spills.

check_model.py MODEL.onnx RECIPE EVAL.npz WORK [--calib CALIB.npz] [--samples N] [--tokens N] [--chips sm_80,sm_90a]
"""
import argparse
import os
import re
import subprocess
import sys

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("recipe")
parser.add_argument("eval")
parser.add_argument("work")
parser.add_argument("--calib")
parser.add_argument("--samples", type=int, default=1)
parser.add_argument("--tokens", type=int)
parser.add_argument("--chips", default="")
args = parser.parse_args()
os.makedirs(args.work, exist_ok=True)
path = lambda name: os.path.join(args.work, name)
run = lambda *command: subprocess.run(command, check=True)

pipeline = f"lowbit-to-qdq{{recipe={args.recipe}}}"
if args.calib:
    run(sys.executable, "-m", "lowbit", "calibrate", args.model, "--recipe", args.recipe, "--data", args.calib, "-o", path("cal"),
        "--force", "-q")
    pipeline = f"lowbit-to-qdq{{recipe={args.recipe} calibration={path('cal')}}}"
run("lowbit-translate", "--import-onnx", args.model, "-o", path("onnx.mlir"))
run("lowbit-opt", path("onnx.mlir"), f"--pass-pipeline=builtin.module(lowbit-to-float,{pipeline},lowbit-to-quantized)", "-o",
    path("quantized.mlir"))

data = np.load(args.eval)
name = next(name for name in data.files if name != "label")
feed = data[name][: args.samples]
if name == "tokens":
    feed = feed[:1, : args.tokens].astype(np.int64)
np.ascontiguousarray(feed).tofile(path("input.raw"))
run("lowbit-cuda-check-layers", path("quantized.mlir"), path("input.raw"), "x".join(map(str, feed.shape)))

for chip in filter(None, args.chips.split(",")):
    text = subprocess.run(["lowbit-opt", path("quantized.mlir"), "--lowbit-to-scheduled=target=cuda", "--lowbit-to-cuda-kernels",
                           f"--lowbit-emit-cuda=chip={chip} format=cubin output={path(chip)}"],
                          check=True, capture_output=True, text=True).stdout
    spills = [int(n) for n in re.findall(r"lowbit.spill_bytes = (\d+)", text)]
    registers = [int(n) for n in re.findall(r"lowbit.registers = (\d+)", text)]
    print(f"{chip}: {len(spills)} kernels, {sum(spills)} bytes spilled, at most {max(registers)} registers")
    if sum(spills) or not spills:
        sys.exit(1)
