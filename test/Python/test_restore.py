# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Per-layer sensitivity, error budgets and `lowbit restore`."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, SHARED, needs_shared, require_compiler

require_compiler()

import lowbit as package
from lowbit.data import open_data
from lowbit.errors import InvalidInput
from lowbit.eval import SCHEMA_FILE
from lowbit.eval.error_budget import error_budget
from lowbit.eval.sensitivity import Probe, sensitivity
from lowbit.feeds import Feeder
from lowbit.recipe_text import KEEP_FLOAT, RecipeText, pattern
from lowbit.restore import Move, Trial, find, moves_of, recipe_path, restore
from lowbit.signature import Value
from lowbit.split import split
from lowbit.subjects import open_subject
from lowbit.variants import Layer, Variants

CALIBRATION, DATA = MODELS / "digits_calib.npz", MODELS / "digits_eval.npz"
BAD = "block2/depthwise/conv"  # not the largest, nor the first, nor the last


def write_recipe(path: Path, layer: str, weights: str, *, base: str = "int8", activations: str = "{type: u8}") -> Path:
    path.write_text(f"lowbit: 1\nbase: {base}\nrules:\n  - match: {{name: \"{layer}\"}}\n    weights: {weights}\n    activations: {activations}\n")
    return path


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    """The bundled CNN in int8 with one layer of 3 bits per tensor."""
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    folder = tmp_path_factory.mktemp("broken")
    recipe = write_recipe(folder / "broken.yaml", BAD, "{type: i3, per: tensor}")
    package.compile(str(MODELS / "digits_cnn.onnx"), recipe=str(recipe), calibration_data=str(CALIBRATION), output=folder / "broken.lowbit").close()
    return folder / "broken.lowbit"


# Recipes in their canonical text -----------------------------------------------------------------

TEXT = """lowbit: 1
transforms: [fold-bn]
calibration: {method: mse}
rules:
  - match: {name: ["a*"]}
    weights: {type: i4, per: tensor, symmetric: true, algorithm: rtn}
    activations: {type: u8, symmetric: false, dynamic: token}
  - match: {op: ["Gather"]}
    keep: float
    optional: true
"""


def test_recipe_text():
    recipe = RecipeText.parse(TEXT)
    assert recipe.head == TEXT[: TEXT.index("rules:")] and len(recipe.rules) == 2
    assert recipe.at(5) == recipe.at(7) == recipe.rules[0] and recipe.at(8) == recipe.rules[1]
    edited = recipe.with_rules([(["x", "y"], KEEP_FLOAT)])
    assert RecipeText.parse(edited).rules[0] == '  - match: {name: ["x", "y"]}\n    keep: float\n'
    assert edited.count("optional: true") == 2  # a rule whose layers were all taken is no error
    assert RecipeText.parse(recipe.with_rules([])).rules[1] == recipe.rules[1]
    smooth = RecipeText.parse(TEXT.replace("[fold-bn]", "[fold-bn, {smooth: {alpha: 0.5}}, {bias-correction: {method: analytic}}, equalize]"))
    assert "transforms: [fold-bn, {bias-correction: {method: analytic}}, equalize]\n" in smooth.without("smooth").head
    assert "transforms: [fold-bn, {smooth: {alpha: 0.5}}, equalize]\n" in smooth.without("bias-correction").head and smooth.without("awq") == smooth
    for damaged in ("", "rules: []\n", "lowbit: 1\n", TEXT.replace("    keep", "keep")):
        with pytest.raises(InvalidInput, match="recipe.yaml"):
            RecipeText.parse(damaged)


def test_patterns_match_one_name():
    assert pattern("layers/0/q.proj/MatMul") == "layers/0/q.proj/MatMul"
    assert pattern("a*b(1)") == r"re:a\*b\(1\)"
    assert pattern("re:x") == "re:re:x"


# Halves ------------------------------------------------------------------------------------------

INPUT = [Value("x", "f32", (-1, 2), ("N", ""))]


def rows(half) -> set[bytes]:
    return {row.tobytes() for row in half.data.stacked["x"]}


