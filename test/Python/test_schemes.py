# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Every weight scheme and every kind of activations, from a recipe to numbers: against numpy, on every kernel variant and for one and two threads."""
from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from conftest import require_compiler

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

_compiler = require_compiler()

import lowbit as lb  # noqa: E402
from everywhere import run_everywhere  # noqa: E402
from lowbit.runtime import Bundle  # noqa: E402

F = np.float32
K, N, ROWS = 20, 11, 7  # Groups of 8: the last one is partial.
TYPES = {"i8": (-128, 127), "u8": (0, 255), "i4": (-8, 7), "u4": (0, 15), "i3": (-4, 3), "u3": (0, 7), "i16": (-2**15, 2**15 - 1), "u16": (0, 2**16 - 1)}
WEIGHTS = [(kind, per, symmetric) for kind in ("i8", "u8", "i4", "u4", "i3", "u3") for per in ("tensor", "channel", 8) for symmetric in (True, False)]
rng = np.random.default_rng(5)


def parameters(low, high, kind, symmetric):
    """(Q3) and (Q4) of docs/quantization.md: of the range with 0 in it, in f64, the scale rounded to f32 once."""
    least, most = TYPES[kind]
    bits = int(kind[1:])
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    half = 2 ** (bits - 1)
    zero = half if symmetric and kind[0] == "u" else 0
    if low == high:
        return F(1), zero if symmetric else max(least, 0)
    if symmetric:
        return F(max(-low, high) / (half - 1)), zero
    scale = F((high - low) / (most - least))
    return scale, int(np.clip(np.rint(least - low / float(scale)), least, most))


def quantize(x, scale, zero, kind):
    least, most = TYPES[kind]
    return np.clip(np.rint(x / scale).astype(np.float64) + zero, least, most).astype(np.int64)


