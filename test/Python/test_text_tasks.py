# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Multiple choice, cloze and generate-and-check, against log-likelihoods and generations computed here directly."""
from __future__ import annotations

import functools
import json

import jsonschema
import numpy as np
import pytest

import lowbit
from conftest import MODELS, require_compiler
from lowbit import InvalidInput
from lowbit.decoder import Decoder
from lowbit.eval import SCHEMA_FILE
from lowbit.subjects import open_subject

pytest.importorskip("onnxruntime", reason="needs onnxruntime")
tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")


@pytest.fixture
def words(tmp_path):
    """The bundled model's tokens are bytes; here those of printable ASCII, a space being a space."""
    from tokenizers import Regex, decoders, models, pre_tokenizers

    tokenizer = tokenizers.Tokenizer(models.WordLevel({chr(i) if 31 < i < 127 else f"<{i:02x}>": i for i in range(256)}, unk_token="<00>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture
def lines():
    """Printable runs of the evaluation text."""
    tokens = np.load(MODELS / "tiny_llama_eval.npz")["tokens"]
    rows = ["".join(chr(t) if 31 < t < 127 else "\n" for t in row) for row in tokens.tolist()]
    return [run.strip() for row in rows for run in row.split("\n") if len(run.strip()) >= 24][:60]


def log_softmax(x):
    x = np.asarray(x, np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@functools.lru_cache(maxsize=8)
def session(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def logits_of(path, ids):
    return session(path).run(None, {"input_ids": np.asarray([ids], np.int64)})[0][0]


def questions(lines, count=30):
    """What really follows, among what follows elsewhere."""
    rng = np.random.default_rng(0)
    items = []
    for i in range(count):
        line, gold = lines[i], int(rng.integers(0, 3))
        choices = [lines[(i + 7 * k) % len(lines)][12 : 18 + k] for k in (1, 2, 3)]
        choices[gold] = line[12:20]
        items.append({"context": line[:12], "choices": choices, "gold": gold, "target_delimiter": "", "slice:kind": "even" if i % 2 == 0 else "odd"})
    return [item for item in items if len(set(item["choices"])) == 3]


def write(path, items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_choices_by_log_likelihood(llama, coarse, words, lines, tmp_path):
    items = questions(lines)
    worse = coarse(llama, 4)
    report = lowbit.evaluate(llama, [worse], write(tmp_path / "q.jsonl", items), task="choices", tokenizer=words)
    right = {path: [0, 0] for path in (llama, worse)}
    for item in items:
        for path in right:
            scores = []
            for choice in item["choices"]:
                context, whole = list(map(ord, item["context"].rstrip())), list(map(ord, item["context"] + choice))
                logp = log_softmax(logits_of(path, whole))
                scores.append(sum(logp[at - 1, whole[at]] for at in range(len(context), len(whole))))
            right[path][0] += np.argmax(scores) == item["gold"]
            right[path][1] += np.argmax(np.array(scores) / [len(c) for c in item["choices"]]) == item["gold"]
    data = report.data
    for entry, path in ((data["reference"], llama), (data["candidates"][0], worse)):
        assert entry["task"]["value"] == entry["task"]["values"]["accuracy"] == right[path][0] / len(items)
        assert entry["task"]["values"]["acc_norm"] == right[path][1] / len(items)
    normal = lowbit.evaluate(llama, [worse], items, task="choices", tokenizer=words, metric="acc_norm").data
    assert normal["reference"]["task"]["value"] == right[llama][1] / len(items)
    found = data["candidates"][0]
    assert found["drift"]["kl"] > 0 and found["flips"]["pairs"] == len(items) and found["slices"]["kind=even"]["count"] + found["slices"]["kind=odd"]["count"] == len(items)
    worst = found["worst"][0]
    assert worst["text"] == items[worst["index"]]["context"] and worst["answers"]["expected"] in items[worst["index"]]["choices"]
    jsonschema.validate(json.loads(report.to_json()), json.loads(SCHEMA_FILE.read_text()))


def test_choices_as_tokens_text_and_harness_arguments_are_one(llama, words, lines):
    items = questions(lines, 25)
    tokens = [{"context_ids": list(map(ord, (i["context"]).rstrip())), "gold": i["gold"],
               "choices_ids": [list(map(ord, i["context"][len(i["context"].rstrip()):] + c)) for c in i["choices"]]} for i in items]
    arguments = [{"arguments": {f"gen_args_{k}": {"arg_0": i["context"], "arg_1": c} for k, c in enumerate(i["choices"])}, "target": str(i["gold"])} for i in items]
    runs = [lowbit.evaluate(llama, [llama], each, task="choices", tokenizer=words).data for each in (items, tokens, arguments)]
    assert len({run["reference"]["task"]["value"] for run in runs}) == 1
    assert all(run["candidates"][0]["drift"]["kl"] == 0 and run["candidates"][0]["drift"]["top1_agreement"] == 1 for run in runs)


def test_choices_of_one_token_take_one_run(llama, lines):
    items = [{"context_ids": list(map(ord, line[:16])), "choices_ids": [[ord(line[16])], [7]], "gold": 0} for line in lines[:20]]
    calls = []

    def counted(inputs):
        calls.append(inputs["input_ids"].shape)
        return {"logits": logits_of(llama, inputs["input_ids"][0])[None]}

    found = lowbit.evaluate(llama, [counted], items, task="choices").data
    assert calls == [(1, 16)] * 20 and found["reference"]["task"]["value"] > 0.9


def test_cloze(llama, coarse, words, lines):
    items = [{"context": line[:14], "target": line[14:16], "target_delimiter": ""} for line in lines if line[13] != " "][:40]
    found = lowbit.evaluate(llama, [coarse(llama, 4)], items, task="cloze", tokenizer=words).data
    right = [(logits_of(llama, list(map(ord, i["context"] + i["target"])))[13:15].argmax(-1) == list(map(ord, i["target"]))).all() for i in items]
    assert found["reference"]["task"]["value"] == pytest.approx(np.mean(right)) and 0 < np.mean(right) < 1
    candidate = found["candidates"][0]
    assert candidate["drift"]["kl"] > 0 and candidate["worst"][0]["answers"]["expected"] == items[candidate["worst"][0]["index"]]["target"]


def greedy(path, ids, count):
    ids = list(ids)
    for _ in range(count):
        ids.append(int(logits_of(path, ids)[-1].argmax()))
    return ids[-count:]


def test_generation_is_greedy_and_checked(llama, coarse, words, lines, tmp_path):
    items = []
    for i, line in enumerate(lines[:12]):
        text = "".join(map(chr, greedy(llama, map(ord, line[:16]), 6)))
        if not text.isprintable():
            continue
        item = {"prompt": line[:16], "max_tokens": 6, "answer": text}
        if i % 3 == 1:
            item = {**item, "answer": text[1], "regex": "^.(.)"}
        if i % 3 == 2:
            item = {"prompt_ids": list(map(ord, line[:16])), "max_tokens": 6, "answer": text[: text.index(text[3])], "stop": [text[3]]}
        items.append(item)
    items[-1]["answer"] = ["something else", "than it says"]  # one wrong answer
    worse = coarse(llama, 3)
    report = lowbit.evaluate(llama, [worse, llama], write(tmp_path / "g.jsonl", items), task="generate", tokenizer=words)
    data = report.data
    assert data["reference"]["task"]["value"] == pytest.approx(1 - 1 / len(items))
    bad, same = data["candidates"]
    assert same["drift"]["kl"] == 0 and same["flips"]["correct_to_wrong"] == 0 and same["drift"]["top1_agreement"] == 1
    equal = [greedy(worse, map(ord, line[:16]), 6) == greedy(llama, map(ord, line[:16]), 6) for line in lines[:12]]
    assert bad["drift"]["kl"] > 0 and bad["drift"]["top1_agreement"] < 1 and sum(equal) < 12
    assert bad["flips"]["correct_to_wrong"] > 0 and bad["worst"][0]["answers"]["candidate"] != bad["worst"][0]["answers"]["expected"]
    assert data["protocol"]["cache"][worse.name].startswith("none")
    jsonschema.validate(json.loads(report.to_json()), json.loads(SCHEMA_FILE.read_text()))
    (tmp_path / "scorer.py").write_text("def upper(text, item):\n    return float(text[:1] == item['answer'][:1])\ndef broken(text, item):\n    raise KeyError('x')\n")
    plain = [{"prompt": i["prompt"], "answer": i["answer"], "max_tokens": 1} for i in items if "stop" not in i and "regex" not in i and isinstance(i["answer"], str)]
    found = lowbit.evaluate(llama, [worse], plain, task="generate", tokenizer=words, scorer=f"{tmp_path / 'scorer.py'}:upper").data
    assert found["reference"]["task"] == {**found["reference"]["task"], "metric": "score", "value": 1.0}
    with pytest.raises(InvalidInput, match="raised KeyError on data item 0"):
        lowbit.evaluate(llama, [worse], plain, task="generate", tokenizer=words, scorer=f"{tmp_path / 'scorer.py'}:broken")


def test_a_cache_says_the_same_as_running_the_prefix_again(tmp_path):
    """Float ports in onnxruntime, and i8 ones of a bundle, through the same task."""
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    require_compiler()
    from test_kv_cache import Tiny

    path = tmp_path / "tiny.onnx"
    onnx.save(Tiny("concat").model(), path)
    decoder = Decoder(open_subject(path))
    assert decoder.cached
    state, ids = decoder.start(), [3, 1, 4, 1, 5]
    logits = state.feed(ids)
    for _ in range(8):
        assert np.allclose(logits, decoder.logits(ids)[-1], atol=1e-4)
        ids.append(int(logits.argmax()))
        logits = state.feed(ids[-1:])
    held = lowbit.compile(path, recipe="fp32:kv_cache=i8", output=tmp_path / "i8.lowbit")
    items = [{"prompt_ids": ids[:5], "answer_ids": ids[5:], "max_tokens": 8}]
    data = lowbit.evaluate(path, [held], items, task="generate").data
    assert data["reference"]["task"]["value"] == 1 and set(data["protocol"]["cache"].values()) == {"by its cache ports"}
    assert 0 < data["candidates"][0]["drift"]["kl"] < 0.05
    assert 0 < lowbit.evaluate(path, [held], [{"context_ids": ids[:5], "target_ids": ids[5:]}], task="cloze").data["candidates"][0]["drift"]["kl"] < 0.05


def test_a_killed_run_of_choices_resumes(llama, coarse, words, lines, tmp_path, monkeypatch):
    import lowbit.eval.run as run

    path, worse = write(tmp_path / "q.jsonl", questions(lines)), coarse(llama, 4)
    options = {"task": "choices", "tokenizer": words, "checkpoint": tmp_path / "part"}
    whole = lowbit.evaluate(llama, [worse], path, **options).to_json()
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.0)

    def stop(done, total):
        if done == 11:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        lowbit.evaluate(llama, [worse], path, progress=stop, **options)
    assert lowbit.evaluate(llama, [worse], path, resume=True, **options).to_json() == whole


def test_the_command(lowbit, llama, coarse, words, lines, tmp_path):
    done = lowbit("eval", "--reference", llama, "--candidate", coarse(llama, 8), "--data", f"{write(tmp_path / 'q.jsonl', questions(lines))}[0:20]", "--task", "choices",
                  "--tokenizer", words, "--metric", "acc_norm", "--html", tmp_path / "r.html", "-o", tmp_path / "r.json", "-q")
    assert done.returncode == 0, done.stderr
    text, data = (tmp_path / "r.html").read_text(), json.loads((tmp_path / "r.json").read_text())
    assert "Worst items of" in text and data["protocol"]["samples"] == 20 and data["protocol"]["metric"] == "acc_norm"


GOOD = {"context_ids": [65, 66], "choices_ids": [[67], [68]], "gold": 0}


@pytest.mark.parametrize("task, item, message", [
    ("choices", {**GOOD, "gold": 2}, "must be a number from 0 to 1, or one of the choices, not 2"), ("choices", {**GOOD, "gold": True}, "must be a number"),
    ("choices", {**GOOD, "choices_ids": [[67]]}, "there have to be two"), ("choices", {**GOOD, "choices_ids": [[67], []]}, "has no tokens of its own"),
    ("choices", {**GOOD, "context_ids": []}, "the context has no tokens"), ("choices", {**GOOD, "choices_ids": [[67], [-1]]}, "list of token ids"),
    ("choices", {**GOOD, "choices_ids": [[67], [300]]}, "token 300 is outside the model's 256"), ("choices", {"context": "a", "choices": ["b", "c"], "gold": 0}, "needs --tokenizer"),
    ("choices", {"choices_ids": [[1], [2]], "gold": 0}, "needs context_ids"), ("choices", {**GOOD, "slice:x": 0.5}, "must be an integer or text"),
    ("choices", {**GOOD, "document": "a"}, "must be an integer"), ("cloze", {"context_ids": [65], "target_ids": []}, "has no tokens"),
    ("cloze", {"context_ids": [65], "target_ids": [300]}, "outside the model's 256"), ("generate", {"prompt_ids": [65]}, "nothing to check the answer with"),
    ("generate", {"prompt_ids": [65], "answer_ids": [66], "max_tokens": 0}, "max_tokens must be"), ("generate", {"prompt_ids": [65], "regex": "("}, "regex"),
    ("generate", {"prompt_ids": [65], "answer_ids": [66], "stop": ["x"]}, "stop is text"), ("generate", {"prompt": "x", "answer": "y"}, "needs --tokenizer"),
])
def test_items_that_are_wrong(llama, task, item, message):
    with pytest.raises(InvalidInput, match=message) as error:
        lowbit.evaluate(llama, [llama], [item], task=task)
    assert "item 0" in str(error.value) or "token 300" in str(error.value)


def test_files_that_are_wrong(llama, digits, words, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD) + "\n{broken\n")
    with pytest.raises(InvalidInput, match="item 1 is not JSON"):
        lowbit.evaluate(llama, [llama], tmp_path / "a.jsonl", task="choices")
    (tmp_path / "b.jsonl").write_text("\n")
    with pytest.raises(InvalidInput, match="no items"):
        lowbit.evaluate(llama, [llama], tmp_path / "b.jsonl", task="choices")
    with pytest.raises(InvalidInput, match="no .jsonl file"):
        lowbit.evaluate(llama, [llama], MODELS / "tiny_llama_eval.npz", task="choices")
    with pytest.raises(InvalidInput, match="input_ids or a single integer input"):
        lowbit.evaluate(digits, [digits], [GOOD], task="choices")
    with pytest.raises(InvalidInput, match="chance level"):
        lowbit.evaluate(llama, [llama], [{**GOOD, "choices_ids": [[1], [2]], "gold": 1 - i % 2} for i in range(10)], task="choices")
    with pytest.raises(InvalidInput, match="--scorer is for task generate"):
        lowbit.evaluate(llama, [llama], [GOOD], task="choices", scorer="x.py:f")