def test_halves_are_disjoint_and_balanced():
    x = np.random.default_rng(0).standard_normal((101, 2)).astype(np.float32)
    x[50:60] = x[:10]  # equal samples stay together, whatever their labels
    data = {"x": x, "label": np.arange(101)}
    first, second = split(open_data(data), INPUT)
    assert not rows(first) & rows(second)
    assert sorted([*first.indices, *second.indices]) == list(range(101)) and abs(first.samples - second.samples) <= 5
    assert (first.data.stacked["label"] == first.indices).all() and (first.data.stacked["x"] == x[first.indices]).all()
    order = np.random.default_rng(1).permutation(101)
    again, _ = split(open_data({"x": x[order], "label": order}), INPUT)
    assert rows(again) == rows(first)
    assert rows(split(open_data(data), INPUT, seed=1)[0]) != rows(first)


def test_halves_of_records_and_ranges(tmp_path):
    x = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
    first, second = split(open_data([{"x": row[None]} for row in x]), INPUT)
    assert first.samples + second.samples == 20 and abs(first.samples - second.samples) <= 1
    assert [record["x"].tolist() for _, record in first.data.records()] == [x[i : i + 1].tolist() for i in first.indices]
    np.savez(tmp_path / "d.npz", x=x)
    parts = split(open_data(f"{tmp_path / 'd.npz'}[5:15]"), INPUT, step=2)
    assert all(half.samples % 2 == 0 and half.indices.min() >= 5 and half.indices.max() < 15 for half in parts)
    with pytest.raises(InvalidInput, match="at least two different"):
        split(open_data({"x": np.zeros((4, 2), np.float32)}), INPUT)
    drawn = first.resampled(np.random.default_rng(0))
    assert drawn.count == first.samples and {r["x"].tobytes() for _, r in drawn.records()} <= {r["x"].tobytes() for _, r in first.data.records()}


def test_pairs_stay_together():
    x = np.random.default_rng(0).standard_normal((40, 2)).astype(np.float32)
    pairs = np.arange(40).reshape(20, 2)
    first, second = split(open_data({"x": x, "pairs": pairs, "score": np.arange(20.0)}), INPUT)
    assert len(first.data.stacked["score"]) + len(second.data.stacked["score"]) == 20
    for half in (first, second):
        arrays = half.data.stacked
        for (a, b), score in zip(arrays["pairs"], arrays["score"]):
            assert (arrays["x"][a] == x[2 * int(score)]).all() and (arrays["x"][b] == x[2 * int(score) + 1]).all()


# The search --------------------------------------------------------------------------------------

