# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Models that onnxruntime's tools quantized, cut between layers: every layer then runs on onnxruntime's own inputs."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

INTEGERS = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16}


def session(model, *, optimized: bool = True, outputs: list[str] | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if isinstance(model, Path):
        model = onnx.load(model)
    if outputs:
        model = onnx.ModelProto.FromString(model.SerializeToString())
        known = {o.name for o in model.graph.output}
        model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs if name not in known)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def integer_values(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The quantized activations of onnxruntime's unoptimized run: what nodes other than constants' give as 8 or 16 bits."""
    constants = {i.name for i in model.graph.initializer}
    computed: list[str] = []
    for node in model.graph.node:
        if all(name in constants for name in node.input):
            constants.update(node.output)
        elif node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear") or node.op_type in ("QGemm", "DynamicQuantizeLinear"):
            computed.append(node.output[0])
    run = session(model, optimized=False, outputs=computed)
    return dict(zip(computed, run.run(computed, feed)))


def cut(model: onnx.ModelProto, values: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Every reader of a value of `values` reads an input `NAME/in`; every such value is an output, in that order, the only ones."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in values:
                node.input[index] = f"{name}/in"
    read = {name for node in graph.node for name in node.input}
    kept = [i for i in graph.input if i.name in read]
    del graph.input[:]
    graph.input.extend(kept)
    del graph.output[:]
    del graph.value_info[:]
    for name, value in values.items():
        dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
        if f"{name}/in" in read:
            graph.input.append(helper.make_tensor_value_info(f"{name}/in", dtype, value.shape))
        graph.output.append(helper.make_tensor_value_info(name, dtype, value.shape))
    return model
