# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Evaluations end to end in onnxruntime, against figures computed here directly."""
import json
import math

import numpy as np
import pytest

import lowbit
from conftest import MODELS
from lowbit import InvalidInput

pytest.importorskip("onnxruntime", reason="needs onnxruntime")


def outputs_of(path, **inputs):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def softmax(x):
    x = np.asarray(x, np.longdouble)
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_classify_matches_direct_figures(digits, coarse):
    data = np.load(MODELS / "digits_eval.npz")
    candidate = coarse(digits, 4)
    report = lowbit.evaluate(digits, [candidate], MODELS / "digits_eval.npz", task="classify")
    a, b = outputs_of(digits, image=data["image"]), outputs_of(candidate, image=data["image"])
    label, found = data["label"], report.data["candidates"][0]
    assert report.data["reference"]["task"]["value"] == (a.argmax(1) == label).mean()
    assert found["task"]["value"] == (b.argmax(1) == label).mean()
    kl = (softmax(a) * (np.log(softmax(a)) - np.log(softmax(b)))).sum(1).astype(np.float64)
    assert found["drift"]["kl"] == pytest.approx(kl.mean(), rel=1e-4)
    assert found["tail"]["kl"]["p99"] == pytest.approx(np.quantile(kl, 0.99), rel=1e-3)
    assert found["drift"]["top1_agreement"] == (a.argmax(1) == b.argmax(1)).mean()
    right, left = a.argmax(1) == label, b.argmax(1) == label
    assert found["flips"]["correct_to_wrong"] == (right & ~left).sum()
    assert found["flips"]["wrong_to_correct"] == (~right & left).sum()
    assert [w["index"] for w in found["worst"][:3]] == list(np.argsort(-kl)[:3])
    hard = found["slices"]["hard"]
    p = np.sort(np.log(softmax(a)), 1)
    order = np.argsort((p[:, -1] - p[:, -2]).astype(np.float64), kind="stable")[: hard["count"]]
    assert hard["count"] == 60 and hard["candidate"] == pytest.approx(left[order].mean())
    assert found["slices"]["class=3"]["count"] == (label == 3).sum()


def test_the_batch_size_changes_nothing(digits, coarse):
    runs = [lowbit.evaluate(digits, [coarse(digits, 5)], MODELS / "digits_eval.npz", task="classify", batch=batch).data for batch in (1, 50)]
    assert [run["protocol"].pop("batch") for run in runs] == [1, 50]
    for run in runs:
        assert run["candidates"][0]["flips"] == runs[0]["candidates"][0]["flips"]
        assert run["candidates"][0]["drift"]["kl"] == pytest.approx(runs[0]["candidates"][0]["drift"]["kl"], rel=1e-4)


def test_a_reproducible_report(digits, coarse):
    candidate = coarse(digits, 4)
    texts = [lowbit.evaluate(digits, [candidate], MODELS / "digits_eval.npz", task="classify", seed=3).to_json() for _ in range(2)]
    assert texts[0] == texts[1]


def test_the_same_model_is_ok_and_json_survives_infinity(digits):
    report = lowbit.evaluate(digits, [digits], MODELS / "digits_eval.npz", task="classify", gates=["drift.sqnr_db >= 100"])
    found = json.loads(report.to_json())["candidates"][0]
    assert found["verdict"]["value"] == "ok" and found["drift"]["sqnr_db"] == math.inf and found["drift"]["kl"] == 0
    assert report.data["passed"]
    report.check("drift.top1_agreement == 1")


