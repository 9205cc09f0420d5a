#!/usr/bin/env python3
"""One quantized matrix product, [M, K] × [K, N], in lowbit and in onnxruntime, interleaved in one process.

    .venv/bin/python test/Benchmark/matmul.py [M K N] [--threads T] [--repeat R]

int8: 8-bit activations and weights; onnxruntime runs the QDQ model that its own static quantizer writes. int4: weight-only, group 32,
asymmetric; onnxruntime runs MatMulNBits, once in f32 (accuracy level 0, the same arithmetic as ours) and once with activations
rounded to 8 bits (level 4, its fastest). Prints what `lowbit bench` prints, then the ratios of the medians.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class OneSample(CalibrationDataReader):
    def __init__(self, x: np.ndarray):
        self.samples = iter([{"x": x}])

    def get_next(self):
        return next(self.samples, None)


def float_model(m: int, k: int, n: int, rng: np.random.Generator) -> onnx.ModelProto:
    w = (rng.standard_normal((k, n)) / np.sqrt(k)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")], "matmul",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [m, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [m, n])], [numpy_helper.from_array(w, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def nbits_model(m: int, k: int, n: int, rng: np.random.Generator, level: int) -> onnx.ModelProto:
    """com.microsoft MatMulNBits on random 4-bit weights in groups of 32 along K."""
    groups = k // 32
    node = helper.make_node("MatMulNBits", ["x", "w", "scale", "zero"], ["y"], domain="com.microsoft", K=k, N=n, bits=4, block_size=32,
                            accuracy_level=level)
    constants = [numpy_helper.from_array(rng.integers(0, 256, (n, groups, 16)).astype(np.uint8), "w"),
                 numpy_helper.from_array(rng.uniform(0.001, 0.01, n * groups).astype(np.float32), "scale"),
                 numpy_helper.from_array(rng.integers(0, 256, n * ((groups + 1) // 2)).astype(np.uint8), "zero")]
    graph = helper.make_graph([node], "matmul", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [m, k])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [m, n])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)], ir_version=10)


def lowbit(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "lowbit", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"lowbit {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", type=int, nargs="*", default=[128, 4096, 4096], metavar="M K N")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=30)
    args = parser.parse_args()
    m, k, n = args.shape
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        x = rng.standard_normal((m, k)).astype(np.float32)
        np.savez(path / "calib.npz", x=x[None])
        np.savez(path / "x.npz", x=x)
        onnx.save(float_model(m, k, n, rng), path / "f32.onnx")
        quantize_static(path / "f32.onnx", path / "int8.onnx", OneSample(x), QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        for level in (0, 4):
            onnx.save(nbits_model(m, k, n, rng, level), path / f"int4_level{level}.onnx")
        lowbit("calibrate", str(path / "f32.onnx"), "--recipe", "int8", "--data", str(path / "calib.npz"), "-o", str(path / "f32.lbcal"))
        lowbit("compile", str(path / "f32.onnx"), "--recipe", "int8", "--calibration", str(path / "f32.lbcal"), "-o", str(path / "int8.lowbit"))
        lowbit("compile", str(path / "f32.onnx"), "--recipe", "int4:group=32,head=u4", "-o", str(path / "int4.lowbit"))
        subjects = ["int8.lowbit", "ort:int8.onnx", "int4.lowbit", "ort:int4_level0.onnx", "ort:int4_level4.onnx", "ort:f32.onnx"]
        names = [f"ort:{path / s[4:]}" if s.startswith("ort:") else str(path / s) for s in subjects]
        result = json.loads(lowbit("bench", *names, "--inputs", str(path / "x.npz"), "--repeat", str(args.repeat),
                                   "--threads", str(args.threads), "--json"))
    medians = {}
    for subject, row in zip(subjects, result["subjects"]):
        medians[subject] = row["ms"]["median"]
        rate = 2 * m * k * n / row["ms"]["median"] / 1e6
        print(f"{subject:22s} median {row['ms']['median']:8.3f} ms  p10 {row['ms']['p10']:8.3f}  p90 {row['ms']['p90']:8.3f}  {rate:7.1f} GOP/s")
    for ours, theirs in (("int8.lowbit", "ort:int8.onnx"), ("int4.lowbit", "ort:int4_level0.onnx"), ("int4.lowbit", "ort:int4_level4.onnx")):
        print(f"{ours} : {theirs} = {medians[theirs] / medians[ours]:.2f} × as fast")


if __name__ == "__main__":
    main()
