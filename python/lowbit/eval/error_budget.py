# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a layer's error consists of: rounded weights, clipped activations, rounded activations, the kernel.

One layer is quantized, all others are float. Starting from the float model, the four steps are made
one after the other, and each is the squared change of the model's output that it makes, relative to
the squared output of the float model, in dB. The first three are evaluated in onnxruntime, without
its optimizations, on the model that `lowbit export` writes; the last is the bundle against that.
"""
from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidInput, Unavailable
from ..runtime import Bundle
from ..variants import Layer, Variants
from .sensitivity import Probe, Progress

STEPS = ("weight_rounding", "activation_clipping", "activation_rounding", "kernel")
_RANGES = {np.dtype("uint8"): (0, 255), np.dtype("int8"): (-128, 127), np.dtype("uint16"): (0, 65535), np.dtype("int16"): (-32768, 32767)}


def error_budget(variants: Variants, probe: Probe, layers: Sequence[str], scratch: str | os.PathLike[str], *,
                 progress: Progress | None = None) -> dict[str, Any]:
    """The budget of each of these layers. Entries hold `STEP_db` for each step, `together_db` for the
    whole difference between the bundle and the float model, and `largest`, the step with the largest
    part. A step that changes nothing is −infinity. Where activations get their range when the model
    runs there is no file to evaluate: `reason` says so, and the steps are missing.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError:
        raise Unavailable("an error budget needs onnx and onnxruntime: pip install onnx onnxruntime") from None
    known = {layer.name: layer for layer in variants.layers}
    entries = []
    for done, name in enumerate(layers, 1):
        layer = known[name]
        if "dynamic" in layer.activations:
            entries.append({"layer": name, "reason": "its activations get their range when the model runs", **{f"{step}_db": None for step in STEPS}, "together_db": None})
        else:
            path = Path(scratch) / "alone.qdq.onnx"
            variants.export(variants.alone(name), path)
            entries.append({"layer": name, **_budget(variants, probe, layer, onnx.load(path))})
        if progress:
            progress(done, len(layers))
    return {"unit": "dB of the model's output, relative to it", "output": probe.output, "samples": probe.samples,
            "order": "each step on top of those before it", "layers": entries}


def _budget(variants: Variants, probe: Probe, layer: Layer, exported: Any) -> dict[str, Any]:
    models = [_session(_with_activations(exported, layer.name, what)) for what in ("float", "clipped")]
    models.append(_session(exported))
    bundle = variants.compile(variants.alone(layer.name))
    try:
        squares, reference, together = np.zeros(4), 0.0, 0.0
        for index, feed in enumerate(probe.feeds):
            stages = [probe.expected(index), *(session.run([_output_of(session, probe.output)], dict(feed.inputs))[0] for session in models), _run(bundle, probe, feed.inputs)]
            stages = [np.asarray(stage, np.float64).ravel() for stage in stages]
            reference += float(stages[0] @ stages[0])
            together += _square(stages[-1] - stages[0])
            squares += [_square(after - before) for before, after in zip(stages, stages[1:])]
    finally:
        variants.drop(bundle)
    if not reference:
        raise InvalidInput(f"output '{probe.output}' of the reference is all zeros: nothing is relative to it")
    entry: dict[str, Any] = {f"{step}_db": _db(float(square) / reference) for step, square in zip(STEPS, squares)}
    entry["together_db"] = _db(together / reference)
    entry["largest"] = STEPS[int(np.argmax(squares))]
    return entry


def _square(x: np.ndarray) -> float:
    return float(x @ x)


def _db(ratio: float) -> float:
    return 10 * math.log10(ratio) if ratio > 0 else -math.inf


def _run(bundle: Bundle, probe: Probe, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    return bundle.run(inputs)[probe.name_in(bundle)]


def _session(model: Any) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _output_of(session: Any, name: str) -> str:
    names = [output.name for output in session.get_outputs()]
    return name if name in names else names[0]


def _with_activations(exported: Any, name: str, what: str) -> Any:
    """A copy in which the layer reads its input unquantized, or clipped to the range of its quantization."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(exported)
    graph = model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    node = next((node for node in graph.node if node.name == name), None)
    if node is None:
        raise InvalidInput(f"the exported model has no node '{name}'; name the nodes of the model")
    dequantize = made_by.get(node.input[0])
    quantize = made_by.get(dequantize.input[0]) if dequantize is not None and dequantize.op_type == "DequantizeLinear" else None
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return model  # weights only
    node.input[0] = quantize.input[0]
    if what == "clipped":
        constants = {tensor.name: tensor for tensor in graph.initializer}
        scale = float(numpy_helper.to_array(constants[quantize.input[1]]))
        zero = numpy_helper.to_array(constants[quantize.input[2]])
        low, high = _RANGES[zero.dtype]
        bounds = [np.float32((bound - int(zero)) * scale) for bound in (low, high)]
        names = [f"{name}__clip_{end}" for end in ("low", "high")]
        graph.initializer.extend(numpy_helper.from_array(np.asarray(bound), text) for bound, text in zip(bounds, names))
        clip = helper.make_node("Clip", [quantize.input[0], *names], [f"{name}__clipped"], name=f"{name}__clip")
        node.input[0] = clip.output[0]
        graph.node.insert(list(graph.node).index(node), clip)
    return model
