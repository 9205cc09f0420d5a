# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""lowbit export: what onnxruntime computes on the exported model is what our bundle computes."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import MODELS, SHARED, require_compiler, shared_model

ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
onnx = pytest.importorskip("onnx", reason="needs onnx")

require_compiler()

import lowbit as lb  # noqa: E402

SYMMETRIC = """lowbit: 1
base: int8
rules:
  - match: {name: "*"}
    weights: {type: i8, per: channel}
    activations: {type: i8, symmetric: true}
"""


def shared(model: str, data: str, *more):
    return shared_model(model, data, *more, name="-".join((model, *(m.split(":")[0] for m in more))))


DIGITS = (MODELS / "digits_cnn.onnx", MODELS / "digits_calib.npz", MODELS / "digits_eval.npz")
CNNS = [pytest.param(*DIGITS, recipe, id=f"digits_cnn-{recipe.split(':')[0]}") for recipe in ("int8", "int4:group=16")]
CNNS += [shared(model, data, recipe) for recipe in ("int8", "int4")
         for model, data in (("mnist", "mnist"), ("kws_dscnn", "kws"), ("resnet8_cifar10", "cifar10raw"), ("resnet20_cifar10", "cifar10"))]
LLAMA = (MODELS / "tiny_llama.onnx", MODELS / "tiny_llama_calib.npz", MODELS / "tiny_llama_eval.npz")
LLAMAS = [pytest.param(*LLAMA, recipe, id=f"tiny_llama-{recipe}") for recipe in ("int8", "int4")]
LLAMAS += [shared("stories260K", "stories", recipe) for recipe in ("int8", "int4")]


def session(path: Path, exact: bool = False) -> ort.InferenceSession:
    """`exact` keeps onnxruntime from rounding the activations of 4-bit layers to 8 bits, which it does by itself."""
    options = ort.SessionOptions()
    if exact:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def both(model: Path, calibration: Path, recipe: str, tmp_path: Path):
    """The exported model's path and our bundle."""
    out = tmp_path / "model.qdq.onnx"
    lb.export(model, out, recipe=recipe, calibration_data=calibration)
    onnx.checker.check_model(str(out), full_check=True)
    return out, lb.compile(model, recipe=recipe, calibration_data=calibration)


@pytest.mark.parametrize("model,calibration,evaluation,recipe", CNNS)
def test_classifier(tmp_path, model, calibration, evaluation, recipe):
    out, bundle = both(model, calibration, recipe, tmp_path)
    run = session(out)
    name = run.get_inputs()[0].name
    original = onnx.load(model)
    given = {i.name for i in original.graph.initializer}
    assert [i.name for i in run.get_inputs()] == [i.name for i in original.graph.input if i.name not in given]
    assert [o.name for o in run.get_outputs()] == [o.name for o in original.graph.output]
    with np.load(evaluation) as arrays:
        samples = arrays[name].astype(np.float32)[:400]
    rank = len(run.get_inputs()[0].shape)
    samples = samples if samples.ndim == rank + 1 else samples[:, None]
    a = np.concatenate([run.run(None, {name: x})[0].reshape(1, -1) for x in samples])
    b = np.concatenate([next(iter(bundle.run({name: x}).values())).reshape(1, -1) for x in samples])
    assert (a.argmax(1) == b.argmax(1)).mean() >= 0.99


def perplexity(run, tokens: np.ndarray) -> float:
    losses = []
    for row in tokens.astype(np.int64):
        z = run({"input_ids": row[None]})[0].astype(np.float64)
        z -= z.max(-1, keepdims=True)
        z -= np.log(np.exp(z).sum(-1, keepdims=True))
        losses.append(-z[np.arange(len(row) - 1), row[1:]])
    return float(np.exp(np.concatenate(losses).mean()))


