# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Bundles through the C interface, on a small library that implements lowbit-c/Runtime.h."""
import ctypes
import gc
import shutil
import subprocess
import threading

import numpy as np
import pytest

import lowbit
from conftest import ROOT
from lowbit import _native


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("clang-22") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("toy")
    library = folder / "liblowbit-runtime.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-I", ROOT / "include", ROOT / "test" / "Python" / "Inputs" / "toy_runtime.c", "-o", library], check=True)
    return folder


@pytest.fixture
def bundle(toy, monkeypatch, tmp_path):
    monkeypatch.setenv("LOWBIT_BUILD", str(toy))
    monkeypatch.setattr(_native, "_PACKAGE", tmp_path / "nowhere" / "python" / "lowbit")
    _native.runtime.cache_clear()
    yield lowbit.Bundle(tmp_path, threads=2)
    _native.runtime.cache_clear()


def live():
    gc.collect()
    return ctypes.c_int64.in_dll(_native.runtime(), "toy_live").value


def test_properties(bundle):
    assert str(bundle.inputs[0]) == "x: f32 [N, 3]" and [v.name for v in bundle.outputs] == ["y", "s"]
    assert bundle.outputs[1].dims == () and bundle.manifest["target"] == "cpu" and bundle.isa == "toy"


def test_runs(bundle):
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    out = bundle.run({"x": x})
    assert np.array_equal(out["y"], 2 * x) and out["y"].dtype == np.float32
    assert out["s"].shape == () and out["s"] == x.sum()


@pytest.mark.parametrize("view", [
    lambda x: x[::2], lambda x: x[::-1], lambda x: x.T.copy().T, lambda x: np.broadcast_to(x[:1], (5, 3)), lambda x: x[:0],
    lambda x: x.astype(">f4"),
])
def test_views_of_any_layout(bundle, view):
    x = view(np.arange(12, dtype=np.float32).reshape(4, 3))
    assert np.array_equal(bundle.run({"x": x})["y"], 2 * x)


def test_unaligned_and_odd_strides_are_copied(bundle):
    raw = np.zeros(4 * 13 + 1, np.uint8)
    odd = np.ndarray((4, 3), np.float32, raw[1:].data, strides=(13, 4))
    odd[:] = np.arange(12).reshape(4, 3)
    assert np.array_equal(bundle.run({"x": odd})["y"], 2 * odd)


def test_dlpack(bundle):
    class Holder:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    x = np.ones((2, 3), np.float32)
    assert np.array_equal(bundle.run({"x": Holder(x)})["y"], 2 * x)

    class OnGpu(Holder):
        def __dlpack__(self, **options):
            raise BufferError("on another device")

    with pytest.raises(lowbit.InvalidInput, match="cannot be read on the CPU: on another device"):
        bundle.run({"x": OnGpu(x)})


@pytest.mark.parametrize("inputs, message", [
    ({"z": 1}, "no input 'z'"), ({}, "input 'x' is missing; the model wants x: f32 [N, 3]"), ({"X": 1}, "did you mean 'x'"),
    ({"x": [1.0]}, "is list, not a numpy array"), ({"x": np.zeros((2, 3))}, 'convert it with .astype("float32")'),
    ({"x": np.zeros((2, 4), np.float32)}, "has shape [2, 4]"), ({"x": np.zeros(3, np.float32)}, "has shape [3]"),
])
def test_wrong_inputs(bundle, inputs, message):
    with pytest.raises(lowbit.InvalidInput) as caught:
        bundle.run(inputs)
    assert message in str(caught.value)


def test_errors_of_the_library(bundle, tmp_path):
    with pytest.raises(lowbit.OutOfMemory, match="thirteen rows"):
        bundle.run({"x": np.zeros((13, 3), np.float32)})
    with pytest.raises(lowbit.InvalidInput, match="sha256 differs"):
        lowbit.Bundle(tmp_path / "damaged")
    with pytest.raises(lowbit.Unsupported, match="no such kernel variant"):
        lowbit.Bundle(tmp_path, isa="z80")
    assert lowbit.Bundle(tmp_path, isa="toy").isa == "toy"


def test_results_outlive_the_bundle_and_are_freed(bundle):
    before = live()
    out = bundle.run({"x": np.ones((2000, 3), np.float32)})  # large enough not to be copied
    part = out["y"][1:]
    bundle.close()
    del out
    assert live() == before + 1 and (part == 2).all()
    del part
    assert live() == before
    with pytest.raises(lowbit.InvalidInput, match="was closed"):
        bundle.run({"x": np.ones((2, 3), np.float32)})


def test_threads_may_run_one_bundle(bundle):
    wrong = []

    def work(value):
        x = np.full((500, 3), value, np.float32)
        for _ in range(200):
            if not (bundle.run({"x": x})["y"] == 2 * value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert wrong == [] and live() == 0


def test_run_verb(bundle, lowbit, tmp_path):
    """`bundle` has set the place of the library; the command gets it through the environment."""
    import os

    np.savez(tmp_path / "in.npz", x=np.arange(6, dtype=np.float32).reshape(2, 3))
    env = {"LOWBIT_BUILD": os.environ["LOWBIT_BUILD"]}
    if list((ROOT / "python" / "lowbit").glob("liblowbit-runtime.so")):
        pytest.skip("another runtime is beside the package")
    assert lowbit("run", tmp_path, "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz", env=env).returncode == 0
    with np.load(tmp_path / "out.npz") as out:
        assert out["y"].tolist() == [[0, 2, 4], [6, 8, 10]]
    assert lowbit("run", tmp_path, "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz", env=env).returncode == 2
    assert lowbit("run", tmp_path, "--inputs", tmp_path / "in.npz", "-o", tmp_path / "o2.npz", "--device", "cuda:0", env=env).returncode == 2
    assert not (tmp_path / "o2.npz").exists()


def test_a_library_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("LOWBIT_BUILD", str(tmp_path))
    monkeypatch.setattr(_native, "_PACKAGE", tmp_path / "a" / "b")
    _native.runtime.cache_clear()
    with pytest.raises(lowbit.Unavailable, match="not found"):
        _native.runtime()
