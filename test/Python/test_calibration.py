# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Calibration: batches, order, interruption and merging do not change what is measured; the coverage report says what data saw."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import MODELS, require_compiler

require_compiler()

import lowbit as lb  # noqa: E402
from lowbit import calibration as calibration_module  # noqa: E402
from lowbit.compiler import calibrate_to, compile_bundle, coverage_of, quantize_on  # noqa: E402

CNN, DATA = MODELS / "digits_cnn.onnx", MODELS / "digits_calib.npz"
SUMS = ("channel_sum", "channel_abs_sum")


def read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors of a calibration file, by the format's documentation."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + length])
    types = {"F32": np.float32, "F64": np.float64, "I32": np.int32, "I64": np.int64}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and not name.startswith("__pad__"):
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(raw[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
    return header["__metadata__"], tensors


def assert_same(a: Path, b: Path) -> None:
    """All is equal to the bit but the sums of channels, which are to 1e-12."""
    (meta, left), (other, right) = read(a), read(b)
    assert meta == other and left.keys() == right.keys()
    for name, array in left.items():
        if name.rpartition("/")[2] in SUMS:
            magnitude = left[name.rpartition("/")[0] + "/channel_abs_sum"]
            assert np.all(np.abs(array - right[name]) <= 1e-12 * np.maximum(magnitude, 1e-300)), name
        else:
            assert np.array_equal(array, right[name]), name


@pytest.fixture(scope="module")
def samples() -> dict[str, np.ndarray]:
    with np.load(DATA) as file:
        return {name: file[name][:45] for name in file.files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, samples) -> Path:
    path = tmp_path_factory.mktemp("whole") / "c.lbcal"
    assert calibrate_to(str(CNN), "int8", samples, path).samples == 45
    return path


@pytest.mark.parametrize("batch, seed", [(7, None), (32, None), (1, 1), (7, 2), (32, 3)])
def test_batches_and_order_do_not_matter(tmp_path, samples, whole, batch, seed):
    order = np.arange(45) if seed is None else np.random.default_rng(seed).permutation(45)
    calibrate_to(str(CNN), "int8", {name: a[order] for name, a in samples.items()}, tmp_path / "c.lbcal", batch=batch)
    assert_same(tmp_path / "c.lbcal", whole)


def test_histograms_hold_every_value(whole, samples):
    _, tensors = read(whole)
    for name in {name.rpartition("/")[0] for name in tensors}:
        counts, keys = tensors[f"{name}/histogram_counts"], tensors[f"{name}/histogram_keys"]
        assert counts.sum() == tensors[f"{name}/count"] and tensors[f"{name}/rows"] == 45
        assert np.all(np.diff(keys) > 0) and np.all(counts > 0)
        assert tensors[f"{name}/channel_min"].min() == tensors[f"{name}/min"]
        assert tensors[f"{name}/channel_max"].max() == tensors[f"{name}/max"]
    # The first layer sees the data themselves.
    image = next(a for a in samples.values() if a.dtype == np.float32 and a.ndim == 4)
    first = next(name for name in tensors if name.endswith("/count") and tensors[name] == image.size)
    first = first.rpartition("/")[0]
    assert tensors[f"{first}/min"] == image.min() and tensors[f"{first}/max"] == image.max()
    keys = np.where((image.view(np.uint32) & 0x7fffffff) >> 14 == 0, 0, image.view(np.uint32) >> 14)
    expected, counts = np.unique(keys, return_counts=True)
    assert np.array_equal(tensors[f"{first}/histogram_keys"], expected.astype(np.int32))
    assert np.array_equal(tensors[f"{first}/histogram_counts"], counts)
    assert np.allclose(tensors[f"{first}/channel_sum"], image.astype(np.float64).sum((0, 2, 3)), rtol=1e-12)


def test_merged_parts_are_the_whole(tmp_path, samples, whole):
    parts = []
    for begin, end in ((0, 10), (10, 11), (11, 45)):
        parts.append(tmp_path / f"{begin}.lbcal")
        calibrate_to(str(CNN), "int8", {name: a[begin:end] for name, a in samples.items()}, parts[-1])
    assert calibrate_to(str(CNN), "int8", None, tmp_path / "c.lbcal", merge=parts[::-1]).samples == 45
    assert_same(tmp_path / "c.lbcal", whole)
    # Beside data of its own.
    calibrate_to(str(CNN), "int8", {name: a[:10] for name, a in samples.items()}, tmp_path / "d.lbcal", merge=parts[1:])
    assert_same(tmp_path / "d.lbcal", whole)


def test_an_interrupted_run_is_resumed(tmp_path, samples, whole, monkeypatch):
    out = tmp_path / "c.lbcal"

    def stop(done, total):
        if done == 21:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate_to(str(CNN), "int8", samples, out, batch=7, progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.lbcal.part"]
    # The checkpoint ends within a batch of the second run.
    done = calibrate_to(str(CNN), "int8", samples, out, batch=8, resume=True)
    assert done.samples == 45 and "21 samples" in done.notes[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.lbcal"]
    assert_same(out, whole)
    # A finished file takes more data.
    first = tmp_path / "first.lbcal"
    calibrate_to(str(CNN), "int8", {name: a[:30] for name, a in samples.items()}, first)
    calibrate_to(str(CNN), "int8", samples, first, resume=True)
    assert_same(first, whole)


def test_checkpoints_are_written_on_the_way(tmp_path, samples, monkeypatch):
    monkeypatch.setattr(calibration_module, "CHECKPOINT_SECONDS", 0.0)
    seen = []
    calibrate_to(str(CNN), "int8", samples, tmp_path / "c.lbcal", progress=lambda done, total: seen.append((tmp_path / "c.lbcal.part").exists()))
    assert any(seen) and not (tmp_path / "c.lbcal.part").exists()


def test_other_data_cannot_be_resumed(tmp_path, samples):
    out = tmp_path / "c.lbcal"
    calibrate_to(str(CNN), "int8", {name: a[:10] for name, a in samples.items()}, out)
    before = out.read_bytes()
    other = {name: a[::-1].copy() for name, a in samples.items()}
    with pytest.raises(lb.InvalidInput, match="first 10 samples are not those"):
        calibrate_to(str(CNN), "int8", other, out, resume=True)
    with pytest.raises(lb.InvalidInput, match="10 samples, 5 more than the data hold"):
        calibrate_to(str(CNN), "int8", {name: a[:5] for name, a in samples.items()}, out, resume=True)
    assert out.read_bytes() == before


def test_files_of_other_models_are_not_merged(tmp_path, samples, whole, linear):
    model = linear(np.ones((4, 3)))
    calibrate_to(str(model), "int8", {"x": np.ones((3, 4), np.float32)}, tmp_path / "l.lbcal")
    with pytest.raises(lb.InvalidInput, match="another model"):
        calibrate_to(str(CNN), "int8", samples, tmp_path / "c.lbcal", merge=[tmp_path / "l.lbcal"])
    assert not (tmp_path / "c.lbcal").exists()


def recipe(tmp_path: Path, calibration: str) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"lowbit: 1\nbase: int8\ncalibration: {calibration}\n")
    return str(path)


def test_the_first_samples_that_the_recipe_asks_for(tmp_path, samples):
    done = calibrate_to(str(CNN), recipe(tmp_path, "{samples: 10}"), samples, tmp_path / "c.lbcal", batch=7)
    assert done.samples == 10 and done.notes == ["took the first 10 samples, as the recipe says"]
    calibrate_to(str(CNN), "int8", {name: a[:10] for name, a in samples.items()}, tmp_path / "d.lbcal")
    assert_same(tmp_path / "c.lbcal", tmp_path / "d.lbcal")
    done = calibrate_to(str(CNN), recipe(tmp_path, "{samples: 100}"), samples, tmp_path / "e.lbcal")
    assert done.samples == 45 and done.notes == ["the recipe asks for 100 samples, the data hold 45"]


def test_weights_are_rounded_on_the_samples_that_the_recipe_asks_for(tmp_path, samples):
    """samples= counts where weights are rounded on data as it does where ranges are measured."""
    done, notes = quantize_on(str(CNN), "int4-gptq:samples=10", samples)
    assert done.samples == 10 and notes == ["took the first 10 samples, as the recipe says"]
    few, _ = quantize_on(str(CNN), "int4-gptq", {name: a[:10] for name, a in samples.items()})
    all_of_them, notes = quantize_on(str(CNN), "int4-gptq", samples)
    assert all_of_them.samples == 45 and not notes
    weights = []
    for i, quantizer in enumerate((done, few, all_of_them)):
        compile_bundle(str(CNN), str(tmp_path / f"{i}.lowbit"), recipe="int4-gptq", quantizer=quantizer)
        weights.append((tmp_path / f"{i}.lowbit" / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]
    done, notes = quantize_on(str(CNN), "int4-gptq:samples=100", samples)
    assert done.samples == 45 and notes == ["the recipe asks for 100 samples, the data hold 45"]


@pytest.mark.parametrize("method", ["minmax", "average", "percentile", "entropy", "mse"])
def test_one_file_serves_every_method(tmp_path, samples, whole, method):
    # Without transforms that move channels: those know no averages of what they made.
    path = tmp_path / "recipe.yaml"
    path.write_text(f"lowbit: 1\nbase: int8\ntransforms: [fold-bn]\ncalibration: {{method: {method}}}\n")
    bundle = lb.compile(str(CNN), recipe=str(path), calibration=whole)
    reference = lb.compile(str(CNN))
    name = bundle.inputs[0].name
    feed = {name: samples[name][:8]}
    a, b = (next(iter(x.run(feed).values())) for x in (bundle, reference))
    assert np.abs(a - b).max() < 0.1 * np.abs(b).max()


def test_coverage_of_the_data_itself(tmp_path, linear):
    """Two channels: one is always 0, the other reaches 10 once, in the last sample."""
    model = linear(np.ones((2, 3)))
    x = np.zeros((100, 2), np.float32)
    x[:, 0] = np.linspace(0, 1, 100)
    x[99, 0] = 10
    report = calibrate_to(str(model), "int8:percentile=98", {"x": x}, tmp_path / "c.lbcal").coverage
    assert report["samples"] == 100 and report["method"] == "percentile"
    entry, = report["observers"]
    assert entry["values"] == 200 and entry["max"] == 10 and entry["channels"] == 2 and entry["dead_channels"] == 1
    assert entry["half_samples"] == 50 and entry["widened_since_half"] == pytest.approx(1 - x[49, 0] / 10)
    assert entry["outermost_tenth"] == pytest.approx(1 / 200) and entry["zeros"] == pytest.approx(101 / 200)
    # 1 % of the values on either side; below there are only zeros.
    assert 0.9 < entry["chosen_max"] < 1.01 and entry["saturated"] <= 2 / 200


def test_coverage_of_other_data(tmp_path, linear):
    model = linear(np.ones((2, 3)))
    x = np.zeros((10, 2), np.float32)
    x[:, 0] = np.linspace(0, 1, 10)
    calibrate_to(str(model), "int8", {"x": x}, tmp_path / "c.lbcal")
    report = coverage_of(str(model), "int8", {"x": x}, tmp_path / "c.lbcal")
    entry, = report["observers"]
    assert report["same_data"] and entry["outside"] == entry["wider_by"] == entry["woken_channels"] == 0
    other = np.array([[0.5, 0], [2, 0], [0.25, -2], [0, 0.5]], np.float32)
    report = coverage_of(str(model), "int8", {"x": other}, tmp_path / "c.lbcal", batch=4)
    entry, = report["observers"]
    assert not report["same_data"] and (report["samples"], report["calibration_samples"]) == (4, 10)
    assert entry["outside"] == entry["saturated"] == 2 / 8 and entry["woken_channels"] == 1
    assert (entry["seen_min"], entry["seen_max"]) == (-2, 2) and entry["wider_by"] == pytest.approx(0.75)


def test_the_command(lowbit, tmp_path):
    out = tmp_path / "c.lbcal"
    done = lowbit("calibrate", CNN, "--recipe", "int8", "--data", f"{DATA}[:20]", "--batch", 8, "-o", out)
    assert done.returncode == 0 and "20 samples; ranges by " in done.stdout and "dead channels" in done.stdout
    done = lowbit("calibrate", CNN, "--recipe", "int8", "--data", f"{DATA}[:30]", "--resume", "--json", "-o", out)
    result = json.loads(done.stdout)
    assert result["samples"] == result["coverage"]["samples"] == 30 and result["coverage"]["observers"]
    done = lowbit("calibrate", CNN, "--recipe", "int8", "--coverage", out, "--data", f"{DATA}[30:40]", "--json")
    report = json.loads(done.stdout)
    assert report["calibration_samples"] == 30 and report["samples"] == 10 and not report["same_data"]
    assert lowbit("calibrate", CNN, "--recipe", "int8", "--coverage", out, "--data", f"{DATA}[:30]").returncode == 0
    done = lowbit("calibrate", CNN, "--recipe", "int8", "--merge", out, "-o", tmp_path / "d.lbcal")
    assert done.returncode == 0
    assert_same(out, tmp_path / "d.lbcal")
    for arguments in ([], ["-o", tmp_path / "e.lbcal"], ["--data", DATA], ["--coverage", out], ["--coverage", out, "--data", DATA, "--merge", out]):
        assert lowbit("calibrate", CNN, "--recipe", "int8", *arguments).returncode == 2
    assert lowbit("calibrate", CNN, "--recipe", "int8", "--data", DATA, "-o", out).returncode == 2
