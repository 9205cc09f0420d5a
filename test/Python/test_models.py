# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Whole models through the command: numbers against onnxruntime, what int8 and int4 cost, and that inputs decide bytes."""
from __future__ import annotations

import filecmp
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from conftest import MODELS, SHARED, needs_shared, require_compiler, shared_model

ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")

require_compiler()

from lowbit.runtime import Bundle  # noqa: E402


# model, calibration data, evaluation data
BUNDLED = [(MODELS / "digits_cnn.onnx", MODELS / "digits_calib.npz", MODELS / "digits_eval.npz")]
SHARED_CNNS = [shared_model(model, data, name=model)
               for model, data in (("mnist", "mnist"), ("kws_dscnn", "kws"), ("resnet8_cifar10", "cifar10raw"), ("resnet20_cifar10", "cifar10"))]
CNNS = [pytest.param(*BUNDLED[0], id="digits_cnn"), *SHARED_CNNS]


def logits(run, name: str, x: np.ndarray, fixed: bool) -> np.ndarray:
    """All samples of x, one at a time for a model of fixed batch 1, else in batches of 32."""
    if fixed:
        return np.concatenate([run({name: sample})[None] for sample in x.astype(np.float32)]).reshape(len(x), -1)
    return np.concatenate([run({name: x[i:i + 32].astype(np.float32)}) for i in range(0, len(x), 32)]).reshape(len(x), -1)


def bundle_runner(path: Path, **options):
    bundle = Bundle(str(path), **options)
    return lambda feed: next(iter(bundle.run(feed).values()))


def load(model: Path, data: Path) -> tuple[str, np.ndarray, np.ndarray, bool]:
    session = ort.InferenceSession(str(model))
    info = session.get_inputs()[0]
    with np.load(data) as arrays:
        x, label = arrays[info.name], arrays["label"]
    return info.name, x, label, x.ndim == len(info.shape) + 1 or info.shape[0] == 1


def reference(model: Path):
    session = ort.InferenceSession(str(model))
    return lambda feed: session.run(None, feed)[0]


@pytest.mark.parametrize("model,calibration,evaluation", CNNS)
def test_float_matches_onnxruntime(lowbit, tmp_path, model, calibration, evaluation):
    assert lowbit("compile", model, "-o", tmp_path / "f.lowbit", "-q").returncode == 0
    name, x, _, fixed = load(model, evaluation)
    shape = (lambda v: v if v.ndim == len(Bundle(str(tmp_path / "f.lowbit")).inputs[0].dims) + 1 else v[:, None]) if fixed else (lambda v: v)
    want = logits(reference(model), name, shape(x), fixed)
    got = logits(bundle_runner(tmp_path / "f.lowbit"), name, shape(x), fixed)
    assert np.abs(got - want).max() <= 1e-4 * (want.max() - want.min())
    assert (got.argmax(1) == want.argmax(1)).all()


@pytest.mark.parametrize("model,calibration,evaluation", CNNS)
def test_int8(lowbit, tmp_path, model, calibration, evaluation):
    """At most a point of accuracy lost, every layer on 8-bit weights and activations, one result on every variant and thread count."""
    assert lowbit("calibrate", model, "--recipe", "int8", "--data", calibration, "-o", tmp_path / "c.lbcal", "-q").returncode == 0
    done = lowbit("compile", model, "--recipe", "int8", "--calibration", tmp_path / "c.lbcal", "-o", tmp_path / "q.lowbit", "-q", "--json")
    assert done.returncode == 0
    summary = json.loads(done.stdout)["summary"]
    assert summary["int8_compute"] == summary["quantizable"] > 0 and not summary["left_in_float"]
    if SHARED in model.parents:  # The bundled CNN's layers are so small that their scales weigh more.
        assert summary["quantized_bytes"] <= 0.28 * summary["fp32_bytes"]
    name, x, label, fixed = load(model, evaluation)
    shape = (lambda v: v if v.ndim == len(Bundle(str(tmp_path / "q.lowbit")).inputs[0].dims) + 1 else v[:, None]) if fixed else (lambda v: v)
    before = (logits(reference(model), name, shape(x), fixed).argmax(1) == label).mean()
    results = []
    for isa, threads in itertools.product(("avx2", "avx512vnni"), (1, 2)):
        try:
            run = bundle_runner(tmp_path / "q.lowbit", isa=isa, threads=threads)
        except Exception as error:
            if isa == "avx2" or "avx512" not in str(error):
                raise
            continue
        results.append(logits(run, name, shape(x), fixed))
    after = (results[0].argmax(1) == label).mean()
    assert before - after <= 0.010
    assert all(np.array_equal(results[0], other) for other in results[1:])


