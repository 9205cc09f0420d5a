# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What quantization may cost on real CNNs, through the Python interface: the named recipes, with nothing set per model."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lowbit
from conftest import SHARED, needs_shared, require_compiler, shared_model

onnx = pytest.importorskip("onnx", reason="needs onnx")
ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")

require_compiler()

from Inputs.rescale import rescale  # noqa: E402

SEEDS = (0, 1, 2)


class Cost:
    """What a candidate lost against the float model; KL(float ‖ candidate) in nats per sample, drop in points of accuracy."""

    def __init__(self, reference: Path, candidate: lowbit.Bundle, data: Path) -> None:
        report = lowbit.evaluate(reference, [candidate], data, task="classify").data
        found = report["candidates"][0]
        self.kl, self.p99 = found["drift"]["kl"], found["tail"]["kl"]["p99"]
        self.drop = 100 * (report["reference"]["task"]["value"] - found["task"]["value"])

    def __str__(self) -> str:
        return f"KL mean {self.kl:.2e}, p99 {self.p99:.2e}, drop {self.drop:+.2f} points"


def weight_layers(model: onnx.ModelProto) -> int:
    """How many Conv, Gemm and MatMul have constant weights."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return sum(node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants for node in model.graph.node)


def assert_all_int8(bundle: lowbit.Bundle, layers: int) -> None:
    summary = bundle.manifest["summary"]
    assert summary["quantizable"] == summary["quantized"] == summary["int8_compute"] == layers
    assert summary["left_in_float"] == []
    assert all(layer["weights"] == "i8" and layer["activations"] == "u8" for layer in bundle.manifest["layers"])


# model, calibration data, evaluation data, and what at most: mean and p99 KL, drop in points
INT8 = [
    shared_model("resnet8_cifar10", "cifar10raw", 3.0e-3, 3.3e-2, 0.7, name="resnet8"),
    shared_model("resnet20_cifar10", "cifar10", 2.4e-3, 4.9e-2, 0.25, name="resnet20"),
    shared_model("kws_dscnn", "kws", 1.4e-3, 2.5e-2, 0.25, name="kws"),
]


@pytest.mark.parametrize("model,calibration,evaluation,kl,p99,drop", INT8)
def test_int8(model, calibration, evaluation, kl, p99, drop):
    with lowbit.compile(model, recipe="int8", calibration_data=calibration) as bundle:
        assert_all_int8(bundle, weight_layers(onnx.load(model)))
        cost = Cost(model, bundle, evaluation)
    assert cost.kl <= kl and cost.p99 <= p99 and cost.drop <= drop, str(cost)


# model, calibration data, evaluation data
RESCALED = [
    shared_model("kws_dscnn", "kws", name="kws"),
    shared_model("resnet8_cifar10", "cifar10raw", name="resnet8"),
]


def outputs(model: bytes, data: Path) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    with np.load(data) as arrays:
        return session.run(None, {name: arrays[name]})[0]


@pytest.mark.parametrize("model,calibration,evaluation", RESCALED)
@pytest.mark.parametrize("seed", SEEDS)
def test_int8_of_rescaled_channels(model, calibration, evaluation, seed):
    """Channels whose ranges differ by up to 256 times: per-tensor activations alone leave little of such a model."""
    rescaled = rescale(model, seed)
    want = outputs(onnx.load(model).SerializeToString(), evaluation)
    assert np.abs(outputs(rescaled.SerializeToString(), evaluation) - want).max() <= 1e-4 * np.ptp(want), "not the same function"
    with lowbit.compile(rescaled, recipe="int8", calibration_data=calibration) as bundle:
        assert_all_int8(bundle, weight_layers(rescaled))
        cost = Cost(model, bundle, evaluation)
    assert cost.drop <= 1.5, str(cost)


# model, calibration data, evaluation data, and what at most: mean KL, drop in points (None: not asked)
INT4 = [
    shared_model("resnet20_cifar10", "cifar10", 2.0e-2, None, name="resnet20"),
    shared_model("resnet8_cifar10", "cifar10raw", 0.10, 3.5, name="resnet8"),
]


@pytest.mark.parametrize("model,calibration,evaluation,kl,drop", INT4)
def test_int4_gptq(model, calibration, evaluation, kl, drop):
    """All layers, the last too, in 4 bits; arithmetic in float."""
    with lowbit.compile(model, recipe="int4-gptq:group=32,head=u4", calibration_data=calibration) as bundle:
        summary = bundle.manifest["summary"]
        assert summary["quantizable"] == summary["quantized"] == summary["weight_only"] == weight_layers(onnx.load(model))
        assert all(layer["weights"] == "u4" for layer in bundle.manifest["layers"])
        assert summary["bits_per_weight"] <= 5.4
        cost = Cost(model, bundle, evaluation)
    assert cost.kl <= kl, str(cost)
    assert drop is None or cost.drop <= drop, str(cost)


@needs_shared
def test_int4_gptq_beats_rounding_to_nearest():
    """What the sequential pass is for: the same bits, the same groups."""
    model, data = SHARED / "models" / "resnet20_cifar10.onnx", SHARED / "data"
    costs = []
    for recipe in ("int4-gptq:group=32,head=u4", "int4:group=32,head=u4"):
        with lowbit.compile(model, recipe=recipe, calibration_data=data / "cifar10_calib.npz") as bundle:
            costs.append(Cost(model, bundle, data / "cifar10_eval.npz"))
    assert costs[0].kl <= 0.5 * costs[1].kl, f"GPTQ: {costs[0]}; RTN: {costs[1]}"
