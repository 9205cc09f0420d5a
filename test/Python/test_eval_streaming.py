# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Evaluations of many samples in bounded memory: figures against numpy, checkpoints, batches, guards."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lowbit
from conftest import MODELS, ROOT
from lowbit import InvalidInput
from lowbit.eval import SCHEMA_FILE

pytest.importorskip("onnxruntime", reason="needs onnxruntime")

CLASSES = 10
WEIGHT = np.random.default_rng(5).normal(size=(8, CLASSES)).astype(np.float32)


def batches(count, size=5000, damage=0.05):
    """A function as --data takes it: `count` samples of eight features, labels as the weights say with some noise."""
    def read():
        for begin in range(0, count, size):
            rng = np.random.default_rng(begin)
            x = rng.normal(size=(min(size, count - begin), 8)).astype(np.float32)
            noisy = x @ WEIGHT + rng.normal(size=(len(x), CLASSES))
            yield {"x": x, "label": noisy.argmax(1), "slice:sign": (x[:, 0] > 0).astype(np.int64)}
    return read


def logits(inputs):
    return {"y": inputs["x"] @ WEIGHT}


def damaged(inputs):
    y = inputs["x"] @ WEIGHT
    return {"y": y + 0.05 * np.sin(40 * y)}


def test_a_million_samples_agree_with_numpy(linear):
    """KL within 1e-9, percentiles within 1e-3, of everything held in memory and computed in float64."""
    count = 1_000_000  # in 50 feeds
    found = lowbit.evaluate(linear(WEIGHT), [damaged], batches(count, 20_000), task="classify").data["candidates"][0]
    kls, same, right = [], 0, 0
    for record in batches(count, 20_000)():
        a, b = (logits(record)["y"].astype(np.float64), damaged(record)["y"].astype(np.float64))
        la, lb = (y - np.log(np.exp(y).sum(1, keepdims=True)) for y in (a, b))
        kls.append((np.exp(la) * (la - lb)).sum(1))
        same += (a.argmax(1) == b.argmax(1)).sum()
        right += (b.argmax(1) == record["label"]).sum()
    kl = np.concatenate(kls)
    assert found["drift"]["kl"] == pytest.approx(kl.mean(), rel=2e-6)  # onnxruntime's float32 product is not numpy's
    for key, level in {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}.items():
        assert found["tail"]["kl"][key] == pytest.approx(np.quantile(kl, level), rel=1e-3)
    assert found["tail"]["kl"]["cvar1"] == pytest.approx(np.sort(kl)[-10_000:].mean(), rel=1e-3)
    assert abs(found["drift"]["top1_agreement"] - same / count) < 1e-5 and abs(found["task"]["value"] - right / count) < 1e-5
    assert found["slices"]["sign=0"]["count"] + found["slices"]["sign=1"]["count"] == count
    assert found["slices"]["hard"]["count"] == pytest.approx(count / 10, rel=0.02)
    assert found["slices"]["easy"]["count"] == pytest.approx(count / 2, rel=0.02)


def test_sums_agree_with_numpy_to_nine_digits():
    """The same without a model's rounding: both are functions."""
    from lowbit.eval.metrics import kl_divergence, log_softmax
    from lowbit.eval.sketch import Distribution

    rng, seen, kls = np.random.default_rng(0), Distribution(), []
    for _ in range(100):
        a = rng.normal(size=(10_000, CLASSES)) * 3
        b = a + rng.normal(size=a.shape) * 0.01
        seen.add(kl_divergence(log_softmax(a), log_softmax(b)))
        pa, pb = (np.exp(y.astype(np.longdouble)) for y in (a, b))
        pa, pb = pa / pa.sum(1, keepdims=True), pb / pb.sum(1, keepdims=True)
        kls.append((pa * np.log(pa / pb)).sum(1).astype(np.float64))
    assert seen.mean == pytest.approx(np.concatenate(kls).mean(), rel=1e-9)