def perplexity(run, tokens: np.ndarray) -> float:
    """Every position after the first is scored."""
    losses = []
    for row in tokens.astype(np.int64):
        z = run({"input_ids": row[None]})[0].astype(np.float64)
        z -= z.max(-1, keepdims=True)
        z -= np.log(np.exp(z).sum(-1, keepdims=True))
        losses.append(-z[np.arange(len(row) - 1), row[1:]])
    return float(np.exp(np.concatenate(losses).mean()))


LLAMAS = [pytest.param(MODELS / "tiny_llama.onnx", MODELS / "tiny_llama_eval.npz", id="tiny_llama"),
          pytest.param(SHARED / "models" / "stories260K.onnx", SHARED / "data" / "stories_eval.npz", id="stories260K", marks=needs_shared)]


@pytest.mark.parametrize("model,evaluation", LLAMAS)
def test_llama_at_any_length(lowbit, tmp_path, model, evaluation):
    assert lowbit("compile", model, "-o", tmp_path / "f.lowbit", "-q").returncode == 0
    run, want = bundle_runner(tmp_path / "f.lowbit"), reference(model)
    with np.load(evaluation) as arrays:
        tokens = arrays["tokens"].astype(np.int64)
    longest = 500 if "stories" in model.name else tokens.shape[1]
    for length in (2, 17, longest):
        row = np.resize(tokens, (1, length))
        a, b = run({"input_ids": row}), want({"input_ids": row})
        assert np.abs(a - b).max() <= 1e-4 * (b.max() - b.min())
    if "stories" in model.name:
        assert abs(perplexity(run, tokens) - 3.946) <= 0.001


@needs_shared
@pytest.mark.parametrize("recipe,least,most", [("int4:group=32", 3.9, 4.25), ("int4:group=32,head=u4", 3.9, 4.40)])
def test_int4_perplexity(lowbit, tmp_path, recipe, least, most):
    model = SHARED / "models" / "stories260K.onnx"
    assert lowbit("compile", model, "--recipe", recipe, "-o", tmp_path / "q.lowbit", "-q").returncode == 0
    with np.load(SHARED / "data" / "stories_eval.npz") as arrays:
        assert least <= perplexity(bundle_runner(tmp_path / "q.lowbit"), arrays["tokens"]) <= most


@needs_shared
def test_int4_per_tensor_is_a_cliff(lowbit, tmp_path):
    model = SHARED / "models" / "stories260K.onnx"
    assert lowbit("compile", model, "--recipe", "int4:per=tensor,head=u4", "-o", tmp_path / "q.lowbit", "-q").returncode == 0
    done = lowbit("eval", "--reference", model, "--candidate", tmp_path / "q.lowbit", "--data", SHARED / "data" / "stories_eval.npz",
                  "--task", "lm", "--json", "-q")
    candidate = json.loads(done.stdout)["candidates"][0]
    assert candidate["verdict"]["value"] == "cliff"


def test_same_inputs_same_bytes(lowbit, tmp_path):
    """Two compilations in different folders, of the same model under different paths."""
    bundles = []
    for folder in ("a", "b/deeper"):
        place = tmp_path / folder
        place.mkdir(parents=True)
        model = place / "model.onnx"
        model.write_bytes((MODELS / "digits_cnn.onnx").read_bytes())
        done = lowbit("compile", model, "--recipe", "int8", "--data", MODELS / "digits_calib.npz", "-o", place / "m.lowbit", "-q")
        assert done.returncode == 0, done.stderr
        bundles.append(place / "m.lowbit")
    names = sorted(f.name for f in bundles[0].iterdir())
    assert names == sorted(f.name for f in bundles[1].iterdir())
    same, different, odd = filecmp.cmpfiles(*bundles, names, shallow=False)
    assert not different and not odd
    for name in names:
        assert str(tmp_path).encode() not in (bundles[0] / name).read_bytes()