def round_weights(w, kind, per, symmetric):
    """[rows, K] to integers less their zero points, and scales [rows, groups]; the length of a group."""
    length = per if isinstance(per, int) else w.shape[1]
    groups = -(-w.shape[1] // length)
    q, scales = np.zeros(w.shape, np.int64), np.zeros((len(w), groups), F)
    for row, g in itertools.product(range(len(w)), range(groups)):
        part = slice(g * length, (g + 1) * length)
        seen = w if per == "tensor" else w[row, part]
        scales[row, g], zero = parameters(seen.min(), seen.max(), kind, symmetric)
        q[row, part] = quantize(w[row, part], scales[row, g], zero, kind) - zero
    return q, scales, length


def real(w, scheme):
    q, scales, length = round_weights(w.reshape(len(w), -1), *scheme)
    return (q.astype(F) * np.repeat(scales, length, 1)[:, :q.shape[1]]).reshape(w.shape)


def name_of(scheme, activations=""):
    kind, per, symmetric = scheme
    return f"{kind}-{per}-{'s' if symmetric else 'a'}{activations}"


def rule(name, scheme, activations="float"):
    kind, per, symmetric = scheme
    granularity = f"group: {per}" if isinstance(per, int) else f"per: {per}"
    return (f'- match: {{name: "{name}"}}\n  weights: {{type: {kind}, {granularity}, symmetric: {str(symmetric).lower()}}}\n'
            f"  activations: {activations}\n")


def save(path, nodes, inputs, outputs, constants):
    graph = helper.make_graph(nodes, "schemes", [helper.make_tensor_value_info(*i) for i in inputs],
                              [helper.make_tensor_value_info(*o) for o in outputs],
                              [numpy_helper.from_array(value, name) for name, value in constants.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


def layers_of(bundle: Path) -> dict[str, dict]:
    return {layer["name"]: layer for layer in json.loads((bundle / "manifest.json").read_text())["layers"]}


def compiled(tmp_path, recipe, **options) -> Path:
    (tmp_path / "recipe.yaml").write_text(recipe)
    lb.compile(tmp_path / "m.onnx", output=tmp_path / "m.lowbit", recipe=str(tmp_path / "recipe.yaml"), **options)
    return tmp_path / "m.lowbit"


def test_weights(tmp_path):
    """All weight schemes of linear layers, convolutions and tables, with float activations, in one model."""
    w, table = rng.normal(size=(K, N)).astype(F), rng.normal(size=(9, K)).astype(F)
    filters = rng.normal(size=(4, 2, 3, 2)).astype(F)
    nodes, outputs, recipe = [], [], "lowbit: 1\nrules:\n"
    for scheme in WEIGHTS:
        for op, inputs, rank in (("MatMul", ["x", "w"], 2), ("Conv", ["image", "f"], 4), ("Gather", ["table", "ids"], 2)):
            name = f"{op}-{name_of(scheme)}"
            nodes.append(helper.make_node(op, inputs, [name], name=name))
            outputs.append((name, TensorProto.FLOAT, [None] * rank))
            recipe += rule(name, scheme)
    save(tmp_path / "m.onnx", nodes, [("x", TensorProto.FLOAT, ["n", K]), ("image", TensorProto.FLOAT, [1, 2, 5, 6]), ("ids", TensorProto.INT64, [4])],
         outputs, {"w": w, "f": filters, "table": table})
    feed = {"x": rng.normal(size=(ROWS, K)).astype(F), "image": rng.normal(size=(1, 2, 5, 6)).astype(F), "ids": np.array([0, 8, -1, 3])}
    bundle = compiled(tmp_path, recipe)
    got, layers = run_everywhere(bundle, feed), layers_of(bundle)
    windows = np.lib.stride_tricks.sliding_window_view(feed["image"], (3, 2), (2, 3)).astype(np.float64)
    for scheme in WEIGHTS:
        name, wide = name_of(scheme), real(w.T, scheme).astype(np.float64)
        want, bound = feed["x"] @ wide.T, np.abs(feed["x"]) @ np.abs(wide.T)
        assert (np.abs(got[f"MatMul-{name}"] - want) <= (K + 2) * 2.0**-24 * bound).all(), name
        f = real(filters, scheme).astype(np.float64)
        want, bound = (np.einsum("ncyxij,fcij->nfyx", a, b) for a, b in ((windows, f), (np.abs(windows), np.abs(f))))
        assert (np.abs(got[f"Conv-{name}"] - want) <= (12 + 2) * 2.0**-24 * bound).all(), name
        assert np.array_equal(got[f"Gather-{name}"], real(table, scheme)[feed["ids"]]), name
        assert layers[f"MatMul-{name}"]["kernel"] == "cpu.wgemm"
        # Bits of the type, a scale of 32 bits and, where asymmetric, a zero point per range.
        kind, per, symmetric = scheme
        bits, count = int(kind[1:]), {"tensor": 1, "channel": N}.get(per, N * -(-K // 8))
        assert layers[f"MatMul-{name}"]["bytes"] == -(-K * N * bits // 8) + 4 * count + (0 if symmetric else -(-count * bits // 8)), name


def dynamic_parameters(x, kind, symmetric):
    """ONNX DynamicQuantizeLinear's formulas in f32, along the last axis."""
    least, most = (F(v) for v in TYPES[kind])
    lo, hi = np.minimum(x.min(-1), F(0)), np.maximum(x.max(-1), F(0))
    scale = np.maximum(-lo, hi) / F(127) if symmetric else (hi - lo) / (most - least)
    scale = np.where(scale == 0, F(1), scale).astype(F)
    if symmetric:
        return scale, np.full(scale.shape, 128 if kind[0] == "u" else 0)
    return scale, np.rint(np.clip(least - lo / scale, least, most)).astype(np.int64)


ACTIVATIONS = {"token-u8": "{type: u8, dynamic: token}", "token-i8": "{type: i8, dynamic: token}",
               "token-i8s": "{type: i8, symmetric: true, dynamic: token}", "tensor-u8": "{type: u8, dynamic: tensor}",
               "static-u8": "{type: u8}", "static-i8": "{type: i8}", "static-i16": "{type: i16, symmetric: true}", "static-u16": "{type: u16}"}
PAIRED = [("i8", "channel", True), ("i8", "tensor", True), ("i8", 8, True), ("u4", 8, False), ("i4", "channel", True), ("i4", 4, True),
          ("u4", "channel", False), ("u3", 8, False), ("i3", "tensor", True), ("u8", 8, False)]


def exact_linear(x, w, bias, scheme, activations, seen):
    """(Q13): sums of integers within a group, f32 ones over the groups in order, the input's scale, the bias."""
    where, kind = activations.split("-")
    symmetric, kind = kind.endswith("s") or kind == "i16", kind.rstrip("s")
    if where == "token":
        xs, xz = (v[:, None] for v in dynamic_parameters(x, kind, symmetric))
    elif where == "tensor":
        xs, xz = dynamic_parameters(x.ravel(), kind, symmetric)
    else:
        xs, xz = parameters(seen.min(), seen.max(), kind, symmetric)
    q, scales, length = round_weights(w, *scheme)
    centred = quantize(x, xs, xz, kind) - xz
    sums = np.zeros((len(x), len(w)), F)
    for g in range(scales.shape[1]):
        part = slice(g * length, (g + 1) * length)
        sums = sums + (centred[:, part] @ q[:, part].T).astype(F) * scales[:, g]
    return sums * F(xs) + bias


def test_activations(tmp_path):
    """Linear layers on 8- and 16-bit activations with ranges of calibration and of the run, beside weights of any type."""
    w, bias = rng.normal(size=(K, N)).astype(F), rng.normal(size=N).astype(F)
    nodes, outputs, recipe = [], [], "lowbit: 1\nrules:\n"
    for scheme, (activations, text) in itertools.product(PAIRED, ACTIVATIONS.items()):
        name = name_of(scheme, f"-{activations}")
        nodes.append(helper.make_node("Gemm", ["x", "w", "b"], [name], name=name))
        outputs.append((name, TensorProto.FLOAT, [None, N]))
        recipe += rule(name, scheme, text)
    save(tmp_path / "m.onnx", nodes, [("x", TensorProto.FLOAT, ["n", K])], outputs, {"w": w, "b": bias})
    seen = rng.normal(0.3, 1, size=(6, 1, K)).astype(F)
    feed = {"x": rng.normal(0.3, 1, size=(ROWS, K)).astype(F)}
    feed["x"][2] = 0  # A row without a range.
    feed["x"][3] = np.abs(feed["x"][3])
    bundle = compiled(tmp_path, recipe, calibration_data=[{"x": sample} for sample in seen])
    got, layers = run_everywhere(bundle, feed), layers_of(bundle)
    for scheme, activations in itertools.product(PAIRED, ACTIVATIONS):
        name = name_of(scheme, f"-{activations}")
        want = exact_linear(feed["x"], w.T, bias, scheme, activations, seen)
        layer, where = layers[name], activations.split("-")[0]
        assert layer["activations"] == activations.split("-")[1].rstrip("s")
        # One multiplier per channel, or weights that are no i8 less their zero points: another order of roundings.
        rounded = scheme[0] == "i8" and scheme[1] in ("channel", "tensor") and where != "token" or "reason" in layer
        if rounded:
            # An accumulator has a bias of its own scale, off by half a step.
            step = np.abs(real(w.T, scheme)).max() / 100
            assert np.abs(got[name] - want).max() <= (step if where == "static" else 1e-4), name
        else:
            assert np.array_equal(got[name], want), name
        if activations.endswith("16"):
            assert layer["kernel"] == "linalg", name
        elif "reason" not in layer:
            assert layer["kernel"] == "cpu.qgemm", name
    assert {name_of(("u8", 8, False), f"-{a}") for a in ACTIVATIONS if "16" not in a} == {n for n, l in layers.items() if "reason" in l}


def test_token_results_do_not_depend_on_the_batch(tmp_path):
    """A row's integers are its own: alone it gives the same bits."""
    w = rng.normal(size=(K, N)).astype(F)
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")], [("x", TensorProto.FLOAT, ["n", "t", K])],
         [("y", TensorProto.FLOAT, ["n", "t", N])], {"w": w})
    lb.compile(tmp_path / "m.onnx", output=tmp_path / "m.lowbit", recipe="int8-dynamic")
    bundle = Bundle(str(tmp_path / "m.lowbit"))
    x = rng.normal(size=(3, 5, K)).astype(F) * np.array([1, 10, 0.1], F)[:, None, None]
    together = bundle.run({"x": x})["y"]
    for n, t in np.ndindex(3, 5):
        assert np.array_equal(bundle.run({"x": x[n:n + 1, t:t + 1]})["y"][0, 0], together[n, t])


def test_dynamic_quantize_equals_onnxruntime(tmp_path):
    """Per token: DynamicQuantizeLinear of each row, in every bit; rows of 1 to 70 values."""
    ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    graph = helper.make_graph([helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])], "q", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
                              [helper.make_tensor_value_info("q", TensorProto.UINT8, [None]), helper.make_tensor_value_info("s", TensorProto.FLOAT, []),
                               helper.make_tensor_value_info("z", TensorProto.UINT8, [])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for k in (1, 16, 37, 70):
        (tmp_path / "q.mlir").write_text(f"""func.func @main_graph(%x: tensor<?x{k}xf32>) -> (tensor<?x{k}xui8>, tensor<?x1xf32>, tensor<?x1xui8>) {{
  %q, %s, %z = lowbit.dynamic_quantize %x {{per_token}} : tensor<?x{k}xf32> -> tensor<?x{k}xui8>, tensor<?x1xf32>, tensor<?x1xui8>
  return %q, %s, %z : tensor<?x{k}xui8>, tensor<?x1xf32>, tensor<?x1xui8>
}}""")
        _compiler.compile(str(tmp_path / "q.mlir"), str(tmp_path / f"q{k}.lowbit"))
        x = rng.normal(size=(20, k)).astype(F) * np.exp(rng.normal(0, 8, size=(20, 1))).astype(F)
        x[3], x[4] = 0, np.abs(x[4])
        got = run_everywhere(tmp_path / f"q{k}.lowbit", {"input0": x})
        for row, values in enumerate(x):
            q, s, z = session.run(None, {"x": values})
            assert np.array_equal(got["output0"][row], q) and got["output1"][row, 0] == s and got["output2"][row, 0] == z


def test_half_precision(tmp_path):
    """keep: fp16 stores f16 and computes in f32; a weight beyond f16 is an error that names the layer."""
    w, filters, table = (rng.normal(size=s).astype(F) for s in ((K, N), (4, 2, 3, 2), (9, K)))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc"), helper.make_node("Conv", ["image", "f"], ["c"], name="conv"),
             helper.make_node("Gather", ["table", "ids"], ["e"], name="emb")]
    save(tmp_path / "m.onnx", nodes, [("x", TensorProto.FLOAT, ["n", K]), ("image", TensorProto.FLOAT, [1, 2, 5, 6]), ("ids", TensorProto.INT64, [4])],
         [("y", TensorProto.FLOAT, None), ("c", TensorProto.FLOAT, None), ("e", TensorProto.FLOAT, None)], {"w": w, "f": filters, "table": table})
    feed = {"x": rng.normal(size=(ROWS, K)).astype(F), "image": rng.normal(size=(1, 2, 5, 6)).astype(F), "ids": np.array([0, 8, -1, 3])}
    bundle = compiled(tmp_path, 'lowbit: 1\nrules:\n- match: {name: "*"}\n  keep: fp16\n')
    got, layers = run_everywhere(bundle, feed), layers_of(bundle)
    half = {name: value.astype(np.float16).astype(F) for name, value in (("w", w), ("f", filters), ("table", table))}
    windows = np.lib.stride_tricks.sliding_window_view(feed["image"], (3, 2), (2, 3)).astype(np.float64)
    np.testing.assert_allclose(got["y"], feed["x"].astype(np.float64) @ half["w"], atol=1e-5)
    np.testing.assert_allclose(got["c"], np.einsum("ncyxij,fcij->nfyx", windows, half["f"]), atol=1e-5)
    assert np.array_equal(got["e"], half["table"][feed["ids"]])
    assert {(l["weights"], l["bytes"] * 2 == l["fp32_bytes"]) for l in layers.values()} == {("f16", True)}
    w[3, 4] = 7e4
    save(tmp_path / "m.onnx", nodes[:1], [("x", TensorProto.FLOAT, ["n", K])], [("y", TensorProto.FLOAT, None)], {"w": w})
    with pytest.raises(lb.Error, match="'fc' has a weight of 7.*half precision"):
        lb.compile(tmp_path / "m.onnx", output=tmp_path / "n.lowbit", recipe="fp16")


def test_refusals(tmp_path, lowbit):
    """Tokens of a convolution, schemes that a target or another runtime has nothing for: errors that list the layers."""
    w, filters = rng.normal(size=(K, N)).astype(F), rng.normal(size=(4, 2, 3, 2)).astype(F)
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc"), helper.make_node("Conv", ["image", "f"], ["c"], name="conv")],
         [("x", TensorProto.FLOAT, ["n", K]), ("image", TensorProto.FLOAT, [1, 2, 5, 6])],
         [("y", TensorProto.FLOAT, None), ("c", TensorProto.FLOAT, None)], {"w": w, "f": filters})
    (tmp_path / "token.yaml").write_text('lowbit: 1\nrules:\n- match: {op: Conv}\n  weights: {type: i8}\n  activations: {type: u8, dynamic: token}\n')
    done = lowbit("compile", tmp_path / "m.onnx", "-o", tmp_path / "a.lowbit", "--recipe", tmp_path / "token.yaml")
    assert done.returncode == 2 and "convolutions have no tokens: conv" in done.stderr
    done = lowbit("compile", tmp_path / "m.onnx", "-o", tmp_path / "a.ptx", "--recipe", "int8-dynamic", "--target", "cuda", "--emit", "ptx")
    assert done.returncode == 3 and "target 'cuda' has no kernels for" in done.stderr and "conv" in done.stderr and "fc" not in done.stderr, done.stderr
    done = lowbit("export", tmp_path / "m.onnx", "--recipe", "int8-dynamic", "--for", "onnxruntime", "-o", tmp_path / "q.onnx")
    assert done.returncode == 3 and "ranges of activations that the run gives (dynamic) in" in done.stderr and "fc" in done.stderr, done.stderr
