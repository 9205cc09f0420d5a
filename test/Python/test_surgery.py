# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Graph surgery changes constants, not functions: transformed models against onnxruntime on the originals."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from conftest import MODELS, ROOT, SHARED, needs_shared, require_compiler

ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
onnx = pytest.importorskip("onnx", reason="needs onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

require_compiler()

import lowbit as lb  # noqa: E402

BIN = Path(os.environ.get("LOWBIT_BUILD", ROOT / "build")) / "bin"
pytestmark = pytest.mark.skipif(not (BIN / "lowbit-opt").exists(), reason="lowbit-opt is not built")


def surgery(model: Path, passes: str, edit=None) -> Path:
    """The model in the float form after the passes; `edit` changes the text in front of them."""
    imported, out = model.with_suffix(".imported.mlir"), model.with_suffix(".surgery.mlir")
    subprocess.run([BIN / "lowbit-translate", "--import-onnx", model, "-o", imported], check=True)
    if edit:
        subprocess.run([BIN / "lowbit-opt", "--pass-pipeline=builtin.module(lowbit-to-float)", imported, "-o", out], check=True)
        imported.write_text(edit(out.read_text()))
    steps = ([] if edit else ["lowbit-to-float"]) + ([passes] if passes else [])
    pipeline = f"builtin.module({','.join(steps)})"
    subprocess.run([BIN / "lowbit-opt", f"--pass-pipeline={pipeline}", imported, "-o", out], check=True, stderr=subprocess.DEVNULL)
    return out


def expect_same(model: Path, passes: str, feeds: list[dict[str, np.ndarray]], *, edit=None, changed: bool = True, tolerance: float = 1e-5) -> None:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    before = surgery(model, "").read_text()
    transformed = surgery(model, passes, edit)
    assert (transformed.read_text() != before) == changed
    bundle = lb.compile(str(transformed), recipe="fp32")
    for feed in feeds:
        expected, found = session.run(names, feed), bundle.run(feed)
        for name, value in zip(names, expected):
            scale = np.abs(value).max() or 1.0
            assert np.abs(found[name] - value).max() <= tolerance * scale, name


class Graph:
    """Builds an ONNX model with random constants whose channels differ by up to 2^8."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weights(self, *shape: int, spread: float = 4.0) -> str:
        channels = np.exp2(self.rng.uniform(-spread, spread, (shape[0], *[1] * (len(shape) - 1))))
        return self.constant((self.rng.standard_normal(shape) * channels / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    def vector(self, size: int, low: float = -1.0, high: float = 1.0) -> str:
        return self.constant(self.rng.uniform(low, high, size).astype(np.float32))

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes) -> str:
        names = [f"v{self.count + i}" for i in range(outputs)]
        self.count += outputs
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"{kind}_{self.count}", **attributes))
        return names[0]

    def conv(self, x: str, channels: int, filters: int, kernel: int = 3, group: int = 1, bias: bool = True, **attributes) -> str:
        inputs = [x, self.weights(filters, channels // group, kernel, kernel)] + ([self.vector(filters)] if bias else [])
        return self.add("Conv", *inputs, group=group, **attributes)

    def norm(self, x: str, channels: int) -> str:
        return self.add("BatchNormalization", x, self.vector(channels, -2.0, 2.0), self.vector(channels), self.vector(channels), self.vector(channels, 0.1, 2.0))

    def save(self, path: Path, shape: list, *results: str) -> Path:
        graph = helper.make_graph(self.nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                                  [helper.make_empty_tensor_value_info(r) for r in results], self.constants)
        for output in graph.output:
            output.type.tensor_type.elem_type = TensorProto.FLOAT
        onnx.save(onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)), path)
        return path

    def feeds(self, *shape: int) -> list[dict[str, np.ndarray]]:
        return [{"x": self.rng.standard_normal(shape).astype(np.float32)} for _ in range(3)]


SEEDS = pytest.mark.parametrize("seed", range(3))
FOLD, EQUALIZE = "lowbit-fold-batch-norm", "lowbit-fold-batch-norm,lowbit-equalize"


def residual_network(g: Graph) -> list[str]:
    """Depthwise and grouped convolutions, a residual Add, a shortcut of Slice and Pad, Concat, pooling; two results."""
    x = g.add("Relu", g.norm(g.conv("x", 3, 8, pads=[1] * 4), 8))
    y = g.add("LeakyRelu", g.norm(g.conv(x, 8, 8, group=8, pads=[1] * 4), 8), alpha=0.1)
    y = g.add("PRelu", g.norm(g.conv(y, 8, 8, kernel=1, bias=False), 8), g.constant(g.rng.uniform(0, 0.5, (8, 1, 1)).astype(np.float32)))
    x = g.add("Relu", g.add("Add", x, y))
    short = g.add("Slice", x, g.constant(np.array([0, 0])), g.constant(np.array([99, 99])), g.constant(np.array([2, 3])), g.constant(np.array([2, 2])))
    short = g.add("Pad", short, g.constant(np.array([0, 2, 0, 0, 0, 2, 0, 0])), mode="constant")
    y = g.conv(x, 8, 12, group=2, pads=[1] * 4, strides=[2, 2])
    x = g.add("Relu", g.add("Add", g.norm(y, 12), short))
    pooled = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
    joined = g.add("Concat", pooled, g.conv(x, 12, 4, kernel=1), axis=1)
    up = g.add("ConvTranspose", joined, g.weights(16, 3, 2, 2), g.vector(6), strides=[2, 2], group=2)
    flat = g.add("Flatten", g.add("AveragePool", g.norm(up, 6), kernel_shape=[4, 4], strides=[4, 4]), axis=1)
    head = g.add("Gemm", flat, g.weights(5, 24), g.vector(5), transB=1, alpha=0.5, beta=2.0)
    other = g.add("MatMul", g.add("ReduceMean", x, g.constant(np.array([2, 3])), keepdims=0), g.weights(12, 4))
    return [head, g.add("Add", other, g.vector(4))]


@SEEDS
@pytest.mark.parametrize("passes", [FOLD, EQUALIZE])
def test_residual_network(seed: int, passes: str, tmp_path: Path) -> None:
    g = Graph(seed)
    model = g.save(tmp_path / "m.onnx", [2, 3, 8, 8], *residual_network(g))
    expect_same(model, passes, g.feeds(2, 3, 8, 8))


@SEEDS
def test_norms_go_forward(seed: int, tmp_path: Path) -> None:
    g = Graph(seed)
    x = g.norm(g.add("Relu", "x"), 4)
    a, b = g.conv(x, 4, 6), g.conv(x, 4, 4, group=4, bias=False)
    y = g.norm(g.add("Sigmoid", g.add("Flatten", g.add("GlobalAveragePool", a), axis=1)), 6)
    model = g.save(tmp_path / "m.onnx", [2, 4, 6, 6], g.add("MatMul", y, g.weights(6, 3)), g.add("Gemm", y, g.weights(6, 3), g.vector(3)), b)
    expect_same(model, FOLD, g.feeds(2, 4, 6, 6))
    assert "BatchNormalization" not in surgery(model, FOLD).read_text()


@SEEDS
def test_linear_norm(seed: int, tmp_path: Path) -> None:
    g = Graph(seed)
    y = g.add("Relu", g.norm(g.add("MatMul", "x", g.weights(4, 6)), 6))
    y = g.norm(g.add("Add", g.add("MatMul", y, g.weights(6, 5)), g.vector(5)), 5)
    model = g.save(tmp_path / "m.onnx", [7, 4], y)
    expect_same(model, FOLD, g.feeds(7, 4))
    assert "BatchNormalization" not in surgery(model, FOLD).read_text()


@SEEDS
def test_absorbed_bias(seed: int, tmp_path: Path) -> None:
    g = Graph(seed)
    # Weights so small that the norm's result stays within 3 of its deviations: above what is absorbed.
    y = g.add("Conv", "x", g.constant(g.rng.uniform(-0.05, 0.05, (6, 3, 1, 1)).astype(np.float32)))
    y = g.add("BatchNormalization", y, g.vector(6, 0.5, 1.0), g.vector(6, -4.0, 8.0), g.vector(6, 0.0, 0.0), g.vector(6, 0.9, 1.1))
    y = g.add("Flatten", g.add("GlobalAveragePool", g.conv(g.add("Relu", y), 6, 5)), axis=1)
    model = g.save(tmp_path / "m.onnx", [2, 3, 6, 6], g.add("MatMul", y, g.weights(5, 3)))
    expect_same(model, f"{FOLD},lowbit-absorb-bias", g.feeds(2, 3, 6, 6))
    folded = surgery(model, FOLD).read_text()
    assert surgery(model, f"{FOLD},lowbit-absorb-bias").read_text() != folded


def attention_block(g: Graph, norm: str) -> str:
    """A decoder's block: norm, grouped-query attention, residual, norm, gated product."""
    def normalize(x: str) -> str:
        if norm == "decomposed":
            mean = g.add("ReduceMean", g.add("Pow", x, g.constant(np.float32(2))), g.constant(np.array([-1])), keepdims=1)
            root = g.add("Sqrt", g.add("Add", mean, g.constant(np.float32(1e-5))))
            return g.add("Mul", g.add("Div", x, root), g.vector(8, 0.5, 2.0))
        return g.add(norm, x, g.vector(8, 0.5, 2.0), *([g.vector(8)] if norm == "LayerNormalization" else []), axis=-1)

    def heads(x: str, count: int) -> str:
        return g.add("Transpose", g.add("Reshape", x, g.constant(np.array([0, 0, count, 4]))), perm=[0, 2, 1, 3])

    h = normalize("x")
    q, k, v = heads(g.add("MatMul", h, g.weights(8, 16)), 4), heads(g.add("MatMul", h, g.weights(8, 8)), 2), heads(g.add("MatMul", h, g.weights(8, 8)), 2)
    def repeat(t: str) -> str:
        t = g.add("Expand", g.add("Unsqueeze", t, g.constant(np.array([2]))), g.constant(np.array([1, 1, 2, 1, 1])))
        return g.add("Reshape", t, g.constant(np.array([0, 4, -1, 4])))
    scores = g.add("Softmax", g.add("MatMul", q, g.add("Transpose", repeat(k), perm=[0, 1, 3, 2])), axis=-1)
    o = g.add("Reshape", g.add("Transpose", g.add("MatMul", scores, repeat(v)), perm=[0, 2, 1, 3]), g.constant(np.array([0, 0, 16])))
    x = g.add("Add", "x", g.add("MatMul", o, g.weights(16, 8)))
    h = normalize(x)
    gate, up = g.add("MatMul", h, g.weights(8, 12)), g.add("MatMul", h, g.weights(8, 12))
    return g.add("Add", x, g.add("MatMul", g.add("Mul", g.add("Mul", gate, g.add("Sigmoid", gate)), up), g.weights(12, 8)))


def scale_inputs(seed: int):
    """Gives every MatMul with constant weights random input scales."""
    rng = np.random.default_rng(seed)

    def edit(text: str) -> str:
        lines = []
        for line in text.splitlines():
            if '"onnx.MatMul"' in line and "onnx_node_name" in line:
                weights = line.rsplit("(", 1)[1].split(") ->")[0].split("tensor<")[2].split(">")[0].split("x")
                if len(weights) == 3:
                    scales = ", ".join(f"{v:.6f}" for v in np.exp2(rng.uniform(-3, 3, int(weights[0]))))
                    line = line.replace("{onnx_node_name", f"{{lowbit.input_scales = dense<[{scales}]> : tensor<{weights[0]}xf32>, onnx_node_name", 1)
            lines.append(line)
        return "\n".join(lines)
    return edit


@SEEDS
@pytest.mark.parametrize("norm", ["LayerNormalization", "RMSNormalization", "decomposed"])
def test_migrated_scales(seed: int, norm: str, tmp_path: Path) -> None:
    g = Graph(seed)
    model = g.save(tmp_path / "m.onnx", [1, "n", 8], attention_block(g, norm))
    expect_same(model, "lowbit-migrate-scales", g.feeds(1, 5, 8), edit=scale_inputs(seed))


@needs_shared
@pytest.mark.parametrize("name", ["kws_dscnn", "resnet8_cifar10", "resnet20_cifar10", "mnist"])
def test_shared_models(name: str, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes((SHARED / "models" / f"{name}.onnx").read_bytes())
    info = ort.InferenceSession(str(model)).get_inputs()[0]
    shape = [d if isinstance(d, int) else 2 for d in info.shape]
    rng = np.random.default_rng(0)
    expect_same(model, EQUALIZE, [{info.name: rng.standard_normal(shape).astype(np.float32) * (64 if "resnet8" in name else 1)}])


@pytest.mark.parametrize("model", [pytest.param(SHARED / "models" / "stories260K.onnx", marks=needs_shared, id="stories260K"), MODELS / "tiny_llama.onnx"])
def test_llama_scales(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m.onnx"
    copy.write_bytes(model.read_bytes())
    tokens = np.random.default_rng(0).integers(1, 200, (1, 32))
    name = ort.InferenceSession(str(copy)).get_inputs()[0].name
    expect_same(copy, "lowbit-migrate-scales", [{name: tokens}], edit=scale_inputs(0))
