# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The node cases of the onnx package, in the variants that differ for a compiler."""
from __future__ import annotations

import hashlib
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

#: static: as published. dynamic: every dim of every input known only at the run. constant: all inputs but the first are
#: initializers, as axes, shapes, weights and scales of exported models are.
VARIANTS = ("static", "dynamic", "constant")


@dataclass
class Case:
    """One published case: `model` is serialized, `data` is a list of (inputs, expected outputs)."""

    name: str
    model: bytes
    data: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float

    @property
    def third(self) -> int:
        """0, 1 or 2, from the name alone."""
        return hashlib.sha256(self.name.encode()).digest()[0] % 3


def array(value: Any) -> Any:
    """Some cases hold their tensors as protobufs."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def load(cache: Path | None) -> list[Case]:
    """All node cases by name. The onnx package computes them anew each time (10 s and more), hence the cache."""
    path = cache / f"onnx-{onnx.__version__}-node-cases.pickle" if cache else None
    if path and path.exists():
        return pickle.loads(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases
        found = collect_testcases(None)
    cases = [Case(case.name, case.model.SerializeToString(),
                  [([array(value) for value in given], [array(value) for value in expected]) for given, expected in case.data_sets],
                  case.rtol, case.atol)
             for case in sorted(found, key=lambda case: case.name)]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(pickle.dumps(cases))
        temporary.replace(path)
    return cases


def variant(case: Case, kind: str) -> tuple[onnx.ModelProto, list[tuple[dict[str, Any], list[Any]]]] | None:
    """The model in a variant with its named inputs and expected outputs; None where it does not differ from static."""
    model = onnx.load_from_string(case.model)
    inputs = list(model.graph.input)
    # A value that an optional or sequence input takes stays in its list: the importer refuses the type.
    data = [({info.name: value for info, value in zip(inputs, given)}, expected) for given, expected in case.data]
    if kind == "static":
        return model, data
    tensors = [info for info in inputs if info.type.HasField("tensor_type")]
    if kind == "dynamic":
        changed = False
        for info in tensors:
            for axis, dim in enumerate(info.type.tensor_type.shape.dim):
                changed |= dim.HasField("dim_value")
                dim.dim_param = f"{info.name}_{axis}"
        for info in model.graph.output:
            if info.type.HasField("tensor_type"):
                for dim in info.type.tensor_type.shape.dim:
                    dim.Clear()
        return (model, data) if changed else None
    if len(tensors) < 2 or len(tensors) != len(inputs) or len(data) != 1:
        return None
    feeds = data[0][0]
    for info in tensors[1:]:
        model.graph.initializer.append(numpy_helper.from_array(feeds[info.name], info.name))
        model.graph.input.remove(info)
    return model, [({inputs[0].name: feeds[inputs[0].name]}, data[0][1])]