MEMORY = """
import sys, lowbit
from lowbit.memory import _resident
sys.path.insert(0, {tests!r})
from test_eval_streaming import batches, damaged
lowbit.evaluate({model!r}, [damaged], batches(1000, 1000), task="classify")
for count in (1000, {count}):
    lowbit.evaluate({model!r}, [damaged], batches(count, 1000), task="classify")
    print(_resident("VmRSS") / 1e6, _resident("VmHWM") / 1e6)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("count", [1_000_000])
def test_memory_does_not_grow_with_the_samples(linear, count):
    script = MEMORY.format(tests=str(Path(__file__).parent), model=str(linear(WEIGHT)), count=count)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    (few, high), (many, highest) = (map(float, line.split()) for line in done.stdout.splitlines())
    assert abs(many - few) < 20 and highest - high < 20, done.stdout


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, digits, coarse):
    """Killed without warning after a checkpoint, and again; lm and classify state alike."""
    candidate = coarse(digits, 4)
    (tmp_path / "slow.py").write_text(f"""
import time, numpy as np, lowbit.eval.run
lowbit.eval.run.CHECKPOINT_SECONDS = 0.0
data = np.load({str(MODELS / 'digits_eval.npz')!r})
def read():
    for i in range(0, 600, 20):
        time.sleep(0.05)
        yield {{"image": data["image"][i:i + 20], "label": data["label"][i:i + 20]}}
""")
    command = [sys.executable, "-m", "lowbit", "eval", "--reference", digits, "--candidate", candidate, "--data", f"{tmp_path / 'slow.py'}:read", "--task", "classify", "-q"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")])}
    whole = subprocess.run([*command, "--json"], capture_output=True, text=True, env=environment, check=True).stdout
    part = tmp_path / "r.json.part"
    for _ in range(2):
        running = subprocess.Popen([*command, "-o", tmp_path / "r.json", "--resume"], env=environment)
        before = part.stat().st_mtime_ns if part.exists() else 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (part.exists() and part.stat().st_mtime_ns > before) and running.poll() is None:
            time.sleep(0.01)
        time.sleep(0.1)
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert part.exists() and not (tmp_path / "r.json").exists()
    subprocess.run([*command, "-o", tmp_path / "r.json", "--resume"], env=environment, check=True, capture_output=True)
    assert (tmp_path / "r.json").read_text() == whole
    assert not part.exists()


def interrupted(part, reference, candidates, data, after, **options):
    """Stops a run after so many progress reports, leaving its checkpoint; then goes on."""
    calls = 0

    def stop(done, total):
        nonlocal calls
        calls += 1
        if calls == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lowbit.evaluate(reference, candidates, data, checkpoint=part, progress=stop, **options)
    assert part.exists()
    return lowbit.evaluate(reference, candidates, data, checkpoint=part, resume=True, **options)


def test_interrupted_runs_of_other_tasks(tmp_path, llama, coarse, linear):
    tokens = np.load(MODELS / "tiny_llama_eval.npz")["tokens"][:8]
    part = tmp_path / "part"
    options = dict(task="lm", window=64, stride=32)
    whole = lowbit.evaluate(llama, [coarse(llama, 4)], {"tokens": tokens}, **options)
    assert interrupted(part, llama, [coarse(llama, 4)], {"tokens": tokens}, 11, **options).to_json() == whole.to_json()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 5)).astype(np.float32)
    weight = rng.normal(size=(5, 1))
    data = {"x": x, "label": (x @ weight + 0.1 * rng.normal(size=(3000, 1))).astype(np.float32)}
    for metric in ("rmse", "spearman"):
        models = linear(weight, "a"), [linear(weight * 1.01, "b")]
        whole = lowbit.evaluate(*models, data, task="regress", metric=metric, batch=100)
        assert interrupted(part, *models, data, 25, task="regress", metric=metric, batch=100).to_json() == whole.to_json()


def test_checkpoints_of_something_else_are_refused(tmp_path, linear):
    part = tmp_path / "part"
    data = {"x": np.eye(4, dtype=np.float32)[np.arange(400) % 4], "label": np.arange(400) % 4}
    models = linear(np.eye(4), "a"), [linear(np.eye(4), "b")]

    def leave():
        with pytest.raises(KeyboardInterrupt):
            lowbit.evaluate(*models, data, task="classify", checkpoint=part, progress=raising)

    def raising(done, total):
        raise KeyboardInterrupt

    leave()
    with pytest.raises(InvalidInput, match="its batch differs"):
        lowbit.evaluate(*models, data, task="classify", batch=16, checkpoint=part, resume=True)
    with pytest.raises(InvalidInput, match="its models differs"):
        lowbit.evaluate(models[0], [linear(np.eye(4) * 2, "c")], data, task="classify", checkpoint=part, resume=True)
    with pytest.raises(InvalidInput, match="other data"):
        lowbit.evaluate(*models, {**data, "x": data["x"] * 2}, task="classify", checkpoint=part, resume=True)
    part.write_bytes(b"no zip")
    with pytest.raises(InvalidInput, match="not a checkpoint"):
        lowbit.evaluate(*models, data, task="classify", checkpoint=part, resume=True)
    with pytest.raises(InvalidInput, match="nothing to resume"):
        lowbit.evaluate(*models, data, task="classify", resume=True)


def test_a_rare_class_that_collapses_is_a_cliff(linear):
    """One percent of the samples, whose accuracy halves; the mean moves by less than half a point."""
    classes, count = 20, 10_000
    rng = np.random.default_rng(0)
    label = rng.integers(1, classes, count)
    label[rng.choice(count, count // 100, replace=False)] = 0
    x = np.eye(classes, dtype=np.float32)[label]
    x[label == 0] *= rng.random((int((label == 0).sum()), 1), np.float32)  # weak ones
    bias = np.zeros(classes)
    bias[0] = -0.45
    models = linear(np.eye(classes), "good"), [linear(np.eye(classes), "broken", bias=bias)]
    found = lowbit.evaluate(*models, {"x": x, "label": label}, task="classify").data["candidates"][0]
    assert -0.005 < found["task"]["change"]["value"] < -0.003
    assert found["verdict"]["value"] == "cliff" and found["verdict"]["where"].startswith("slice class=0")


def test_a_collapse_from_some_position_on(llama):
    """The first half of a context survives, the second does not; the mean passes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(llama), providers=["CPUExecutionProvider"])

    def forgetful(inputs):
        result = session.run(None, dict(inputs))[0].copy()
        result[:, 150:] *= 0.45
        return {session.get_outputs()[0].name: result}

    tokens = np.load(MODELS / "tiny_llama_eval.npz")["tokens"][:24]
    found = lowbit.evaluate(llama, [forgetful], {"tokens": tokens}, task="lm").data["candidates"][0]
    assert found["verdict"]["value"] == "cliff" and found["drift"]["perplexity_ratio"] < 1.5
    assert "position" in found["verdict"]["where"]
    slices = found["slices"]
    assert slices["position=128-255"]["candidate"] > 1.2 * slices["position=128-255"]["reference"]
    assert slices["position=32-63"]["candidate"] == slices["position=32-63"]["reference"]
    assert slices["rare tokens"]["count"] <= 0.1 * 24 * 191 and slices["rare tokens"]["reference"] > slices["common tokens"]["reference"]