class Sums:
    """A search in which the gate holds where the drift of the layers that are not raised is small enough."""

    def __init__(self, drifts: list[float], sizes: list[int], limit: float) -> None:
        layers = [Layer(f"l{i}", "MatMul", "i4", "tensor", "", "float", size // 2, 4 * size) for i, size in enumerate(sizes)]
        self.variants = type("Variants", (), {"layers": layers})
        self.entries = [{"layer": layer.name, "alone": drift} for layer, drift in zip(layers, drifts)]
        self.limit, self.tried = limit, 0

    def trial(self, moves: list[Move]) -> Trial:
        self.tried += 1
        raised = {move.layer.name: move.level for move in moves}
        left = sum(entry["alone"] * {"int8": 0.01, "fp16": 0.0}.get(raised.get(entry["layer"], ""), 1.0) for entry in self.entries)
        return Trial(tuple(moves), left <= self.limit, {})

    from lowbit.restore import Search
    shortest, pruned = Search.shortest, Search.pruned


def test_search_raises_the_fewest():
    found, _ = find(Sums([1, 9, 2, 8, 1, 1], [100] * 6, 5.5), [{"layer": f"l{i}", "alone": d} for i, d in enumerate([1, 9, 2, 8, 1, 1])], ("int8", "fp16"))
    assert set(found.raised) == {"l1", "l3"} and found.holds
    # Per byte l0 comes first, by drift l1, which is enough.
    search = Sums([2, 9, 0.1], [10, 1000, 10], 2.5)
    found, order = find(search, search.entries, ("int8", "fp16"))
    assert set(found.raised) == {"l1"} and found.holds
    search = Sums([3] * 30, [100] * 30, 0.5)  # int8 leaves 0.9: some go to fp16
    found, _ = find(search, search.entries, ("int8", "fp16"))
    assert found.holds and len(found.raised) == 30 and sum(m.level == "fp16" for m in found.raised.values()) == 14 and search.tried < 40
    search = Sums([3] * 30, [100] * 30, 0.5)
    assert not find(search, search.entries, ("int8",))[0].holds
    search = Sums([3], [100], 10)
    assert find(search, search.entries, ("int8",))[0].raised == {}


def test_levels():
    def levels(weights, per, op="MatMul"):
        return [move.level for move in moves_of(Layer("l", op, weights, per, "", "{type: u8}", 100, 400), ("int8", "fp16"))]
    assert levels("i4", "tensor") == ["int8", "fp16"] and levels("i8", "tensor") == ["int8", "fp16"] and levels("i8", "channel") == ["fp16"]
    assert "activations: float" in moves_of(Layer("l", "Gather", "u4", "group", "", "float", 100, 400), ("int8",))[0].scheme


# On the bundled model ----------------------------------------------------------------------------

def probe_of(model: Path, data: object, samples: int = 0) -> Probe:
    subject = open_subject(str(model))
    return Probe.make(subject, Feeder(open_data(data), subject.inputs, subject.outputs, batch=32), samples, "logits", "kl")


def test_bad_layer_is_found_by_name(broken, tmp_path):
    variants = Variants(package.Bundle(broken), str(MODELS / "digits_cnn.onnx"), tmp_path, data=str(CALIBRATION))
    variants.calibrate()
    probe = probe_of(MODELS / "digits_cnn.onnx", f"{DATA}[:96]")
    table = sensitivity(variants, probe)
    layers = table["layers"]
    assert len(layers) == 10 and layers[0]["layer"] == BAD and layers[0]["weights"] == "i3"
    assert layers[0]["alone"] > 3 * layers[1]["alone"] and layers[0]["restore_gain"] == max(entry["restore_gain"] for entry in layers)
    assert sum(entry["alone_share"] for entry in layers) == pytest.approx(1)
    # `whole` is what an evaluation reports.
    report = package.evaluate(str(MODELS / "digits_cnn.onnx"), [str(broken)], f"{DATA}[:96]", task="classify")
    assert table["whole"] == pytest.approx(report.data["candidates"][0]["drift"]["kl"], rel=1e-6)

    pytest.importorskip("onnx", reason="needs onnx")
    other = layers[1]["layer"]
    entries = {entry["layer"]: entry for entry in error_budget(variants, probe, [BAD, other], tmp_path)["layers"]}
    assert entries[BAD]["largest"] == "weight_rounding" and entries[BAD]["together_db"] == pytest.approx(entries[BAD]["weight_rounding_db"], abs=1)
    for entry in entries.values():
        assert entry["kernel_db"] < entry["together_db"] - 20 and entry["kernel_db"] < -60


def test_restore_raises_that_layer_alone(lowbit, broken, tmp_path):
    out = tmp_path / "fixed.lowbit"
    arguments = ["restore", broken, "--model", MODELS / "digits_cnn.onnx", "--calibration-data", CALIBRATION, "--data", DATA, "--task", "classify", "-o", out]
    done = lowbit(*arguments, "--gate", "drift.kl < 0.003", "--gate", "verdict.value != cliff", "--price-per-hour", 2, "--json", "--resamples", 2)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [entry["layer"] for entry in report["raised"]] == [BAD] and report["raised"][0]["to"] == "int8"
    assert all(gate["holds_on_choosing"] and gate["holds_on_held"] for gate in report["gates"]) and report["gates"][0]["before"] > 0.003
    assert report["bytes"]["weights_before"] < report["bytes"]["weights_after"] < report["bytes"]["weights_fp16"]
    assert report["throughput"]["cost_per_1000"] == pytest.approx(2 / 3600 * 1000 / report["throughput"]["after"]["units_per_second"])
    assert "int8 for 1 of 10 layers" in report["recommendation"]
    protocol = report["protocol"]
    assert protocol["choosing_samples"] + protocol["held_samples"] == len(np.load(DATA)["label"])
    # What was written is a bundle that any evaluation accepts, and its recipe compiles to the same.
    manifest = json.loads((out / "manifest.json").read_text())
    layer = next(entry for entry in manifest["layers"] if entry["name"] == BAD)
    assert layer["weights"] == "i8" and layer["per"] == "channel" and layer["activations"] == "u8"
    again = tmp_path / "again.lowbit"
    assert lowbit("compile", MODELS / "digits_cnn.onnx", "--recipe", recipe_path(out), "--data", CALIBRATION, "-o", again, "-q").returncode == 0
    assert (again / "weights.safetensors").read_bytes() == (out / "weights.safetensors").read_bytes()
    assert lowbit(*arguments, "--gate", "drift.kl < 0.003").returncode == 2  # the output exists


def test_restore_that_cannot(lowbit, broken, tmp_path):
    arguments = ["restore", broken, "--model", MODELS / "digits_cnn.onnx", "--calibration-data", CALIBRATION, "--data", f"{DATA}[:120]", "--task", "classify",
                 "-o", tmp_path / "fixed.lowbit", "--sensitivity", 32]
    done = lowbit(*arguments, "--gate", "drift.kl < 1e-9", "--resamples", 0)
    assert done.returncode == 1 and "nothing was written" in done.stderr and "drift.kl < 1e-9: " in done.stderr
    assert not list(tmp_path.glob("fixed*"))
    done = lowbit("restore", broken, "--model", MODELS / "tiny_llama.onnx", *arguments[4:], "--gate", "drift.kl < 1")
    assert done.returncode == 2 and "compiled from another model" in done.stderr
    done = lowbit(*arguments)
    assert done.returncode == 2 and "name at least one gate" in done.stderr
    done = lowbit(*[a for a in arguments if a not in ("--calibration-data", CALIBRATION)], "--gate", "drift.kl < 1")
    assert done.returncode == 2 and "--calibration-data" in done.stderr
    done = lowbit(*arguments, "--gate", "drift.kll < 1")
    assert done.returncode == 2 and "drift.kl" in done.stderr
    done = lowbit(*arguments, "--gate", "drift.kl < 1", "--levels", "int9")
    assert done.returncode == 2 and "int9" in done.stderr


def test_reround_keeps_width_and_bytes(broken, tmp_path):
    variants = Variants(package.Bundle(broken), str(MODELS / "digits_cnn.onnx"), tmp_path, data=str(CALIBRATION))
    variants.calibrate()
    assert variants.reround("mse") == 1
    with variants.compile({}) as bundle:
        layers = [{entry["name"]: entry for entry in b.manifest["layers"]}[BAD] for b in (variants.bundle, bundle)]
    assert [layer["algorithm"] for layer in layers] == ["rtn", "mse"] and layers[1]["error"] < layers[0]["error"]
    assert all(layers[0][key] == layers[1][key] for key in ("weights", "per", "bytes", "activations"))
    with pytest.raises(InvalidInput, match="--calibration-data"):
        Variants(package.Bundle(broken), str(MODELS / "digits_cnn.onnx"), tmp_path).reround("gptq")


def test_eval_reports_layers(lowbit, broken, tmp_path):
    done = lowbit("eval", "--reference", MODELS / "digits_cnn.onnx", "--candidate", broken, "--data", f"{DATA}[:160]", "--task", "classify",
                  "--calibration-data", CALIBRATION, "--sensitivity", 32, "--error-budget", 1, "-o", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["candidates"][0]["error_budget"]["layers"][0]["layer"] == BAD
    pytest.importorskip("jsonschema", reason="needs jsonschema").validate(data, json.loads(SCHEMA_FILE.read_text()))
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines[next(i for i, line in enumerate(lines) if line.startswith("layer ")) + 1].startswith(BAD)
    done = lowbit("eval", "--reference", MODELS / "digits_cnn.onnx", "--candidate", MODELS / "digits_cnn.onnx", "--data", f"{DATA}[:160]", "--task", "classify", "--sensitivity", 8)
    assert done.returncode == 2 and "candidate that is a bundle" in done.stderr


# On the shared models ----------------------------------------------------------------------------

@needs_shared
def test_resnet20_layer(tmp_path):
    model, data = SHARED / "models" / "resnet20_cifar10.onnx", SHARED / "data" / "cifar10_eval.npz"
    calibration = str(SHARED / "data" / "cifar10_calib.npz")
    bad = "node_Conv_388"
    recipe = write_recipe(tmp_path / "r.yaml", bad, "{type: i4, per: tensor}")
    bundle = package.compile(str(model), recipe=str(recipe), calibration_data=calibration, output=tmp_path / "bad.lowbit")
    report = restore(bundle, str(model), str(data), ["drift.kl < 0.004"], out=tmp_path / "good.lowbit", calibration_data=calibration)
    assert report["sensitivity"]["layers"][0]["layer"] == bad
    assert report["passed"] and [entry["layer"] for entry in report["raised"]] == [bad]
