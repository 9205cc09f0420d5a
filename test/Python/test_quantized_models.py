# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Models that onnxruntime's tools quantized: layer by layer on onnxruntime's own inputs, and as a whole."""
from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from conftest import MODELS, require_compiler, shared_model

ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
onnx = pytest.importorskip("onnx", reason="needs onnx")
quantization = pytest.importorskip("onnxruntime.quantization", reason="needs onnxruntime's quantizer")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static  # noqa: E402
from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: E402

require_compiler()

import lowbit as lb  # noqa: E402
from quantized import cut, integer_values, session  # noqa: E402

SCHEMES = [(activations, per_channel) for activations in ("u8", "s8") for per_channel in (False, True)]


def shared(model: str, data: str, *more):
    return shared_model(model, data, *more, name=f"{model}-{'-'.join(('pc' if m else 'pt') if isinstance(m, bool) else m for m in more)}")


DIGITS = (MODELS / "digits_cnn.onnx", MODELS / "digits_calib.npz", MODELS / "digits_eval.npz")
MODELS_AND_SCHEMES = [pytest.param(*DIGITS, a, p, id=f"digits_cnn-{a}-{'pc' if p else 'pt'}") for a, p in SCHEMES]
MODELS_AND_SCHEMES += [shared(model, data, a, p) for a, p in SCHEMES for model, data in (
    ("mnist", "mnist"), ("kws_dscnn", "kws"), ("resnet8_cifar10", "cifar10raw"), ("resnet20_cifar10", "cifar10"), ("stories260K", "stories"))]


def feeds(model: onnx.ModelProto, data: Path, count: int) -> list[dict[str, np.ndarray]]:
    """The first samples, one per feed."""
    given = {i.name for i in model.graph.initializer}
    info = next(i for i in model.graph.input if i.name not in given)
    kind = info.type.tensor_type
    with np.load(data) as arrays:
        samples = (arrays[info.name] if info.name in arrays else arrays["tokens"])[:count]
    samples = samples.astype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    rank = len(kind.shape.dim)
    return [{info.name: sample if sample.ndim == rank else sample[None]} for sample in samples]


class Reader(quantization.CalibrationDataReader):
    def __init__(self, samples):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


def flatten_biases(path: Path) -> None:
    """[1, N] biases of Gemm as [N]: onnxruntime 1.32's quantizer takes no others per channel."""
    model = onnx.load(path)
    biases = {n.input[2] for n in model.graph.node if n.op_type == "Gemm" and len(n.input) > 2}
    for tensor in model.graph.initializer:
        if tensor.name in biases and len(tensor.dims) == 2 and tensor.dims[0] == 1:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[0], tensor.name))
            kept = [i for i in model.graph.input if i.name != tensor.name]
            del model.graph.input[:]
            model.graph.input.extend(kept)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """Quantizes with onnxruntime; a path by model and options, made once."""
    folder, made = tmp_path_factory.mktemp("quantized"), {}

    def prepared(model: Path) -> Path:
        path = folder / f"{model.stem}.onnx"
        if not path.exists():
            proto = onnx.load(model)
            if proto.opset_import[0].version < 13:  # per-axis scales
                proto = onnx.version_converter.convert_version(proto, 17)
            onnx.save(proto, path)
            quant_pre_process(str(path), str(path), skip_symbolic_shape=True)
            flatten_biases(path)
        return path

    def make(model: Path, data: Path, activations: str, per_channel: bool, *, form=QuantFormat.QDQ, weights=QuantType.QInt8, **extra) -> Path:
        key = (model, activations, per_channel, form, weights, *extra)
        if key not in made:
            made[key] = folder / f"{model.stem}.{len(made)}.onnx"
            source = prepared(model)
            logging.disable(logging.WARNING)
            quantize_static(str(source), str(made[key]), Reader(feeds(onnx.load(source), data, 20)), quant_format=form, per_channel=per_channel,
                            activation_type=QuantType.QUInt8 if activations == "u8" else QuantType.QInt8, weight_type=weights, extra_options=extra)
        return made[key]

    make.prepared = prepared
    return make