def test_documents_are_resampled_whole(llama, coarse):
    tokens = np.load(MODELS / "tiny_llama_eval.npz")["tokens"][:12]
    data = {"tokens": np.concatenate([tokens, tokens]), "document": np.tile(np.arange(12), 2)}
    twice = lowbit.evaluate(llama, [coarse(llama, 5)], data, task="lm").data
    once = lowbit.evaluate(llama, [coarse(llama, 5)], {"tokens": tokens}, task="lm").data
    assert twice["reference"]["task"]["ci95"] == pytest.approx(once["reference"]["task"]["ci95"], rel=1e-9)
    assert "documents" in twice["protocol"]["confidence_interval"]


def test_metrics_of_classify(linear):
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn to compare with")
    record = next(batches(3000, 3000)())
    truth, guess = record["label"], damaged(record)["y"]
    data = {key: record[key] for key in ("x", "label")}
    run = lambda metric: lowbit.evaluate(linear(WEIGHT), [damaged], data, task="classify", metric=metric).data["candidates"][0]["task"]  # noqa: E731
    assert run("f1")["value"] == pytest.approx(metrics.f1_score(truth, guess.argmax(1), average="macro"), rel=1e-9)
    top5 = run("top5")
    assert top5["value"] == pytest.approx(metrics.top_k_accuracy_score(truth, guess, k=5), rel=1e-9) and top5["metric"] == "top5"
    with pytest.raises(InvalidInput, match="no metric 'auc'"):
        run("auc")