def test_language_model_perplexity_and_cliff(llama, coarse):
    tokens = np.load(MODELS / "tiny_llama_eval.npz")["tokens"][:12]
    report = lowbit.evaluate(llama, [coarse(llama, 8), coarse(llama, 3)], {"tokens": tokens}, task="lm")
    losses = []
    for row in tokens:
        p = softmax(outputs_of(llama, input_ids=row[None])[0, :-1])
        losses.append(-np.log(p[np.arange(len(row) - 1), row[1:]]))
    assert report.data["reference"]["task"]["value"] == pytest.approx(float(np.exp(np.mean(losses))), rel=1e-6)
    assert report.data["protocol"]["units"] == 12 * 191
    fine, broken = report.data["candidates"]
    assert fine["verdict"]["value"] in ("ok", "drift")
    assert broken["verdict"]["value"] == "cliff" and broken["verdict"]["rule"].startswith("open")
    worst = broken["worst"][0]
    assert worst["context"] == tokens[worst["index"], max(1, worst["position"] - 8) : worst["position"]].tolist()
    assert worst["label"] == tokens[worst["index"], worst["position"]]


def test_windows_score_every_position_once(llama):
    tokens = np.load(MODELS / "tiny_llama_eval.npz")["tokens"][:4]
    report = lowbit.evaluate(llama, [llama], {"tokens": tokens}, task="lm", window=64, stride=32)
    assert report.data["protocol"]["units"] == 4 * 191 and report.data["candidates"][0]["drift"]["kl"] == 0


def test_regression(linear):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(5, 1))
    x = rng.normal(size=(300, 5)).astype(np.float32)
    y = (x @ weight + rng.normal(size=(300, 1)) * 0.1).astype(np.float32)
    model, worse = linear(weight, "good"), linear(weight * 1.2, "worse")
    report = lowbit.evaluate(model, [worse], {"x": x, "label": y}, task="regress")
    expected = math.sqrt(((x @ weight * 1.2 - y) ** 2).mean())
    assert report.data["candidates"][0]["task"]["value"] == pytest.approx(expected, rel=1e-5)
    assert report.data["candidates"][0]["verdict"]["value"] == "cliff"
    assert report.data["candidates"][0]["drift"]["sqnr_db"] == pytest.approx(10 * math.log10(1 / 0.04), abs=1e-3)


def test_drift_needs_no_labels(linear):
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(5, 4)), rng.normal(size=(200, 5)).astype(np.float32)
    report = lowbit.evaluate(linear(weight, "a"), [linear(weight + 1e-4, "b")], {"x": x}, task="drift")
    assert report.data["candidates"][0]["verdict"]["value"] == "ok" and report.data["reference"]["task"] is None


def test_a_hidden_cliff_in_a_slice(linear):
    """One class of 25 collapses: four points of accuracy, below the limit for the mean."""
    classes = 25
    label = np.arange(2000) % classes
    x = np.eye(classes, dtype=np.float32)[label]
    broken = np.eye(classes)
    broken[0] = np.roll(broken[0], 1)
    report = lowbit.evaluate(linear(np.eye(classes), "good"), [linear(broken, "broken")], {"x": x, "label": label}, task="classify")
    found = report.data["candidates"][0]
    assert found["task"]["change"]["value"] == pytest.approx(-0.04)
    assert found["verdict"]["value"] == "cliff" and found["verdict"]["rule"].startswith("hidden")
    assert "slice class=0" in found["verdict"]["where"]


def test_slices_of_the_data(linear):
    label = np.arange(400) % 4
    x = np.eye(4, dtype=np.float32)[label]
    data = {"x": x, "label": label, "slice:light": np.where(label < 2, "day", "night")}
    report = lowbit.evaluate(linear(np.eye(4), "a"), [linear(np.diag([1, 1, 1, -1.0]), "b")], data, task="classify")
    slices = report.data["candidates"][0]["slices"]
    assert slices["light=day"]["change"] == 0 and slices["light=night"]["change"] == -0.5
    assert slices["light=night"]["count"] == 200


def test_nan_outputs_are_a_cliff_and_fail_gates(linear):
    x = np.eye(4, dtype=np.float32)[np.arange(200) % 4]
    broken = linear(np.eye(4), "broken", bias=np.array([0, 0, np.nan, 0]))
    report = lowbit.evaluate(linear(np.eye(4), "good"), [broken], {"x": x, "label": np.arange(200) % 4}, task="classify", gates=["drift.kl < 1e9"])
    assert report.data["candidates"][0]["verdict"]["rule"].startswith("open: the candidate's output holds NaN")
    assert report.data["passed"] is False
    assert json.loads(report.to_json())["candidates"][0]["drift"]["kl"] is None
    with pytest.raises(InvalidInput, match="the reference's output 'y' holds NaN"):
        lowbit.evaluate(broken, [broken], {"x": x, "label": np.arange(200) % 4}, task="classify")


