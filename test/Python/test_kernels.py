"""The CPU kernels, given the same integers, against numpy: exactly, on every variant and for one and two threads."""
from __future__ import annotations

import itertools
import pathlib

import numpy as np
import pytest

from conftest import require_compiler

compiler = pytest.importorskip("lowbit.compiler", reason="the lowbit package is not importable")
_compiler = require_compiler()

from everywhere import run_everywhere  # noqa: E402
from lowbit.runtime import Bundle  # noqa: E402

XS, XZ, OS, OZ = 0.02, -5, 0.3, 7


def dense(array: np.ndarray, element: str) -> str:
    shape = "x".join(map(str, array.shape))
    return f'dense<"0x{array.tobytes().hex().upper()}"> : tensor<{shape}x{element}>'


def integer_parameters() -> str:
    return f"""
  %xs = arith.constant dense<{XS}> : tensor<f32>
  %xz = arith.constant dense<{XZ}> : tensor<i8>
  %os = arith.constant dense<{OS}> : tensor<f32>
  %oz = arith.constant dense<{OZ}> : tensor<i8>"""


def output_operands(element: str) -> tuple[str, str]:
    return ("output_scale(%os) output_zero(%oz)", ", tensor<f32>, tensor<i8>") if element == "i8" else ("", "")


def epilogue(accumulator, bias, scale, relu, element):
    """+ bias in 32 bits, to f32, one multiplication, round half to even, + zero point, saturate."""
    multiplier = np.float64(np.float32(XS)) * scale.astype(np.float64)
    if element == "i8":
        multiplier = multiplier / np.float64(np.float32(OS))
    real = (accumulator + bias).astype(np.int32).astype(np.float32) * multiplier.astype(np.float32)
    if element == "f32":
        return np.maximum(real, np.float32(0)) if relu else real
    return np.clip(np.rint(real).astype(np.float64) + OZ, OZ if relu else -128, 127).astype(np.int8)


def run(tmp_path: pathlib.Path, text: str, x: np.ndarray) -> np.ndarray:
    (tmp_path / "k.mlir").write_text(text)
    _compiler.compile(str(tmp_path / "k.mlir"), str(tmp_path / "k.lowbit"))
    return run_everywhere(tmp_path / "k.lowbit", {"input0": x})["output0"]


@pytest.mark.parametrize("element", ["f32", "i8"])
@pytest.mark.parametrize("m,k,n", [(5, 27, 20), (1, 4, 1), (13, 64, 16), (100, 172, 64), (130, 64, 172), (200, 31, 10)])
def test_int8_linear(tmp_path, m, k, n, element):
    rng = np.random.default_rng(m * k + n)
    w = rng.integers(-127, 128, (n, k)).astype(np.int8)
    scale = rng.uniform(0.001, 0.01, n).astype(np.float32)
    bias = rng.integers(-1000, 1000, n).astype(np.int32)
    operands, types = output_operands(element)
    text = f"""func.func @main_graph(%x: tensor<?x{k}xi8>) -> tensor<?x{n}x{element}> {{
  %w = arith.constant {dense(w, 'i8')}
  %ws = arith.constant {dense(scale, 'f32')}
  %b = arith.constant {dense(bias, 'i32')}{integer_parameters()}
  %y = lowbit.linear %x, %w scale(%ws) bias(%b) input_scale(%xs) input_zero(%xz) {operands} {{relu}}
    : (tensor<?x{k}xi8>, tensor<{n}x{k}xi8>, tensor<{n}xf32>, tensor<{n}xi32>, tensor<f32>, tensor<i8>{types}) -> tensor<?x{n}x{element}>
  return %y : tensor<?x{n}x{element}>
}}"""
    x = rng.integers(-128, 128, (m, k)).astype(np.int8)
    accumulator = (x.astype(np.int64) - XZ) @ w.T.astype(np.int64)
    assert np.array_equal(run(tmp_path, text, x), epilogue(accumulator, bias, scale, True, element))


@pytest.mark.parametrize("element", ["f32", "i8"])
@pytest.mark.parametrize("c,f,k,s,p,d,g", [(3, 16, 3, 1, 1, 1, 1), (1, 8, 5, 1, 2, 1, 1), (16, 32, 3, 2, 1, 1, 1), (16, 10, 1, 2, 0, 1, 1),
                                           (5, 70, 3, 1, 2, 2, 1), (64, 64, 3, 1, 1, 1, 1), (8, 8, 3, 1, 1, 1, 8), (6, 4, 3, 1, 1, 1, 2)])