@pytest.mark.parametrize("model,calibration,evaluation,recipe", LLAMAS)
def test_language_model(tmp_path, model, calibration, evaluation, recipe):
    out, bundle = both(model, calibration, recipe, tmp_path)
    with np.load(evaluation) as arrays:
        tokens = arrays["tokens"]
    ours = perplexity(lambda feed: next(iter(bundle.run(feed).values())), tokens)
    default, exact = (perplexity(lambda feed, run=session(out, e): run.run(None, feed)[0], tokens) for e in (False, True))
    # The bundled Llama has so few tokens that one flipped rounding shows.
    assert abs(default / ours - 1) <= (0.001 if SHARED in model.parents else 0.01)
    if recipe == "int4":
        assert abs(exact / ours - 1) <= 1e-5


def test_external_data_and_bytes(tmp_path, lowbit):
    """The file beside the model has the tensors; the same model comes back; two exports are the same."""
    files = []
    for name in ("a", "b"):
        out = tmp_path / name / "m.onnx"
        out.parent.mkdir()
        done = lowbit("export", DIGITS[0], "--recipe", "int4:group=16", "--for", "onnxruntime", "--external-data", "-o", out, "-q", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["external_data"] == "m.onnx.data"
        files.append((out.read_bytes(), (tmp_path / name / "m.onnx.data").read_bytes()))
    assert files[0] == files[1]
    outside = [t for t in onnx.load(out, load_external_data=False).graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert outside and files[0][1]
    lb.export(DIGITS[0], tmp_path / "inside.onnx", recipe="int4:group=16")
    with np.load(DIGITS[2]) as arrays:
        x = arrays[session(tmp_path / "inside.onnx").get_inputs()[0].name][:1].astype(np.float32)
    results = [session(path).run(None, {session(path).get_inputs()[0].name: x})[0] for path in (tmp_path / "inside.onnx", tmp_path / "a" / "m.onnx")]
    assert np.array_equal(*results)
    assert lowbit("export", DIGITS[0], "--recipe", "int4", "--for", "onnxruntime", "-o", tmp_path / "inside.onnx").returncode == 2


def test_symmetric_for_tensorrt(tmp_path, lowbit):
    """TensorRT's rules: signed, zero points of 0, no i32 biases; what breaks them lists the layers."""
    done = lowbit("export", DIGITS[0], "--recipe", "int8", "--data", DIGITS[1], "--for", "tensorrt", "-o", tmp_path / "t.onnx")
    assert done.returncode == 3
    layers = [n.name for n in onnx.load(DIGITS[0]).graph.node if n.op_type in ("Conv", "Gemm", "MatMul") and n.name]
    assert "unsigned integers (u8)" in done.stderr and all(name in done.stderr for name in layers)
    assert not (tmp_path / "t.onnx").exists()
    recipe = tmp_path / "symmetric.yaml"
    recipe.write_text(SYMMETRIC)
    done = lowbit("export", DIGITS[0], "--recipe", recipe, "--data", DIGITS[1], "--for", "tensorrt", "-o", tmp_path / "t.onnx", "-q")
    assert done.returncode == 0, done.stderr
    model = onnx.load(tmp_path / "t.onnx")
    values = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs and all(values[n.input[2]].dtype == np.int8 and not values[n.input[2]].any() for n in pairs)
    session(tmp_path / "t.onnx")


def test_partial_blocks_for_openvino(tmp_path, linear):
    weight = np.random.default_rng(0).normal(size=(24, 8))
    with pytest.raises(lb.Unsupported, match="groups of 16 that do not divide K = 24 in gemm"):
        lb.export(linear(weight), tmp_path / "o.onnx", recipe="int4:group=16,head=same", runtime="openvino")
    lb.export(linear(weight), tmp_path / "o.onnx", recipe="int4:group=8,head=same", runtime="openvino")
    lb.export(linear(weight), tmp_path / "r.onnx", recipe="int4:group=16,head=same")
    assert session(tmp_path / "r.onnx") and session(tmp_path / "o.onnx")