def test_too_little_data_is_inconclusive(digits):
    data = np.load(MODELS / "digits_eval.npz")
    few = {"image": data["image"][:40], "label": data["label"][:40]}
    assert lowbit.evaluate(digits, [digits], few, task="classify").data["candidates"][0]["verdict"]["value"] == "inconclusive"
    gate = "drift.top1_agreement >= 0.999"
    found = lowbit.evaluate(digits, [digits], MODELS / "digits_eval.npz", task="classify", gates=[gate]).data
    assert found["candidates"][0]["verdict"]["value"] == "inconclusive" and gate in found["candidates"][0]["verdict"]["where"]
    found = lowbit.evaluate(digits, [digits], MODELS / "digits_eval.npz", task="classify", gates=["task.change.value >= -0.002"]).data
    assert found["candidates"][0]["verdict"]["value"] == "inconclusive"


def test_a_reference_at_chance_is_an_error(digits, llama, linear):
    data = np.load(MODELS / "digits_eval.npz")
    with pytest.raises(InvalidInput, match="chance level"):
        lowbit.evaluate(digits, [digits], {"image": data["image"], "label": np.roll(data["label"], 1)}, task="classify")
    noise = np.random.default_rng(0).integers(128, 256, (4, 100))
    with pytest.raises(InvalidInput, match="chance level"):
        lowbit.evaluate(llama, [llama], {"tokens": noise}, task="lm")
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    with pytest.raises(InvalidInput, match="chance level"):
        model = linear(np.ones((2, 1)), "m")
        lowbit.evaluate(model, [model], {"x": x, "label": -x.sum(1, keepdims=True)}, task="regress")


def test_outputs_that_are_probabilities(linear, tmp_path):
    import onnx
    from onnx import helper

    def with_softmax(path):
        model = onnx.load(path)
        model.graph.node[0].output[0] = "z"
        model.graph.node.append(helper.make_node("Softmax", ["z"], ["y"], axis=1))
        onnx.save(model, path)
        return path

    rng = np.random.default_rng(0)
    weight = np.eye(4) * 3
    x = (np.eye(4)[np.arange(300) % 4] + rng.normal(size=(300, 4)) * 0.2).astype(np.float32)
    data = {"x": x, "label": np.arange(300) % 4}
    logits = lowbit.evaluate(linear(weight, "a"), [linear(weight * 1.1, "b")], data, task="classify").data
    softmaxed = lowbit.evaluate(with_softmax(linear(weight, "c")), [with_softmax(linear(weight * 1.1, "d"))], data, task="classify").data
    assert logits["protocol"]["output_is"] == "logits" and softmaxed["protocol"]["output_is"] == "probabilities"
    assert softmaxed["candidates"][0]["drift"]["kl"] == pytest.approx(logits["candidates"][0]["drift"]["kl"], rel=1e-3)