def test_metrics_of_regress(linear):
    scipy = pytest.importorskip("scipy.stats", reason="needs scipy to compare with")
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(500, 5)).astype(np.float32), rng.normal(size=(5, 1)).astype(np.float32)
    label = (x @ weight + rng.normal(size=(500, 1))).astype(np.float32)
    y = (x @ weight)[:, 0].astype(np.float64)
    expected = {"mse": ((y - label[:, 0]) ** 2).mean(), "mae": np.abs(y - label[:, 0]).mean(),
                "pearson": scipy.pearsonr(y, label[:, 0]).statistic, "spearman": scipy.spearmanr(y, label[:, 0]).statistic}
    for metric, value in expected.items():
        found = lowbit.evaluate(linear(weight, "a"), [linear(weight, "b")], {"x": x, "label": label}, task="regress", metric=metric).data
        assert found["reference"]["task"]["value"] == pytest.approx(value, rel=1e-5)
        assert found["reference"]["task"]["ci95"][0] < value < found["reference"]["task"]["ci95"][1]


def test_several_candidates_are_corrected_and_put_in_order(digits, coarse):
    data = lowbit.evaluate(digits, [coarse(digits, b) for b in (3, 8, 5, 2)], MODELS / "digits_eval.npz", task="classify").data
    for candidate in data["candidates"]:
        assert candidate["flips"]["mcnemar_p_adjusted"] >= candidate["flips"]["mcnemar_p"]
    assert data["ladder"]["order_by"] == "bytes"
    assert lowbit.evaluate(digits, [digits], MODELS / "digits_eval.npz", task="classify").data["ladder"] is None


def test_the_ladder_finds_where_the_damage_sets_in():
    from lowbit.eval.ladder import _change

    rungs = [{"name": n, "bits": b, "damage": d, "verdict": v} for n, b, d, v in
             (("fp16", 16, 1e-7, "ok"), ("int8", 8, 1e-4, "ok"), ("int5", 5, 0.004, "drift"), ("int4", 4, 1.1, "cliff"), ("int3", 3, 1.5, "cliff"))]
    assert _change(rungs, "bits") == {"after": "int5", "before": "int4", "factor": 275.0, "expected": 4.0, "cliff": True}
    assert _change([dict(r, damage=0.0) for r in rungs], "bits") is None


def test_no_difference_is_never_claimed(digits):
    verdict = lowbit.evaluate(digits, [digits], MODELS / "digits_eval.npz", task="classify").data["candidates"][0]["verdict"]
    assert verdict["value"] == "ok" and "no difference of the task value found (597 samples detect a drop of ≥ 1.12%)" in verdict["rule"]


def test_samples_that_were_calibrated_on(digits, coarse):
    data = np.load(MODELS / "digits_eval.npz")
    report = lowbit.evaluate(digits, [coarse(digits, 5)], MODELS / "digits_eval.npz", task="classify", calibration_data={"image": data["image"][[7, 7, 300]]})
    overlap = report.data["guards"]["overlap"]
    assert overlap["evaluated_too"] >= 2 and 7 in overlap["first"]
    assert "calibration data too" in report.data["guards"]["warnings"][0]


def test_results_that_depend_on_the_batch(linear):
    def dynamic(inputs):  # the scale of a whole batch, as dynamic per-tensor quantization has it
        y = inputs["x"] @ WEIGHT
        scale = np.abs(y).max() / 15
        return {"y": (np.round(y / scale) * scale).astype(np.float32)}

    data = next(batches(640, 640)())
    guards = lowbit.evaluate(linear(WEIGHT), [dynamic, damaged], data, task="classify").data["guards"]
    assert guards["batch_invariance"]["relative_difference"]["dynamic"] > 1e-3
    assert guards["batch_invariance"]["relative_difference"]["damaged"] < 1e-5
    assert len(guards["warnings"]) == 1 and "dynamic" in guards["warnings"][0]


