"""f32 products and convolutions against numpy in f64, on every kernel variant and for one, two and four threads: the same bits."""
from __future__ import annotations

import itertools
import pathlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import require_compiler

pytest.importorskip("lowbit.compiler", reason="the lowbit package is not importable")
_compiler = require_compiler()

from everywhere import run_everywhere  # noqa: E402


def save(tmp_path: pathlib.Path, node: onnx.NodeProto, inputs: dict, constants: dict, rank: int) -> str:
    """A model of one node; every dim of its inputs is dynamic but those that `inputs` gives as numbers."""
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"o{i}" for i in range(rank)])],
                              [numpy_helper.from_array(value, name) for name, value in constants.items()])
    path = str(tmp_path / "m.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def run(tmp_path: pathlib.Path, model: str, feeds: dict) -> np.ndarray:
    _compiler.compile(model, str(tmp_path / "m.lowbit"), force=True)
    return run_everywhere(tmp_path / "m.lowbit", feeds, threads=(1, 2, 4))["y"]


def assert_sums(got: np.ndarray, want: np.ndarray, bound: np.ndarray, k: int):
    """`k` roundings of half a unit at most, of sums no larger than `bound`."""
    assert got.shape == want.shape
    assert (np.abs(got - want) <= (k + 3) * 2.0**-24 * bound).all()


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("m,k,n", [(1, 1, 1), (5, 1, 20), (1, 300, 70), (2, 64, 16), (7, 33, 33), (97, 172, 64), (130, 1100, 130), (12, 5, 48), (0, 4, 8),
                                   (3, 0, 8)])
def test_matmul(tmp_path, m, k, n, constant):
    rng = np.random.default_rng(m * k + n)
    x, w = rng.normal(size=(m, k)).astype(np.float32), rng.normal(size=(k, n)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    inputs = {"x": ["m", k]} | ({} if constant else {"w": ["k", "n"]})
    model = save(tmp_path, node, inputs, {"w": w} if constant else {}, 2)
    got = run(tmp_path, model, {"x": x} | ({} if constant else {"w": w}))
    assert_sums(got, x.astype(np.float64) @ w, np.abs(x).astype(np.float64) @ np.abs(w), k)


@pytest.mark.parametrize("a,b", [((2, 3, 5, 7), (2, 3, 7, 9)), ((2, 3, 5, 7), (7, 20)), ((5, 7), (2, 3, 7, 9)), ((2, 1, 5, 7), (2, 3, 7, 9)),
                                 ((2, 3, 5, 7), (2, 1, 7, 9)), ((1, 4, 7), (3, 7, 70)), ((7,), (7, 9)), ((2, 5, 7), (7,)), ((7,), (7,)),
                                 ((3, 1, 40), (3, 40, 17))])
@pytest.mark.parametrize("constant", [True, False])
def test_batched_matmul(tmp_path, a, b, constant):
    rng = np.random.default_rng(sum(a) + sum(b))
    x, w = rng.normal(size=a).astype(np.float32), rng.normal(size=b).astype(np.float32)
    want = np.matmul(x.astype(np.float64), w.astype(np.float64))
    model = save(tmp_path, helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": a} | ({} if constant else {"w": b}), {"w": w} if constant else {}, want.ndim)
    got = run(tmp_path, model, {"x": x} | ({} if constant else {"w": w}))
    assert_sums(got, want, np.matmul(np.abs(x).astype(np.float64), np.abs(w)), a[-1])


@pytest.mark.parametrize("trans_a,trans_b", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("bias,alpha,beta", [(None, 1, 1), ((20,), 1, 1), ((1, 20), 1, 1), ((20,), 0.5, 2), ((9, 20), 1, 1), ((9, 1), 1, 0.5), ((), 1, 1)])
def test_gemm(tmp_path, trans_a, trans_b, bias, alpha, beta):
    rng = np.random.default_rng(trans_a + 2 * trans_b)
    a, b = rng.normal(size=(9, 31)).astype(np.float32), rng.normal(size=(31, 20)).astype(np.float32)
    c = None if bias is None else rng.normal(size=bias).astype(np.float32)
    want = alpha * (a.astype(np.float64) @ b) + (0 if c is None else beta * c.astype(np.float64))
    bound = np.abs(a).astype(np.float64) @ np.abs(b) + (0 if c is None else 2 * np.abs(c))
    feeds = {"a": a.T.copy() if trans_a else a, "b": b.T.copy() if trans_b else b} | ({} if c is None else {"c": c})
    node = helper.make_node("Gemm", list(feeds), ["y"], transA=trans_a, transB=trans_b, alpha=float(alpha), beta=float(beta))
    assert_sums(run(tmp_path, save(tmp_path, node, {name: value.shape for name, value in feeds.items()}, {}, 2), feeds), want, bound, 31)
    constants = {name: feeds.pop(name) for name in list(feeds)[1:]}
    assert_sums(run(tmp_path, save(tmp_path, node, {"a": feeds["a"].shape}, constants, 2), feeds), want, bound, 31)


def convolve(x, w, bias, strides, pads, dilations, group):
    """The sum of products and of their sizes, in f64."""
    n, c, _, _ = x.shape
    f, _, kh, kw = w.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    oh, ow = ((padded.shape[2 + d] - (w.shape[2 + d] - 1) * dilations[d] - 1) // strides[d] + 1 for d in (0, 1))
    sums, bound = np.zeros((2, n, f, oh, ow))
    for g, i, j in itertools.product(range(group), range(kh), range(kw)):
        channels, filters = slice(g * c // group, (g + 1) * c // group), slice(g * f // group, (g + 1) * f // group)
        y, z = i * dilations[0], j * dilations[1]
        window = padded[:, channels, y:y + strides[0] * (oh - 1) + 1:strides[0], z:z + strides[1] * (ow - 1) + 1:strides[1]]
        sums[:, filters] += np.einsum("nchw,fc->nfhw", window, w[filters, :, i, j].astype(np.float64))
        bound[:, filters] += np.einsum("nchw,fc->nfhw", np.abs(window), np.abs(w[filters, :, i, j]).astype(np.float64))
    return (sums, bound) if bias is None else (sums + bias[:, None, None], bound + np.abs(bias)[:, None, None])


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("c,f,kh,kw,strides,pads,dilations,group,bias",
                         [(3, 16, 7, 7, (2, 2), (3, 3, 3, 3), (1, 1), 1, True), (1, 8, 1, 1, (1, 1), (0, 0, 0, 0), (1, 1), 1, False),
                          (20, 70, 3, 2, (1, 2), (1, 0, 2, 1), (1, 1), 1, True), (64, 64, 3, 3, (1, 1), (1, 1, 1, 1), (1, 1), 1, True),
                          (5, 33, 3, 3, (1, 1), (2, 4, 2, 4), (2, 4), 1, True), (300, 10, 3, 3, (1, 1), (1, 1, 1, 1), (1, 1), 1, True),
                          (24, 24, 3, 3, (1, 1), (1, 1, 1, 1), (1, 1), 24, True), (16, 16, 5, 3, (2, 1), (2, 1, 2, 1), (1, 1), 16, False),
                          (70, 70, 3, 3, (1, 1), (2, 3, 2, 3), (2, 3), 70, True), (8, 16, 3, 3, (1, 1), (1, 1, 1, 1), (1, 1), 2, True)])
def test_conv(tmp_path, c, f, kh, kw, strides, pads, dilations, group, bias, constant):
    rng = np.random.default_rng(c * f)
    x = rng.normal(size=(2, c, 13, 17)).astype(np.float32)
    constants = {"w": rng.normal(size=(f, c // group, kh, kw)).astype(np.float32)} | ({"b": rng.normal(size=f).astype(np.float32)} if bias else {})
    want, bound = convolve(x, constants["w"], constants.get("b"), strides, pads, dilations, group)
    feeds = {"x": x} | ({} if constant else constants)
    node = helper.make_node("Conv", ["x", *constants], ["y"], strides=strides, pads=pads, dilations=dilations, group=group)
    inputs = {"x": ["n", c, "h", "w"]} | ({} if constant else {name: value.shape for name, value in constants.items()})
    model = save(tmp_path, node, inputs, constants if constant else {}, 4)
    assert_sums(run(tmp_path, model, feeds), want, bound, c // group * kh * kw)
