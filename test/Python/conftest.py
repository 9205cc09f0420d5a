# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Paths, small models and a runner for the command, shared by the Python tests."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

MODELS = ROOT / "python" / "lowbit" / "models"
SHARED = ROOT.parent / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="../shared is absent")


def shared_model(model: str, data: str, *more: object, name: str):
    """A parameter set: a shared model, its calibration and its evaluation data, and `more`."""
    return pytest.param(SHARED / "models" / f"{model}.onnx", SHARED / "data" / f"{data}_calib.npz", SHARED / "data" / f"{data}_eval.npz",
                        *more, id=name, marks=needs_shared)


def require_compiler() -> ModuleType:
    """lowbit._compiler; skips the module that calls it where that is not built."""
    from lowbit import _native
    try:
        return _native.compiler()
    except Exception as error:
        pytest.skip(f"lowbit._compiler is not built: {error}", allow_module_level=True)


@pytest.fixture
def digits() -> Path:
    """The bundled CNN, for tests that run it in onnxruntime."""
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnx", reason="needs onnx")
    return MODELS / "digits_cnn.onnx"


@pytest.fixture
def llama() -> Path:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnx", reason="needs onnx")
    return MODELS / "tiny_llama.onnx"


@pytest.fixture
def coarse(tmp_path: Path) -> Callable[[Path, int], Path]:
    """Writes a copy of a model whose weight matrices are rounded, per tensor, to so many bits."""
    def make(source: Path, bits: int) -> Path:
        import onnx
        from onnx import numpy_helper

        model = onnx.load(source)
        weights = {n.input[1] for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")}
        for tensor in model.graph.initializer:
            if tensor.name in weights:
                value = numpy_helper.to_array(tensor)
                scale = np.abs(value).max() / (2 ** (bits - 1) - 1)
                tensor.CopyFrom(numpy_helper.from_array((np.round(value / scale) * scale).astype(np.float32), tensor.name))
        path = tmp_path / f"{source.stem}_{bits}.onnx"
        onnx.save(model, path)
        return path
    return make


@pytest.fixture
def linear(tmp_path: Path) -> Callable[..., Path]:
    """Writes y = x·W + b as an ONNX model: weight [K, M], bias [M], x [batch or "N", K]."""
    def make(weight: np.ndarray, name: str = "linear", batch: object = "N", bias: np.ndarray | None = None, output: str = "y") -> Path:
        onnx = pytest.importorskip("onnx", reason="needs onnx")
        from onnx import TensorProto, helper, numpy_helper

        bias = np.zeros(weight.shape[1]) if bias is None else bias
        graph = helper.make_graph(
            [helper.make_node("Gemm", ["x", "w", "b"], [output], name="gemm")], name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, weight.shape[0]])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, weight.shape[1]])],
            [numpy_helper.from_array(weight.astype(np.float32), "w"), numpy_helper.from_array(bias.astype(np.float32), "b")])
        path = tmp_path / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
        return path
    return make


@pytest.fixture
def lowbit() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command; checks that a failure is one line without a traceback."""
    def run(*arguments: object, env: dict[str, str] | None = None, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, [str(ROOT / "python"), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, **(env or {})}
        done = subprocess.run([sys.executable, "-m", "lowbit", *map(str, arguments)], capture_output=True, text=True, env=environment, cwd=folder)
        if done.returncode not in (0, 1):
            errors = [line for line in done.stderr.splitlines() if "error:" in line]
            assert len(errors) == 1, done.stderr
            assert "Traceback" not in done.stderr
        return done
    return run