@pytest.mark.parametrize("task", ["classify", "lm", "regress", "drift", "embed"])
def test_the_json_follows_its_schema(task, digits, llama, coarse, linear):
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    schema = json.loads(SCHEMA_FILE.read_text())
    if task == "classify":
        report = lowbit.evaluate(digits, [coarse(digits, 4), coarse(digits, 3)], MODELS / "digits_eval.npz", task=task, gates=["drift.kl < 1", "verdict.value != cliff"])
    elif task == "lm":
        report = lowbit.evaluate(llama, [coarse(llama, 4)], {"tokens": np.load(MODELS / "tiny_llama_eval.npz")["tokens"][:6]}, task=task)
    else:
        x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
        data = {"x": x, "label": x.sum(1, keepdims=True)} if task == "regress" else {"x": x}
        report = lowbit.evaluate(linear(np.ones((5, 1 if task == "regress" else 3)), "a"), [linear(np.ones((5, 1 if task == "regress" else 3)) * 1.1, "b")], data, task=task)
    jsonschema.validate(json.loads(report.to_json()), schema)
    assert report.data["schema"] == schema["$id"]


def test_a_baseline(tmp_path, lowbit, digits, coarse):
    """An earlier result: the same is fine, worse is exit 1, another evaluation exit 2."""
    good, bad = coarse(digits, 6), coarse(digits, 3)
    common = ["eval", "--reference", digits, "--data", MODELS / "digits_eval.npz", "--task", "classify", "-q"]
    assert lowbit(*common, "--candidate", good, "-o", tmp_path / "old.json").returncode == 0
    assert lowbit(*common, "--candidate", good, "--baseline", tmp_path / "old.json").returncode == 0
    worse = lowbit(*common, "--candidate", bad, "--baseline", tmp_path / "old.json", "--json")
    assert worse.returncode == 1 and "worse than" in worse.stderr and json.loads(worse.stdout)["baseline"]["regressions"]
    other = lowbit(*common[:4], f"{MODELS / 'digits_eval.npz'}[0:500]", *common[5:], "--candidate", good, "--baseline", tmp_path / "old.json")
    assert other.returncode == 2 and "its samples is 597, now it is 500" in other.stderr
    assert lowbit(*common, "--candidate", good, "--baseline", MODELS / "digits_eval.npz").returncode == 2


def test_assertions_for_tests_of_models(tmp_path, digits, coarse):
    from lowbit.testing import assert_no_cliff, assert_verdict

    data = MODELS / "digits_eval.npz"
    report = assert_no_cliff(digits, coarse(digits, 6), data, task="classify", gates=["drift.kl < 0.1"])
    (tmp_path / "old.json").write_text(report.to_json())
    with pytest.raises(AssertionError, match="digits_cnn_2.onnx: verdict cliff: open: accuracy fell"):
        assert_verdict(digits, coarse(digits, 2), data, task="classify")
    with pytest.raises(AssertionError, match="gate drift.kl < 1e-9 does not hold"):
        assert_no_cliff(digits, coarse(digits, 6), data, task="classify", gates=["drift.kl < 1e-9"])
    with pytest.raises(AssertionError, match="mean KL"):
        assert_verdict(digits, coarse(digits, 4), data, task="classify", baseline=tmp_path / "old.json", allowed=("ok", "drift", "cliff"))


def test_ranges_that_are_too_small(lowbit, tmp_path):
    """Evaluation data three times as large as those calibrated on: the layers that clip them are named."""
    model, calibration = MODELS / "digits_cnn.onnx", tmp_path / "digits.cal"
    assert lowbit("calibrate", model, "--recipe", "int8", "--data", MODELS / "digits_calib.npz", "-o", calibration, "-q").returncode == 0
    assert lowbit("compile", model, "--recipe", "int8", "--calibration", calibration, "-o", tmp_path / "q.lowbit", "-q").returncode == 0
    data = dict(np.load(MODELS / "digits_eval.npz"))
    name = next(key for key in data if key != "label")
    reports = {}
    for factor in (1, 3):
        file = tmp_path / f"{factor}.npz"
        np.savez(file, **{**data, name: (data[name] * factor).astype(np.float32)})
        done = lowbit("eval", "--reference", model, "--candidate", tmp_path / "q.lowbit", "--data", file, "--calibration", calibration, "--task", "classify", "--json", "-q")
        reports[factor] = json.loads(done.stdout)
    clipped = {factor: report["candidates"][0]["outside_range"][0].get("saturated", 0) for factor, report in reports.items()}
    assert clipped[1] < 0.01 < clipped[3]
    assert any("ranges are too small for these data" in warning for warning in reports[3]["guards"]["warnings"])
    assert not any("ranges are too small" in warning for warning in reports[1]["guards"]["warnings"])
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    jsonschema.validate(reports[3], json.loads(SCHEMA_FILE.read_text()))
