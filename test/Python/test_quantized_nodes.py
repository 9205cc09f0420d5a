# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""onnxruntime's quantized operators, one node each: within a step of onnxruntime, float results within rounding."""
from __future__ import annotations

import json

import numpy as np
import pytest

from conftest import require_compiler

pytest.importorskip("onnxruntime", reason="needs onnxruntime")
onnx = pytest.importorskip("onnx", reason="needs onnx")

from onnx import helper, numpy_helper  # noqa: E402

require_compiler()

import lowbit as lb  # noqa: E402
from quantized import session  # noqa: E402

RANDOM = np.random.default_rng(7)
U8, I8, F32 = np.uint8, np.int8, np.float32


def ints(dtype, *shape) -> np.ndarray:
    info = np.iinfo(dtype)
    return RANDOM.integers(info.min, info.max + 1, shape).astype(dtype)


def s(value: float) -> np.ndarray:
    return np.array(value, F32)


def z(dtype, value: int = 0) -> np.ndarray:
    return np.array(value, dtype)


class Node:
    """Inputs that are marked with `run` come at the run; the rest are initializers; None is left out."""

    def __init__(self, op: str, *inputs, domain: str = "com.microsoft", **attrs):
        self.op, self.inputs, self.domain, self.attrs = op, inputs, domain, attrs


class run:
    def __init__(self, value: np.ndarray):
        self.value = value


NODES = {
    "add": Node("QLinearAdd", run(ints(U8, 3, 5)), s(0.1), z(U8, 100), run(ints(U8, 5)), s(0.07), z(U8, 90), s(0.2), z(U8, 120)),
    "add_i8": Node("QLinearAdd", run(ints(I8, 3, 5)), s(0.1), z(I8, -3), run(ints(I8, 3, 5)), s(0.07), z(I8), s(0.2), z(I8)),
    "mul": Node("QLinearMul", run(ints(U8, 3, 5)), s(0.1), z(U8, 100), run(ints(U8, 3, 1)), s(0.07), z(U8, 90), s(0.9), z(U8, 120)),
    "sigmoid": Node("QLinearSigmoid", run(ints(U8, 4, 6)), s(0.05), z(U8, 128), s(1 / 256), z(U8)),
    "leaky": Node("QLinearLeakyRelu", run(ints(I8, 4, 6)), s(0.05), z(I8, 4), s(0.06), z(I8, -20), alpha=0.2),
    "softmax": Node("QLinearSoftmax", run(ints(U8, 4, 6)), s(0.03), z(U8, 128), s(1 / 256), z(U8), axis=-1, opset=13),
    "average": Node("QLinearAveragePool", run(ints(U8, 1, 3, 6, 6)), s(0.05), z(U8, 7), s(0.05), z(U8, 9), kernel_shape=[3, 3], strides=[2, 2],
                    pads=[1, 1, 1, 1]),
    "global": Node("QLinearGlobalAveragePool", run(ints(U8, 2, 3, 6, 6)), s(0.05), z(U8, 7), s(0.01), z(U8, 9)),
    "concat": Node("QLinearConcat", s(0.1), z(U8, 3), run(ints(U8, 2, 3)), s(0.05), z(U8, 9), run(ints(U8, 2, 4)), s(0.2), z(U8, 60), axis=1),
    "where": Node("QLinearWhere", run(RANDOM.integers(0, 2, (3, 4)).astype(bool)), run(ints(U8, 3, 4)), s(0.1), z(U8, 5), run(ints(U8, 3, 4)), s(0.2),
                  z(U8, 60), s(0.2), z(U8, 30)),
    "gemm": Node("QGemm", run(ints(U8, 5, 24)), s(0.05), z(U8, 120), ints(I8, 24, 8), RANDOM.uniform(0.01, 0.02, 8).astype(F32), np.zeros(8, I8),
                 RANDOM.integers(-500, 500, 8).astype(np.int32), s(0.5), z(U8, 128), transA=0, transB=0, alpha=1.0),
    "gemm_float": Node("QGemm", run(ints(I8, 5, 24)), s(0.05), z(I8, 12), ints(I8, 8, 24), s(0.02), z(I8), RANDOM.integers(-500, 500, 8).astype(np.int32), None,
                       None, transA=0, transB=1, alpha=2.0),
    "gemm_asymmetric": Node("QGemm", run(ints(U8, 5, 24)), s(0.05), z(U8, 120), ints(U8, 24, 8), s(0.02), z(U8, 77), None, s(0.5), z(U8, 128), transA=0,
                            transB=0, alpha=1.0),
    "matmul": Node("QLinearMatMul", run(ints(U8, 2, 5, 24)), s(0.05), z(U8, 120), ints(I8, 24, 8), RANDOM.uniform(0.01, 0.02, 8).astype(F32), np.zeros(8, I8),
                   s(0.5), z(U8, 128), domain=""),
    "conv": Node("QLinearConv", run(ints(U8, 1, 4, 7, 7)), s(0.05), z(U8, 120), ints(I8, 6, 4, 3, 3), RANDOM.uniform(0.01, 0.02, 6).astype(F32),
                 np.zeros(6, I8), s(0.5), z(U8, 128), RANDOM.integers(-500, 500, 6).astype(np.int32), domain="", pads=[1, 1, 1, 1], strides=[2, 2]),
    "conv_groups": Node("QLinearConv", run(ints(U8, 1, 4, 7, 7)), s(0.05), z(U8, 120), ints(I8, 4, 1, 3, 3), s(0.02), z(I8), s(0.5), z(U8, 128), domain="",
                        group=4),
    "dynamic": Node("DynamicQuantizeMatMul", run(RANDOM.normal(size=(5, 24)).astype(F32)), ints(I8, 24, 8), s(0.02), z(I8), RANDOM.normal(size=8).astype(F32)),
    "dynamic_u8": Node("DynamicQuantizeMatMul", run(RANDOM.normal(size=(5, 24)).astype(F32)), ints(U8, 24, 8), s(0.02), z(U8, 100)),
    "to_float": Node("MatMulIntegerToFloat", run(ints(U8, 5, 24)), ints(I8, 24, 8), s(0.05), RANDOM.uniform(0.01, 0.02, 8).astype(F32), z(U8, 3), np.zeros(8, I8),
                     RANDOM.normal(size=8).astype(F32)),
    "matmul_integer": Node("MatMulInteger", run(ints(U8, 5, 24)), ints(I8, 24, 8), z(U8, 3), np.zeros(8, I8), domain=""),
    "conv_integer": Node("ConvInteger", run(ints(U8, 1, 4, 7, 7)), ints(U8, 6, 4, 3, 3), z(U8, 100), z(U8, 3), domain="", pads=[1, 1, 1, 1]),
}
#: Layers that reach the integer kernels.
LAYERS = {"gemm", "gemm_float", "gemm_asymmetric", "matmul", "conv", "dynamic", "dynamic_u8", "to_float"}