def layers(bundle: Path) -> list[dict]:
    return json.loads((bundle / "manifest.json").read_text())["layers"]


def compiled(lowbit, model: onnx.ModelProto | Path, folder: Path) -> Path:
    """`lowbit compile` without a recipe."""
    path, bundle = model, folder / "q.lowbit"
    if not isinstance(model, Path):
        path = folder / "model.onnx"
        onnx.save(model, path)
    done = lowbit("compile", path, "-o", bundle, "-q", "--force")
    assert done.returncode == 0, done.stderr
    return bundle


def steps_apart(lowbit, model: onnx.ModelProto, samples, folder: Path) -> int:
    """The largest difference of any quantized activation where every layer reads onnxruntime's values."""
    values = integer_values(model, samples[0])
    bundle = lb.Bundle(compiled(lowbit, cut(model, values), folder))
    worst = 0
    for sample in samples:
        values = integer_values(model, sample)
        inputs = {i.name: sample.get(i.name, values.get(i.name[:-3])) for i in bundle.inputs}
        got = bundle.run(inputs)
        worst = max([worst, *(int(np.abs(got[name].astype(int) - want.astype(int)).max()) for name, want in values.items())])
    return worst


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z.reshape(-1, z.shape[-1]).astype(np.float64)
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float((np.exp(p) * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("model,calibration,evaluation,activations,per_channel", MODELS_AND_SCHEMES)
def test_static(lowbit, tmp_path, quantized, model, calibration, evaluation, activations, per_channel):
    """Every layer within one step of the unoptimized run, the model as close to it as onnxruntime's optimized run."""
    path = quantized(model, calibration, activations, per_channel)
    proto = onnx.load(path)
    text = model.stem == "stories260K"
    samples = feeds(proto, evaluation, 35 if text else 200)
    assert steps_apart(lowbit, proto, samples[:2], tmp_path) <= 1
    bundle = compiled(lowbit, path, tmp_path)
    made = [layer for layer in layers(bundle) if layer["rule"] == "the model"] if not text else []
    assert all(layer["activations"] == ("u8" if activations == "u8" else "i8") for layer in made)
    if model.stem in ("mnist", "resnet8_cifar10", "resnet20_cifar10", "digits_cnn"):
        assert made and {layer["kernel"] for layer in made if layer["op"] != "Gather"} <= {"cpu.qgemm", "linalg"}
    run = lb.Bundle(bundle).run
    exact, fast = session(proto, optimized=False), session(proto)
    ours, want, optimized = (np.concatenate([log_softmax(f(sample)) for sample in samples]) for f in (
        lambda s: next(iter(run(s).values())), lambda s: exact.run(None, s)[0], lambda s: fast.run(None, s)[0]))
    assert (ours.argmax(-1) == want.argmax(-1)).mean() >= 0.99
    assert divergence(want, ours) <= 2 * divergence(want, optimized) + 1e-4


@pytest.mark.parametrize("weights", [QuantType.QInt8, QuantType.QUInt8], ids=["s8", "u8"])
def test_qoperator(lowbit, tmp_path, quantized, weights):
    path = quantized(*DIGITS[:2], "u8", weights == QuantType.QInt8, form=QuantFormat.QOperator, weights=weights)
    proto = onnx.load(path)
    assert any(node.op_type == "QLinearConv" for node in proto.graph.node)
    assert steps_apart(lowbit, proto, feeds(proto, DIGITS[2], 5), tmp_path) <= 1
    assert all(layer["rule"] == "the model" for layer in layers(compiled(lowbit, path, tmp_path)))


def test_dynamic(lowbit, tmp_path, quantized):
    """Scale and zero point of the run in the integer kernels, to the bit."""
    path = tmp_path / "dynamic.onnx"
    quantize_dynamic(str(quantized.prepared(DIGITS[0])), str(path))
    proto = onnx.load(path)
    bundle = compiled(lowbit, path, tmp_path)
    kernels = [layer["kernel"] for layer in layers(bundle)]
    assert kernels and all(layer["activations"] == "u8" for layer in layers(bundle)) and "cpu.qgemm" in kernels
    run, exact = lb.Bundle(bundle).run, session(proto, optimized=False)
    for sample in feeds(proto, DIGITS[2], 5):
        got, want = next(iter(run(sample).values())), exact.run(None, sample)[0]
        assert np.abs(got - want).max() <= 1e-4 * np.ptp(want)


def blocked(weights: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, kind: int, block: int) -> onnx.ModelProto:
    """y = x · DequantizeLinear(weights in blocks along K)."""
    packed = helper.make_tensor("w", kind, weights.shape, weights.astype(np.int64).ravel())
    initializers = [packed, numpy_helper.from_array(scale.astype(np.float32), "s")]
    if zero is not None:
        initializers.append(helper.make_tensor("z", kind, zero.shape, zero.astype(np.int64).ravel()))
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["w", "s"] + ["z"] * (zero is not None), ["d"], axis=0, block_size=block),
         helper.make_node("MatMul", ["x", "d"], ["y"], name="fc")], "blocked",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", weights.shape[1]])], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("kind,low,high", [(TensorProto.INT4, -8, 8), (TensorProto.UINT4, 0, 16), (TensorProto.INT8, -128, 128), (TensorProto.UINT8, 0, 256)])
