# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Damaged and wrong files as model, data, calibration and bundle: one line, the right exit code, nothing half written.

The `lowbit` fixture itself checks that every failure is one error line without a traceback.
"""
from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import MODELS, require_compiler

require_compiler()

MODEL = MODELS / "digits_cnn.onnx"
CALIBRATION = MODELS / "digits_calib.npz"
DAMAGES = ["empty", "truncated", "random", "missing"]


def damaged(source: Path, how: str, path: Path) -> Path:
    data = source.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(data[:len(data) // 2])
    elif how == "random":
        path.write_bytes(np.random.default_rng(1).integers(0, 256, 5000).astype(np.uint8).tobytes())
    return path


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Path:
    """A calibration file of the bundled CNN."""
    from lowbit.compiler import calibrate_to
    path = tmp_path_factory.mktemp("calibration") / "c.lbcal"
    calibrate_to(str(MODEL), "int8", str(CALIBRATION), str(path))
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    from lowbit.compiler import compile_bundle
    path = tmp_path_factory.mktemp("bundle") / "m.lowbit"
    compile_bundle(str(MODEL), str(path))
    return path


@pytest.mark.parametrize("how", DAMAGES)
def test_model(lowbit, tmp_path, how):
    model = damaged(MODEL, how, tmp_path / "m.onnx")
    assert lowbit("compile", model, "-o", tmp_path / "out.lowbit").returncode == 2
    assert lowbit("inspect", model).returncode == 2
    assert {p.name for p in tmp_path.iterdir()} <= {"m.onnx"}


@pytest.mark.parametrize("how", DAMAGES)
def test_calibration_data(lowbit, tmp_path, how):
    data = damaged(CALIBRATION, how, tmp_path / "d.npz")
    assert lowbit("calibrate", MODEL, "--recipe", "int8", "--data", data, "-o", tmp_path / "c.lbcal").returncode == 2
    assert {p.name for p in tmp_path.iterdir()} <= {"d.npz"}


@pytest.mark.parametrize("how", DAMAGES)
def test_calibration_file(lowbit, tmp_path, calibrated, how):
    calibration = damaged(calibrated, how, tmp_path / "c.lbcal")
    done = lowbit("compile", MODEL, "--recipe", "int8", "--calibration", calibration, "-o", tmp_path / "out.lowbit")
    assert done.returncode == 2
    assert {p.name for p in tmp_path.iterdir()} <= {"c.lbcal"}


@pytest.mark.parametrize("name", ["manifest.json", "model.so", "weights.safetensors"])
@pytest.mark.parametrize("how", DAMAGES)
def test_bundle(lowbit, tmp_path, bundle, name, how):
    broken = tmp_path / "broken.lowbit"
    shutil.copytree(bundle, broken)
    source = bundle / name
    (broken / name).unlink()
    damaged(source, how, broken / name)
    done = lowbit("run", broken, "--inputs", MODELS / "digits_eval.npz", "-o", tmp_path / "y.npz")
    assert done.returncode == 2
    assert not (tmp_path / "y.npz").exists()


def test_missing_calibration(lowbit, tmp_path):
    done = lowbit("compile", MODEL, "--recipe", "int8", "-o", tmp_path / "out.lowbit")
    assert done.returncode == 2
    assert "calibrat" in done.stderr
    assert not list(tmp_path.iterdir())


def test_calibration_of_another_model(lowbit, tmp_path, calibrated):
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    model = onnx.load(MODEL)
    model.doc_string = "not the same file"
    onnx.save(model, tmp_path / "m.onnx")
    done = lowbit("compile", tmp_path / "m.onnx", "--recipe", "int8", "--calibration", calibrated, "-o", tmp_path / "out.lowbit")
    assert done.returncode == 2
    assert not (tmp_path / "out.lowbit").exists()


def test_nan_in_calibration_data(lowbit, tmp_path):
    with np.load(CALIBRATION) as arrays:
        data = {name: arrays[name] for name in arrays}
    key = max((n for n in data if data[n].dtype == np.float32), key=lambda n: data[n].size)
    data[key] = data[key].copy()
    data[key].flat[7] = np.nan
    np.savez(tmp_path / "d.npz", **data)
    done = lowbit("calibrate", MODEL, "--recipe", "int8", "--data", tmp_path / "d.npz", "-o", tmp_path / "c.lbcal")
    assert done.returncode == 2
    assert "NaN" in done.stderr
    assert not (tmp_path / "c.lbcal").exists()


def save(path: Path, nodes, opset: int = 18) -> Path:
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    from onnx import TensorProto, helper
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("my.domain", 1)], ir_version=8), path)
    return path


def test_unsupported_operators_are_all_listed(lowbit, tmp_path):
    """One error, exit 3, with every node and how many of each operator."""
    helper = pytest.importorskip("onnx.helper", reason="needs onnx")
    model = save(tmp_path / "m.onnx", [
        helper.make_node("Frobnicate", ["x"], ["a"], name="first", domain="my.domain"), helper.make_node("Relu", ["a"], ["b"], name="fine"),
        helper.make_node("Frobnicate", ["b"], ["c"], name="second", domain="my.domain"), helper.make_node("ImageDecoder", ["c"], ["y"], name="third")])
    done = lowbit("compile", model, "-o", tmp_path / "out.lowbit")
    assert done.returncode == 3
    for word in ("first", "second", "third", "Frobnicate", "ImageDecoder", "my.domain"):
        assert word in done.stderr
    assert "fine" not in done.stderr
    assert not (tmp_path / "out.lowbit").exists()


@pytest.mark.parametrize("change,words", [(lambda x: {"inptu": x}, ["inptu"]), (lambda x: {"": x[..., :5]}, []), (lambda x: {"": x.astype(np.complex64)}, [])])
def test_run_on_wrong_data(lowbit, tmp_path, bundle, change, words):
    from lowbit.runtime import Bundle
    name = Bundle(str(bundle)).inputs[0].name
    with np.load(MODELS / "digits_eval.npz") as arrays:
        x = arrays[name][:4]
    np.savez(tmp_path / "d.npz", **{key or name: value for key, value in change(x).items()})
    done = lowbit("run", bundle, "--inputs", tmp_path / "d.npz", "-o", tmp_path / "y.npz")
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "y.npz").exists()


def test_token_out_of_range(lowbit, tmp_path):
    """An index that the model cannot look up is the run's error, not a read of somebody else's memory."""
    assert lowbit("compile", MODELS / "tiny_llama.onnx", "-o", tmp_path / "m.lowbit", "-q").returncode == 0
    np.savez(tmp_path / "d.npz", input_ids=np.array([[1, 2, 10**9, 3]], np.int64))
    done = lowbit("run", tmp_path / "m.lowbit", "--inputs", tmp_path / "d.npz", "-o", tmp_path / "y.npz")
    assert done.returncode == 2
    assert "range" in done.stderr or "outside" in done.stderr


def test_unknown_recipe_suggests(lowbit, tmp_path):
    done = lowbit("compile", MODEL, "--recipe", "int9", "-o", tmp_path / "out.lowbit")
    assert done.returncode == 2
    assert "int8" in done.stderr