def test_embeddings_by_scored_pairs(linear):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 6)).astype(np.float32)
    pairs = rng.integers(0, 120, (200, 2))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    score = np.round((unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1) * 5)  # with ties
    damaged = np.eye(6)
    damaged[:, :3] = 0
    data = {"x": x, "pairs": pairs, "score": score}
    found = lowbit.evaluate(linear(np.eye(6), "a"), [linear(np.eye(6) * 3, "b"), linear(damaged, "c")], data, task="embed").data
    scipy = pytest.importorskip("scipy.stats", reason="needs scipy to compare with")
    similarity = (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1)
    assert found["reference"]["task"]["value"] == pytest.approx(scipy.spearmanr(similarity, score).statistic, rel=1e-6)
    scaled, broken = found["candidates"]
    assert scaled["verdict"]["value"] == "ok" and scaled["task"]["change"]["value"] == pytest.approx(0, abs=1e-6)
    assert broken["verdict"]["value"] == "cliff" and "Spearman" in broken["verdict"]["rule"]
    with pytest.raises(InvalidInput, match="chance level"):
        lowbit.evaluate(linear(np.eye(6), "a"), [linear(np.eye(6), "b")], {**data, "score": -score}, task="embed")
    with pytest.raises(InvalidInput, match="name samples 0 … 119"):
        lowbit.evaluate(linear(np.eye(6), "a"), [linear(np.eye(6), "b")], {**data, "pairs": pairs + 1}, task="embed")
    alone = lowbit.evaluate(linear(np.eye(6), "a"), [linear(damaged, "c")], {"x": x}, task="embed").data
    assert alone["reference"]["task"] is None and alone["candidates"][0]["verdict"]["value"] == "cliff"


def test_a_function_as_the_task(linear, tmp_path):
    path = tmp_path / "task.py"
    path.write_text("def error(outputs, sample):\n    return {'error': float(abs(outputs['y'] - sample['label']).sum()), 'one': 1}\n"
                    "def fails(outputs, sample):\n    raise KeyError('box')\n")
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    data = {"x": x, "label": x.sum(1)}
    found = lowbit.evaluate(linear(np.ones((2, 1)), "a"), [linear(np.ones((2, 1)) * 2, "b")], data, task=f"{path}:error").data
    assert found["candidates"][0]["task"]["value"] == pytest.approx(np.abs(x.sum(1)).mean(), rel=1e-5)
    assert found["candidates"][0]["task"]["values"]["one"] == 1
    with pytest.raises(InvalidInput, match="raised KeyError on sample 0"):
        lowbit.evaluate(linear(np.ones((2, 1)), "a"), [linear(np.ones((2, 1)), "b")], data, task=f"{path}:fails")


def test_reduce_replaces_the_mean(linear, tmp_path):
    path = tmp_path / "task.py"
    path.write_text("def total(outputs, sample):\n    return float(outputs['y'].sum())\ndef reduce(results):\n    return max(results)\n")
    x = np.arange(6, dtype=np.float32).reshape(6, 1)
    found = lowbit.evaluate(linear(np.ones((1, 1)), "a"), [linear(np.ones((1, 1)), "b")], {"x": x}, task=f"{path}:total").data
    assert found["reference"]["task"] == {"metric": "total", "value": 5.0, "ci95": None, "values": {"total": 5.0}}


@pytest.mark.parametrize("change, message", [
    ({"task": "clasify"}, "did you mean 'classify'"), ({"output": "logitz"}, "did you mean 'logits'"), ({"label_key": "lable"}, "did you mean 'label'"),
    ({"gates": ["drift.kl"]}, "expected PATH OPERATOR NUMBER"), ({"stride": 3}, "stride 3 must be"), ({"task": "lm"}, "needs 'tokens'"),
])
def test_bad_options(digits, change, message):
    with pytest.raises(InvalidInput, match=message):
        lowbit.evaluate(digits, [digits], MODELS / "digits_eval.npz", **{"task": "classify", **change})


def test_models_that_do_not_belong_together(linear, digits):
    x = {"x": np.zeros((3, 2), np.float32), "label": np.zeros(3, np.int64)}
    with pytest.raises(InvalidInput, match="no input 'x'"):
        lowbit.evaluate(linear(np.ones((2, 1)), "a"), [digits], x, task="drift")
    with pytest.raises(InvalidInput, match="shape"):
        lowbit.evaluate(linear(np.ones((2, 1)), "a"), [linear(np.ones((2, 3)), "b")], x, task="drift")
    with pytest.raises(InvalidInput, match="class 7 is outside"):
        model = linear(np.ones((2, 3)), "b")
        lowbit.evaluate(model, [model], {**x, "label": np.array([0, 7, 0])}, task="classify")
