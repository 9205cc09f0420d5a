# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What Python does around the compiler, with a stand-in for the compiler module."""
import json
import sys
import types

import numpy as np
import pytest

import lowbit
from lowbit import compiler
from lowbit.compiler import calibrate_to, compile_bundle, emit


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A `_compiler` that records calls; `fail` makes the next call raise its Error."""
    from lowbit import _native

    module = types.ModuleType("lowbit._compiler")
    module.calls, module.fail = [], None

    class Error(Exception):
        def __init__(self, text, code):
            super().__init__(text)
            self.code = code

    def record(name, *arguments, **options):
        module.calls.append((name, arguments, options))
        if module.fail:
            raise Error(*module.fail)

    class Calibrator:
        inputs = [("image", "f32", [-1, 2], ["N", ""])]
        observers = ["conv:input"]

        recipe_samples = samples = 0

        def __init__(self, model, recipe, threads=0):
            record("Calibrator", model, recipe)

        def feed(self, feed, count):
            record("feed", {k: v.copy() for k, v in feed.items()})
            self.samples += count

        def mark_half(self):
            pass

        def coverage(self):
            return "{}"

        def finish(self, path):
            record("finish", path)
            open(path, "x").write("calibration")

    module.Error, module.Calibrator = Error, Calibrator
    module.compile = lambda model, out, **options: record("compile", model, out, **options) or json.dumps({"summary": {}})
    module.emit = lambda model, form, **options: record("emit", model, form, **options) or b"module {}"
    module.recipe_is_sequential = lambda recipe: False
    monkeypatch.setitem(sys.modules, "lowbit._compiler", module)
    _native.compiler.cache_clear()
    yield module
    _native.compiler.cache_clear()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"onnx")
    return str(path)


def test_samples_arrive_one_by_one_and_in_order(fake, model, tmp_path):
    data = {"image": np.arange(10, dtype=np.float32).reshape(5, 2), "label": np.arange(5)}
    assert calibrate_to(model, "int8", data, tmp_path / "c.lbcal").samples == 5
    fed = [call[1][0]["image"] for call in fake.calls if call[0] == "feed"]
    assert [f.shape for f in fed] == [(1, 2)] * 5 and np.array_equal(np.concatenate(fed), data["image"])
    assert (tmp_path / "c.lbcal").read_text() == "calibration"


def test_failed_calibration_leaves_nothing(fake, model, tmp_path):
    bad = np.zeros((4, 2), np.float32)
    bad[2, 1] = np.nan
    with pytest.raises(lowbit.InvalidInput, match="NaN in sample 2"):
        calibrate_to(model, "int8", {"image": bad}, tmp_path / "c.lbcal")
    fake.fail = ("infinity in sample 3", 2)
    with pytest.raises(lowbit.InvalidInput, match="infinity"):
        calibrate_to(model, "int8", {"image": np.zeros((4, 2), np.float32)}, tmp_path / "c.lbcal")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx"]


@pytest.mark.parametrize("code, kind", [(2, lowbit.InvalidInput), (3, lowbit.Unsupported), (4, lowbit.OutOfMemory), (5, lowbit.InternalError), (6, lowbit.Unavailable)])
def test_compiler_errors_keep_their_code(fake, model, tmp_path, code, kind):
    fake.fail = ("node 'x': no", code)
    with pytest.raises(kind, match="node 'x': no") as caught:
        compile_bundle(model, str(tmp_path / "out"), recipe="int8")
    assert caught.value.code == code


def test_options_reach_the_compiler(fake, model, tmp_path):
    compile_bundle(model, str(tmp_path / "a"), recipe="int4", dims={"N": 2})
    compile_bundle(model, str(tmp_path / "b"), target="cuda")
    emit(model, "ptx", target="cuda", arch="sm_80")
    (_, _, cpu), (_, _, cuda), (_, arguments, emitted) = fake.calls
    assert cpu == {"recipe": "int4", "calibration": None, "target": "cpu", "dims": {"N": 2}, "quantizer": None, "force": False}
    # Without --arch the target chooses.
    assert "arch" not in cuda and emitted["arch"] == "sm_80" and arguments[1] == "ptx"


def test_an_existing_bundle_is_kept(fake, model, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(lowbit.InvalidInput, match="--force"):
        compile_bundle(model, str(tmp_path / "out"))
    assert fake.calls == []


@pytest.mark.parametrize("as_what", ["bytes", "proto", "path"])
def test_models_in_every_form(fake, model, monkeypatch, as_what):
    class Proto:
        def SerializeToString(self):
            return b"onnx"

    seen = []
    fake.compile = lambda path, out, **_: seen.append(open(path, "rb").read()) or "{}"
    monkeypatch.setattr(compiler, "Bundle", lambda path, threads: types.SimpleNamespace(path=path))
    source = {"bytes": b"onnx", "proto": Proto(), "path": model}[as_what]
    bundle = lowbit.compile(source, recipe="int8")
    assert seen == [b"onnx"] and str(bundle.path).endswith("model.lowbit")
    with pytest.raises(lowbit.InvalidInput, match="a model is a path, bytes"):
        lowbit.compile(3)


def test_weight_only_recipes_need_no_calibration(fake, model, tmp_path, monkeypatch):
    fake.Calibrator.observers = []
    data = {"image": np.zeros((4, 2), np.float32)}
    with pytest.raises(lowbit.InvalidInput, match="needs no calibration"):
        lowbit.calibrate(model, data, tmp_path / "c.lbcal", recipe="int4")
    monkeypatch.setattr(compiler, "Bundle", lambda path, threads: types.SimpleNamespace(path=path))
    lowbit.compile(model, recipe="int4", calibration_data=data)
    assert fake.calls[-1][0] == "compile" and fake.calls[-1][2]["calibration"] is None
    assert not any(call[0] == "feed" for call in fake.calls) and not (tmp_path / "c.lbcal").exists()
