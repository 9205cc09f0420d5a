#!/usr/bin/env python3
"""f32 layers, one model each, in lowbit and in onnxruntime, interleaved in one process.

    .venv/bin/python test/Benchmark/float.py [NAME…] [--threads T] [--repeat R] [--model FILE.onnx --inputs FILE.npz]

Without names: every layer of CASES. Prints the medians in milliseconds, the rate, and how many times as fast lowbit is.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def matmul(m, k, n, constant=True, batch=()):
    return {"op": "MatMul", "x": (*batch, m, k), "w": (*batch, k, n), "constant": constant, "work": m * k * n * int(np.prod(batch))}


def conv(channels, size, filters, kernel, stride=1, group=1):
    out = (size - 1) // stride + 1
    return {"op": "Conv", "x": (1, channels, size, size), "w": (filters, channels // group, kernel, kernel), "constant": True,
            "work": out * out * filters * channels // group * kernel * kernel,
            "attributes": {"pads": [kernel // 2] * 4, "strides": [stride] * 2, "group": group}}


CASES = {
    "matmul_128x4096x4096": matmul(128, 4096, 4096),
    "matmul_512x768x2048": matmul(512, 768, 2048),
    "matmul_512x768x2048_run_time": matmul(512, 768, 2048, constant=False),
    "matmul_1x4096x4096": matmul(1, 4096, 4096),
    "attention_12x512x64x512": matmul(512, 64, 512, constant=False, batch=(1, 12)),
    "conv_3x224_64_7x7_s2": conv(3, 224, 64, 7, 2),
    "conv_64x56_64_3x3": conv(64, 56, 64, 3),
    "conv_128x56_256_3x3_s2": conv(128, 56, 256, 3, 2),
    "conv_512x7_512_3x3": conv(512, 7, 512, 3),
    "conv_256x56_64_1x1": conv(256, 56, 64, 1),
    "conv_64x56_256_1x1": conv(64, 56, 256, 1),
    "conv_96x56_24_1x1": conv(96, 56, 24, 1),
    "depthwise_144x56_3x3": conv(144, 56, 144, 3, 1, 144),
    "depthwise_576x14_3x3_s2": conv(576, 14, 576, 3, 2, 576),
}


def build(case: dict, path: pathlib.Path, rng: np.random.Generator) -> None:
    w = (rng.standard_normal(case["w"]) / np.sqrt(np.prod(case["w"][-2:]))).astype(np.float32)
    x = rng.standard_normal(case["x"]).astype(np.float32)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, case["x"])]
    feeds = {"x": x}
    if not case["constant"]:
        inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, case["w"]))
        feeds["w"] = w
    node = helper.make_node(case["op"], ["x", "w"], ["y"], name="layer", **case.get("attributes", {}))
    rank = len(case["x"])
    graph = helper.make_graph([node], "layer", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"o{i}" for i in range(rank)])],
                              [numpy_helper.from_array(w, "w")] if case["constant"] else [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path / "f32.onnx")
    np.savez(path / "x.npz", **{name: value[None] for name, value in feeds.items()})


def lowbit(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "lowbit", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"lowbit {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def measure(name: str, model: str, inputs: str, work: int, args: argparse.Namespace, folder: str) -> None:
    bundle = f"{folder}/f32.lowbit"
    start = time.perf_counter()
    lowbit("compile", model, "-o", bundle, "--force")
    compiled = time.perf_counter() - start
    rows = json.loads(lowbit("bench", bundle, f"ort:{model}", "--inputs", inputs, "--repeat", str(args.repeat), "--threads", str(args.threads),
                             "--json"))["subjects"]
    ours, theirs = (row["ms"]["median"] for row in rows)
    rate = f"{2 * work / ours / 1e6:7.1f} GFLOP/s" if work else " " * 15
    print(f"{name:30s} lowbit {ours:9.3f} ms {rate}  onnxruntime {theirs:9.3f} ms  {theirs / ours:5.2f} × as fast  (compiled in {compiled:.1f} s)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--model")
    parser.add_argument("--inputs")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in CASES]:
        raise SystemExit(f"no such layer: {', '.join(unknown)}; there are {', '.join(CASES)}")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        if args.model:
            return measure(pathlib.Path(args.model).stem, args.model, args.inputs, 0, args, folder)
        for name in args.names or CASES:
            build(CASES[name], pathlib.Path(folder), rng)
            measure(name, f"{folder}/f32.onnx", f"{folder}/x.npz", CASES[name]["work"], args, folder)


if __name__ == "__main__":
    main()
