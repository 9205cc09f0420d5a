# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Caches of keys and values in i8: against numpy, prompts against token by token, and what it costs a real model."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import MODELS, ROOT, SHARED, needs_shared, require_compiler

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

_compiler = require_compiler()

import lowbit as lb  # noqa: E402
from lowbit.compiler import compile_bundle, emit, export_to  # noqa: E402
from lowbit.errors import Unsupported  # noqa: E402
from lowbit.kvcache import dequantize_rows, quantize_rows  # noqa: E402
from lowbit.runtime import Bundle  # noqa: E402

F = np.float32
LAYERS, HEADS, SIZE, VOCAB, LENGTH = 2, 4, 8, 48, 32
HIDDEN = HEADS * SIZE
KINDS = ["concat", "attention", "attention-3d", "group-query"]
CACHES = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]


class Tiny:
    """A decoder with learned positions. kind: what keeps the cache."""

    kv_heads, size, vocab = HEADS, SIZE, VOCAB

    def __init__(self, kind: str) -> None:
        self.kind, self.rng = kind, np.random.default_rng(3)
        self.nodes: list = []
        self.initializers: list = []

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, name, outputs=None, **attrs):
        self.nodes.append(helper.make_node(op, inputs, outputs or [name], name=name, **attrs))
        return (outputs or [name])[0]

    def product(self, x, columns, name):
        weight = self.rng.standard_normal((HIDDEN, columns)).astype(F) / HIDDEN**0.5
        return self.node("MatMul", [x, self.constant(f"{name}.weight", weight)], name)

    def heads(self, x, name):
        return self.node("Transpose", [self.node("Reshape", [x, "split"], f"{name}_split")], f"{name}_heads", perm=[0, 2, 1, 3])

    def attention(self, x, layer):
        q, k, v = (self.product(x, HIDDEN, f"{name}{layer}") for name in "qkv")
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        if self.kind == "attention-3d":
            return self.node("Attention", [q, k, v, "", *past], f"attention{layer}", [f"y{layer}", *present], is_causal=1,
                             q_num_heads=HEADS, kv_num_heads=HEADS)
        q, k, v = (self.heads(value, f"{name}{layer}") for name, value in zip("qkv", (q, k, v)))
        if self.kind == "attention":
            y = self.node("Attention", [q, k, v, "", *past], f"attention{layer}", [f"y{layer}", *present], is_causal=1)
        else:
            k, v = (self.node("Concat", [old, new], f"concat_{all_}", [all_], axis=2) for old, new, all_ in zip(past, (k, v), present))
            scores = self.node("MatMul", [q, self.node("Transpose", [k], f"kt{layer}", perm=[0, 1, 3, 2])], f"scores{layer}")
            scores = self.node("Add", [self.node("Mul", [scores, "factor"], f"scaled{layer}"), "mask"], f"masked{layer}")
            y = self.node("MatMul", [self.node("Softmax", [scores], f"softmax{layer}"), v], f"y{layer}")
        return self.node("Reshape", [self.node("Transpose", [y], f"yt{layer}", perm=[0, 2, 1, 3]), "merge"], f"merged{layer}")

    def model(self):
        self.constant("split", np.array([0, 0, HEADS, SIZE]))
        self.constant("merge", np.array([0, 0, HIDDEN]))
        if self.kind == "concat":
            for name, value in (("factor", F(SIZE**-0.5)), ("low", F(-1e9)), ("none", F(0)), ("first", np.int64(0)), ("step", np.int64(1)),
                                ("axis", np.array([-1])), ("heads_axis", np.array([1]))):
                self.constant(name, value)
            past = self.node("Shape", ["past_key_values.0.key"], "past_length", start=2, end=3)
            total = self.node("Add", [past, self.node("Shape", ["input_ids"], "length", start=1)], "total")
            keys = self.node("Range", ["first", self.node("Squeeze", [total], "total_scalar"), "step"], "keys")
            seen = self.node("LessOrEqual", [keys, self.node("Unsqueeze", ["position_ids", "axis"], "queries")], "seen")
            self.node("Unsqueeze", [self.node("Where", [seen, "none", "low"], "mask_3d"), "heads_axis"], "mask")
        table = [self.constant(name, self.rng.standard_normal((rows, HIDDEN)).astype(F)) for name, rows in (("table", VOCAB), ("places", LENGTH))]
        x = self.node("Add", [self.node("Gather", [table[0], "input_ids"], "tokens"), self.node("Gather", [table[1], "position_ids"], "positions")], "x")
        for layer in range(LAYERS):
            y = self.product(self.attention(x, layer), HIDDEN, f"o{layer}")
            x = self.node("Add", [x, y], f"x{layer}")
        self.product(x, VOCAB, "logits")
        info = helper.make_tensor_value_info
        inputs = [info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "position_ids")]
        outputs = [info("logits", TensorProto.FLOAT, ["batch", "sequence", VOCAB])]
        for cache in CACHES:
            inputs.append(info(f"past_key_values.{cache}", TensorProto.FLOAT, ["batch", HEADS, "past", SIZE]))
            outputs.append(info(f"present.{cache}", TensorProto.FLOAT, ["batch", HEADS, "past + sequence", SIZE]))
        graph = helper.make_graph(self.nodes, "main_graph", inputs, outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


def decoder(kind: str):
    if kind != "group-query":
        return Tiny(kind)
    sys.path.insert(0, str(ROOT / "test" / "Integration" / "genai" / "Inputs"))
    try:
        from genai import Decoder
    finally:
        sys.path.pop(0)
    return Decoder("llama")


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """(the decoder, its bundle with a float cache, its bundle with an i8 cache)."""
    folder, model = tmp_path_factory.mktemp("kv"), decoder(request.param)
    onnx.save(model.model(), folder / "model.onnx")
    compile_bundle(str(folder / "model.onnx"), str(folder / "float.lowbit"))
    compile_bundle(str(folder / "model.onnx"), str(folder / "i8.lowbit"), recipe="fp32:kv_cache=i8")
    with Bundle(folder / "float.lowbit") as real, Bundle(folder / "i8.lowbit") as held:
        yield model, real, held


def run(model, bundle, ids, past=None):
    """One call: `past` is the outputs of the call before."""
    batch, length = ids.shape
    before = past["present.0.key"].shape[2] if past else 0
    feed = {"input_ids": ids}
    for value in bundle.inputs:
        if value.name == "attention_mask":
            feed[value.name] = np.ones((batch, before + length), np.int64)
        elif value.name == "position_ids":
            feed[value.name] = np.broadcast_to(np.arange(before, before + length), (batch, length)).copy()
        elif value.name.startswith("past"):
            empty = np.zeros((batch, model.kv_heads, 0, value.dims[-1]), np.int8 if value.dtype == "i8" else F)
            feed[value.name] = past[value.name.replace("past_key_values", "present")] if past else empty
    return bundle.run(feed)


def prompt(model, batch=2, length=13):
    return np.random.default_rng(11).integers(0, model.vocab, (batch, length))


def test_ports(pair):
    model, real, held = pair
    ports = {value.name: value for value in (*held.inputs, *held.outputs)}
    for value in (*real.inputs, *real.outputs):
        if value.name.partition(".")[0] not in ("past_key_values", "present"):
            assert ports[value.name] == value
            continue
        port, scale = ports[value.name], ports[f"{value.name}_scale"]
        assert (port.dtype, port.dims, port.symbols) == ("i8", value.dims, value.symbols)
        assert (scale.dtype, scale.dims, scale.symbols) == ("f32", (*value.dims[:-1], 1), value.symbols)
    names = [value.name for value in held.inputs]
    assert all(names[names.index(name) + 1] == f"{name}_scale" for name in names if name.startswith("past") and not name.endswith("_scale"))
    cache = held.manifest["kv_cache"]
    each = model.kv_heads * model.size
    assert (cache["type"], len(cache["caches"])) == ("i8", 2 * LAYERS)
    assert cache["bytes_per_token"] == 2 * LAYERS * (each + 4 * model.kv_heads)
    assert cache["float_bytes_per_token"] == 2 * LAYERS * each * 4
    assert cache["caches"][1] == {"past": "past_key_values.0.value", "present": "present.0.value", "bytes_per_token": each + 4 * model.kv_heads,
                                  "float_bytes_per_token": each * 4}
    assert "kv_cache" not in real.manifest
    assert "\nkv_cache: {type: i8}\n" in (held.path / "recipe.yaml").read_text()


def test_a_prompt_is_its_tokens_one_by_one(pair):
    model, _, held = pair
    ids = prompt(model)
    whole, past, logits = run(model, held, ids), None, []
    for at, count in ((0, 1), (1, 1), (2, 1), (3, 4), (7, 1), (8, 5)):
        now = run(model, held, ids[:, at : at + count], past)
        for name in now:
            if past and name != "logits":  # never rounded again
                np.testing.assert_array_equal(now[name][:, :, :at], past[name])
        past = now
        logits.append(now["logits"])
    difference = np.abs(np.concatenate(logits, 1) - whole["logits"]).max()
    assert difference <= 1e-5 * np.abs(whole["logits"]).max()
    for name in whole:
        if name.endswith("_scale"):
            np.testing.assert_allclose(past[name], whole[name], rtol=1e-5)
        elif name != "logits":
            assert np.abs(past[name].astype(int) - whole[name]).max() <= 1 and (past[name] == whole[name]).mean() > 0.999


def test_the_first_layer_rounds_as_numpy(pair):
    model, real, held = pair
    ids = prompt(model)
    expected, found = run(model, real, ids), run(model, held, ids)
    for part in ("key", "value"):
        q, scale = quantize_rows(expected[f"present.0.{part}"])
        np.testing.assert_array_equal(found[f"present.0.{part}"], q)
        np.testing.assert_array_equal(found[f"present.0.{part}_scale"], scale)


def test_the_error_is_small_and_that_of_rounding(pair):
    """The float model on rounded caches gives what the i8 model gives for its own."""
    model, real, held = pair
    ids = prompt(model)
    exact, rounded = run(model, real, ids), run(model, held, ids)
    assert 0 < np.abs(exact["logits"] - rounded["logits"]).max() < 0.05 * np.abs(exact["logits"]).max()
    # A token more: its own row is rounded too, which moves the logits by no more than the tokens before it did.
    past = {name: dequantize_rows(rounded[name], rounded[f"{name}_scale"]) for name in rounded if f"{name}_scale" in rounded}
    more = ids[:, :1]
    step, own = run(model, real, more, past)["logits"], run(model, held, more, rounded)["logits"]
    assert np.abs(step - own).max() < 0.02 * np.abs(step).max()


def rows_model(path: Path) -> Path:
    """present = past and x; y = the sum of present: nothing but the cache."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Concat", ["past", "x"], ["present"], name="cat", axis=-2), helper.make_node("ReduceSum", ["present"], ["y"], name="sum")],
        "main_graph", [info("past", 1, [1, 2, "P", 4]), info("x", 1, [1, 2, "S", 4])], [info("present", 1, [1, 2, "T", 4]), info("y", 1, [1, 1, 1, 1])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_ties_zeros_and_extremes(tmp_path):
    compile_bundle(str(rows_model(tmp_path / "rows.onnx")), str(tmp_path / "rows.lowbit"), recipe="fp32:kv_cache=i8")
    x = np.array([[127, 0.5, 1.5, -2.5], [-127, -0.5, 3.5, 126.5], [0, 0, 0, 0], [1e-40, -1e-40, 0, 1e-45], [3e38, -3e38, 1e38, 1],
                  [-1, 0.1, 0.2, 0.3]], F)
    x = np.stack([x, np.random.default_rng(0).standard_normal(x.shape).astype(F)])[None]
    past, scale = np.arange(-8, 8, dtype=np.int8).reshape(1, 2, 2, 4) * 16, np.full((1, 2, 2, 1), 0.25, F)
    with Bundle(tmp_path / "rows.lowbit") as bundle:
        found = bundle.run({"past": past, "past_scale": scale, "x": x})
    q, scales = quantize_rows(x)
    assert q[0, 0, 0].tolist() == [127, 0, 2, -2] and q[0, 0, 1].tolist() == [-127, 0, 4, 126]  # half to even
    assert scales[0, 0, 2, 0] == 1 and not q[0, 0, 2].any()
    np.testing.assert_array_equal(found["present"], np.concatenate([past, q], 2))
    np.testing.assert_array_equal(found["present_scale"], np.concatenate([scale, scales], 2))
    total = dequantize_rows(found["present"], found["present_scale"]).astype(np.float64).sum()
    np.testing.assert_allclose(found["y"].item(), total, rtol=1e-5)


def test_models_without_a_cache_are_refused(tmp_path, lowbit):
    with pytest.raises(Unsupported, match="this model has none: looked for a float input .* that flows through Concat"):
        compile_bundle(str(MODELS / "digits_cnn.onnx"), str(tmp_path / "out.lowbit"), recipe="fp32:kv_cache=i8")
    done = lowbit("compile", MODELS / "digits_cnn.onnx", "--recipe", "int8-weights:kv_cache=i8", "-o", tmp_path / "out.lowbit")
    assert done.returncode == 3 and "kv_cache" in done.stderr
    assert lowbit("recipe", "explain", MODELS / "digits_cnn.onnx", "fp32:kv_cache=i8").returncode == 3
    assert not (tmp_path / "out.lowbit").exists()


def test_tools(tmp_path, lowbit):
    """explain, inspect, export, emit and run."""
    path = tmp_path / "model.onnx"
    onnx.save(Tiny("concat").model(), path)
    explained = json.loads(lowbit("recipe", "explain", path, "int8-weights:kv_cache=i8", "--json").stdout)
    assert explained["kv_cache"]["type"] == "i8" and len(explained["kv_cache"]["caches"]) == 4
    assert json.loads(lowbit("recipe", "explain", path, "int8-weights", "--json").stdout)["kv_cache"] == "float"
    assert "kv_cache: i8" in lowbit("recipe", "explain", path, "int8-weights:kv_cache=i8").stdout
    caches = json.loads(lowbit("inspect", path, "--json").stdout)["kv_cache"]
    assert caches[0] == {"past": "past_key_values.0.key", "present": "present.0.key", "bytes_per_token": 128, "int8_bytes_per_token": 48}
    assert "past_key_values.0.key → present.0.key" in lowbit("inspect", path).stdout
    assert b"lowbit.dynamic_quantize" in emit(str(path), "qdq", recipe="fp32:kv_cache=i8")
    with pytest.raises(Unsupported, match="leave kv_cache out of the recipe"):
        export_to(str(path), str(tmp_path / "out.onnx"), runtime="onnxruntime", recipe="fp32:kv_cache=i8")
    assert lowbit("compile", path, "--recipe", "int8-weights:kv_cache=i8", "-o", tmp_path / "m.lowbit").returncode == 0
    np.savez(tmp_path / "tokens.npz", tokens=np.arange(12).reshape(1, 12) % VOCAB)
    assert lowbit("run", tmp_path / "m.lowbit", "--inputs", tmp_path / "tokens.npz", "-o", tmp_path / "y.npz").returncode == 0
    with np.load(tmp_path / "y.npz") as y:
        assert y["present.1.value"].dtype == np.int8 and y["present.1.value_scale"].shape == (1, HEADS, 12, 1)


def with_cache(path: Path, out: Path) -> Path:
    """A Llama without a cache, with one: what is repeated for the heads goes through a Concat with an (empty) past."""
    model = onnx.load(path)
    graph, nodes, count = model.graph, [], 0
    repeated = {node.input[0] for node in graph.node if node.op_type == "Expand"}
    rotated = {output for node in graph.node if node.op_type in ("Add", "Transpose") for output in node.output}
    for node in graph.node:
        if node.op_type == "Unsqueeze" and node.output[0] in repeated and node.input[0] in rotated:
            name = f"{count // 2}.{('key', 'value')[count % 2]}"
            nodes.append(helper.make_node("Concat", [f"past.{name}", node.input[0]], [f"present.{name}"], name=f"cache.{name}", axis=2))
            node.input[0] = f"present.{name}"
            count += 1
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    import onnxruntime as ort
    ids = np.arange(5)[None]
    for i in range(count):
        name = f"{i // 2}.{('key', 'value')[i % 2]}"
        graph.output.append(helper.make_empty_tensor_value_info(f"present.{name}"))
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    del probe.graph.node[:]
    probe.graph.node.extend(helper.make_node("Identity", [n.input[1]], n.output) if n.name.startswith("cache.") else n for n in nodes)
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, {graph.input[0].name: ids})))
    del graph.output[1:]
    for i in range(count):
        name = f"{i // 2}.{('key', 'value')[i % 2]}"
        _, heads, _, size = outputs[f"present.{name}"].shape
        graph.input.append(helper.make_tensor_value_info(f"past.{name}", 1, [1, heads, "past", size]))
        graph.output.append(helper.make_tensor_value_info(f"present.{name}", 1, [1, heads, "total", size]))
    assert count
    onnx.save(model, out)
    return out


@pytest.mark.parametrize("source, data, kl, ratio", [
    pytest.param(MODELS / "tiny_llama.onnx", MODELS / "tiny_llama_eval.npz", 1e-4, 1.0005, id="tiny"),
    pytest.param(SHARED / "models" / "stories260K.onnx", SHARED / "data" / "stories_eval.npz", 2.2e-3, 1.002, id="stories", marks=needs_shared)])
def test_what_it_costs(tmp_path, source, data, kl, ratio):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    model = with_cache(source, tmp_path / "cached.onnx")
    compile_bundle(str(model), str(tmp_path / "i8.lowbit"), recipe="fp32:kv_cache=i8")
    compile_bundle(str(model), str(tmp_path / "float.lowbit"))
    report = lb.evaluate(str(tmp_path / "float.lowbit"), [str(tmp_path / "i8.lowbit")], str(data), task="lm").data
    drift = report["candidates"][0]["drift"]
    print(f"{source.stem}: KL {drift['kl']:.2e}, p99 {report['candidates'][0]['tail']['kl']}, perplexity × {drift['perplexity_ratio']:.5f}")
    assert drift["kl"] <= kl and drift["perplexity_ratio"] <= ratio
    # Two that both hold i8: fed as they are.
    same = lb.evaluate(str(tmp_path / "i8.lowbit"), [str(tmp_path / "i8.lowbit")], str(data) + "[:3]", task="lm").data
    assert same["candidates"][0]["drift"]["kl"] == 0