@pytest.mark.parametrize("k,block,asymmetric", [(64, 32, True), (40, 16, True), (64, 16, False)])
def test_blocked_weights(lowbit, tmp_path, kind, low, high, k, block, asymmetric):
    """Blocks along K, the last one partial, are groups of the weight-only kernels."""
    random = np.random.default_rng(k + block)
    blocks = -(-k // block)
    zero = random.integers(low, high, (blocks, 24)) if asymmetric else None
    model = blocked(random.integers(low, high, (k, 24)), random.uniform(0.01, 0.1, (blocks, 24)), zero, kind, block)
    bundle = compiled(lowbit, model, tmp_path)
    (layer,) = layers(bundle)
    assert (layer["rule"], layer["per"], layer["group"], layer["kernel"]) == ("the model", "group", block, "cpu.wgemm")
    x = random.normal(size=(5, k)).astype(np.float32)
    want = session(model, optimized=False).run(None, {"x": x})[0]
    assert np.abs(lb.Bundle(bundle).run({"x": x})["y"] - want).max() <= 1e-5 * np.abs(want).max()


def test_second_quantization_is_refused(lowbit, tmp_path, quantized):
    path = quantized(*DIGITS[:2], "u8", True)
    done = lowbit("compile", path, "--recipe", "int4", "-o", tmp_path / "q.lowbit")
    assert done.returncode == 3
    names = [n.name for n in onnx.load(path).graph.node if n.op_type in ("Conv", "Gemm", "MatMul") and n.name]
    assert names and "quantized already" in done.stderr and all(name in done.stderr for name in names)
    shown = json.loads(lowbit("inspect", path, "--json").stdout)
    assert all(layer["quantized"] and not layer["quantizable"] for layer in shown["layers"])


def test_export_again(tmp_path, quantized):
    """A quantized model leaves as it came: the same integers for other runtimes."""
    path = quantized(*DIGITS[:2], "s8", True)
    lb.export(path, tmp_path / "again.onnx", recipe="fp32")
    before, after = (session(p, optimized=False) for p in (path, tmp_path / "again.onnx"))
    for sample in feeds(onnx.load(path), DIGITS[2], 5):
        assert np.array_equal(before.run(None, sample)[0], after.run(None, sample)[0])