def test_int8_conv(tmp_path, c, f, k, s, p, d, g, element):
    """Groups other than 1 run as the decomposition, which means the same."""
    rng = np.random.default_rng(c * f + k)
    w = rng.integers(-127, 128, (f, c // g, k, k)).astype(np.int8)
    scale = rng.uniform(0.001, 0.01, f).astype(np.float32)
    bias = rng.integers(-1000, 1000, f).astype(np.int32)
    operands, types = output_operands(element)
    text = f"""func.func @main_graph(%x: tensor<?x{c}x?x?xi8>) -> tensor<?x{f}x?x?x{element}> {{
  %w = arith.constant {dense(w, 'i8')}
  %ws = arith.constant {dense(scale, 'f32')}
  %b = arith.constant {dense(bias, 'i32')}{integer_parameters()}
  %y = lowbit.conv %x, %w scale(%ws) bias(%b) input_scale(%xs) input_zero(%xz) {operands}
    {{strides = array<i64: {s}, {s}>, pads = array<i64: {p}, {p}, {p}, {p}>, dilations = array<i64: {d}, {d}>, groups = {g} : i64}}
    : (tensor<?x{c}x?x?xi8>, tensor<{f}x{c // g}x{k}x{k}xi8>, tensor<{f}xf32>, tensor<{f}xi32>, tensor<f32>, tensor<i8>{types}) -> tensor<?x{f}x?x?x{element}>
  return %y : tensor<?x{f}x?x?x{element}>
}}"""
    x = rng.integers(-128, 128, (2, c, 9, 8)).astype(np.int8)
    padded = np.pad(x.astype(np.int64) - XZ, ((0, 0), (0, 0), (p, p), (p, p)))
    extent = (k - 1) * d + 1
    oh, ow = (9 + 2 * p - extent) // s + 1, (8 + 2 * p - extent) // s + 1
    accumulator = np.zeros((2, f, oh, ow), np.int64)
    for group, i, j in itertools.product(range(g), range(k), range(k)):
        channels, filters = slice(group * c // g, (group + 1) * c // g), slice(group * f // g, (group + 1) * f // g)
        window = padded[:, channels, i * d:i * d + s * (oh - 1) + 1:s, j * d:j * d + s * (ow - 1) + 1:s]
        accumulator[:, filters] += np.einsum("nchw,fc->nfhw", window, w[filters, :, i, j].astype(np.int64))
    want = epilogue(accumulator, bias[:, None, None], scale[:, None, None], False, element)
    assert np.array_equal(run(tmp_path, text, x), want)


@pytest.mark.parametrize("bits,signed", [(4, False), (4, True), (8, False), (8, True)])
@pytest.mark.parametrize("m,k,n,group", [(5, 27, 20, 32), (1, 64, 64, 32), (130, 172, 64, 32), (7, 100, 10, 16), (97, 33, 100, 8)])
def test_weight_only_linear(tmp_path, m, k, n, group, bits, signed):
    rng = np.random.default_rng(m + k + n + bits)
    low = -(1 << bits - 1) if signed else 0
    groups = -(-k // group)
    w, zero = (rng.integers(low, low + (1 << bits), shape) for shape in ((n, k), (n, groups)))
    scale = rng.uniform(0.001, 0.01, (n, groups)).astype(np.float32)
    bias = rng.normal(size=n).astype(np.float32)
    element = f"{'' if signed else 'u'}i{bits}"
    byte = np.int8 if signed else np.uint8
    text = f"""func.func @main_graph(%x: tensor<?x{k}xf32>) -> tensor<?x{n}xf32> {{
  %w = "onnx.Constant"() {{value = {dense(w.astype(byte), element)}}} : () -> tensor<{n}x{k}x{element}>
  %z = "onnx.Constant"() {{value = {dense(zero.astype(byte), element)}}} : () -> tensor<{n}x{groups}x{element}>
  %ws = arith.constant {dense(scale, 'f32')}
  %b = arith.constant {dense(bias, 'f32')}
  %y = lowbit.linear %x, %w scale(%ws) zero(%z) bias(%b) {{group = {group} : i64}}
    : (tensor<?x{k}xf32>, tensor<{n}x{k}x{element}>, tensor<{n}x{groups}xf32>, tensor<{n}x{groups}x{element}>, tensor<{n}xf32>) -> tensor<?x{n}xf32>
  return %y : tensor<?x{n}xf32>
}}"""
    x = rng.normal(size=(m, k)).astype(np.float32)
    index = np.arange(k) // group
    weights = (w - zero[:, index]).astype(np.float64) * scale[:, index]
    want = x.astype(np.float64) @ weights.T + bias
    # f32 accumulation over k terms: k roundings of half a unit at most, of sums no larger than Σ |x| |w|.
    bound = np.abs(x).astype(np.float64) @ np.abs(weights).T + np.abs(bias)
    assert (np.abs(run(tmp_path, text, x) - want) <= (k + 2) * 2.0**-24 * bound).all()


def test_conv_on_an_input_smaller_than_its_kernel(tmp_path):
    """Sizes are dynamic, so this is known only at run time: an error, and no memory beyond the input is read."""
    text = f"""func.func @main_graph(%x: tensor<?x4x?x?xi8>) -> tensor<?x16x?x?xf32> {{
  %w = arith.constant dense<1> : tensor<16x4x5x5xi8>
  %ws = arith.constant dense<1.0> : tensor<f32>{integer_parameters()}
  %y = lowbit.conv %x, %w scale(%ws) input_scale(%xs) input_zero(%xz)
    {{strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>, layer = "c"}}
    : (tensor<?x4x?x?xi8>, tensor<16x4x5x5xi8>, tensor<f32>, tensor<f32>, tensor<i8>) -> tensor<?x16x?x?xf32>
  return %y : tensor<?x16x?x?xf32>
}}"""
    (tmp_path / "k.mlir").write_text(text)
    _compiler.compile(str(tmp_path / "k.mlir"), str(tmp_path / "k.lowbit"))
    bundle = Bundle(str(tmp_path / "k.lowbit"))
    assert bundle.run({"input0": np.zeros((1, 4, 5, 5), np.int8)})["output0"].shape == (1, 16, 1, 1)
    with pytest.raises(Exception, match="'c': the input is smaller than the kernel"):
        bundle.run({"input0": np.zeros((1, 4, 3, 3), np.int8)})