@pytest.mark.parametrize("name", NODES)
def test_node(tmp_path, name):
    node = NODES[name]
    names, inputs, initializers, feed = [], [], [], {}
    for index, value in enumerate(node.inputs):
        names.append("" if value is None else f"i{index}")
        if isinstance(value, run):
            dtype = helper.np_dtype_to_tensor_dtype(value.value.dtype)
            inputs.append(helper.make_tensor_value_info(names[-1], dtype, value.value.shape))
            feed[names[-1]] = value.value
        elif value is not None:
            initializers.append(numpy_helper.from_array(value, names[-1]))
    while names and not names[-1]:
        names.pop()
    graph = helper.make_graph([helper.make_node(node.op, names, ["y"], name=name, domain=node.domain, **node.attrs)], "node", inputs,
                              [helper.make_empty_tensor_value_info("y")], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    want = session(model).run(None, feed)[0]
    # The type of the output, which a file must say.
    graph.output[0].CopyFrom(helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(want.dtype), want.shape))
    model = helper.make_model(graph, opset_imports=model.opset_import, ir_version=8)
    bundle = lb.compile(model, output=tmp_path / "n.lowbit")
    got = bundle.run(feed)["y"]
    assert got.dtype == want.dtype and got.shape == want.shape
    if want.dtype == F32:
        assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    else:
        assert np.abs(got.astype(int) - want.astype(int)).max() <= (0 if want.dtype == np.int32 else 1)
    if name in LAYERS:
        (layer,) = json.loads((tmp_path / "n.lowbit" / "manifest.json").read_text())["layers"]
        assert (layer["rule"], layer["kernel"], layer["name"]) == ("the model", "cpu.qgemm", name)
