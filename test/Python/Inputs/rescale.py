#!/usr/bin/env python3
# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gives the channels of a CNN very different ranges without changing what it computes.

Each BatchNormalization's output channels are multiplied by random 2^[-4, 4], and the input channels of the layers that read
them are divided by the same. Channels that meet in an Add share their factors, so a convolution that adds to such channels
without a BatchNormalization of its own is multiplied as well.

    rescale.py model.onnx rescaled.onnx SEED
"""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

# max(0, a·x) = a·max(0, x) for a > 0, and these keep channel c in channel c.
KEEP_CHANNELS = ("Relu", "Add", "AveragePool", "GlobalAveragePool", "MaxPool", "Flatten")
LAYERS = ("Conv", "Gemm")


def rescale(source: str | Path | onnx.ModelProto, seed: int, octaves: float = 4.0) -> onnx.ModelProto:
    """A copy of the model with rescaled channels; ValueError if no channel of it can be rescaled."""
    model = onnx.ModelProto()
    model.CopyFrom(source if isinstance(source, onnx.ModelProto) else onnx.load(source))
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    constant = {name: numpy_helper.to_array(tensor).astype(np.float64) for name, tensor in tensors.items()}
    parent: dict[str, str] = {}

    def group(name: str) -> str:
        """The representative of all values that share their channels' factors."""
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    frozen = {value.name for value in (*graph.input, *graph.output)}
    for node in graph.node:
        if node.op_type in KEEP_CHANNELS:
            for name in (*node.input, *node.output):
                parent[group(name)] = group(node.output[0])
        elif node.op_type not in (*LAYERS, "BatchNormalization"):
            frozen.update((*node.input, *node.output))
    frozen = {group(name) for name in frozen}

    normalized = {node.input[0] for node in graph.node if node.op_type == "BatchNormalization"}
    rng = np.random.default_rng(seed)
    factors: dict[str, np.ndarray] = {}
    for node in graph.node:  # In the graph's order, so that a seed decides the model.
        if node.op_type == "BatchNormalization" and group(node.output[0]) not in frozen and group(node.output[0]) not in factors:
            factors[group(node.output[0])] = 2.0 ** rng.uniform(-octaves, octaves, len(constant[node.input[1]]))
    if not factors:
        raise ValueError("no BatchNormalization whose channels can be rescaled")

    def along(axis: int, value: np.ndarray, factor: np.ndarray) -> np.ndarray:
        return value * factor.reshape([-1 if i == axis else 1 for i in range(value.ndim)])

    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in LAYERS and (divisor := factors.get(group(node.input[0]))) is not None:
            weight = constant[node.input[1]]
            if node.op_type == "Gemm":
                weight = along(1 if attributes.get("transB", 0) else 0, weight, 1 / divisor)
            elif attributes.get("group", 1) == 1:
                weight = along(1, weight, 1 / divisor)
            else:  # Rows of one group read that group's channels.
                rows = len(weight) // attributes["group"]
                read = divisor.reshape(attributes["group"], weight.shape[1]).repeat(rows, axis=0)
                weight = weight / read.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
            constant[node.input[1]] = weight
        if (factor := factors.get(group(node.output[0]))) is None:
            continue
        if node.op_type == "BatchNormalization":
            scaled = node.input[1:3]
        elif node.op_type in LAYERS and node.output[0] not in normalized:
            scaled = node.input[1:3]
        else:
            continue
        for name in scaled:
            axis = 1 if node.op_type == "Gemm" and constant[name].ndim == 2 and not attributes.get("transB", 0) else 0
            constant[name] = along(axis, constant[name], factor)

    for name, tensor in tensors.items():
        if np.issubdtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type), np.floating):
            tensor.CopyFrom(numpy_helper.from_array(constant[name].astype(np.float32), name))
    return model


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    onnx.save(rescale(sys.argv[1], int(sys.argv[3])), sys.argv[2])
