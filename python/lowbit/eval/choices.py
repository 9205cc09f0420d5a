# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Multiple choice by log-likelihood: the choice whose tokens are likeliest after the context."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..decoder import Decoder
from ..errors import InvalidInput
from ..feeds import Feed
from ..signature import Value
from ..subjects import Subject
from ..tokenizer import Tokenizer
from . import metrics
from .items import CONTEXTS, GOLDS, ITEM, Line, clipped, encode_pair
from .tasks import Columns, Outputs, _Distribution


@dataclass
class Question:
    """tokens: (context, continuation) ids per choice. lengths: what acc_norm divides by: characters of the choice, or its tokens where there is no text."""

    shown: str
    choices: list[str]
    tokens: list[tuple[list[int], list[int]]]
    lengths: np.ndarray
    gold: int


def parse_question(line: Line, tokenizer: Tokenizer | None) -> Question:
    """From token ids (context_ids, choices_ids), text (context, choices), or the `arguments` of lm-evaluation-harness's samples."""
    context_ids, choices_ids = line.ids("context_ids"), line.fields.get("choices_ids")
    if choices_ids is not None:
        if context_ids is None or not isinstance(choices_ids, list):
            raise line.fail("choices_ids needs context_ids, and is a list of lists of token ids")
        pairs = [(context_ids, Line(line.where, {"choices_ids": ids}, 0).ids("choices_ids") or []) for ids in choices_ids]
        names = [" ".join(map(str, ids)) for _, ids in pairs]
        lengths, shown = [len(ids) for _, ids in pairs], " ".join(map(str, context_ids[-40:]))
    else:
        if tokenizer is None:
            raise line.fail("text needs --tokenizer TOKENIZER.json; or give context_ids and choices_ids")
        parts, names = _texts(line)
        pairs = [encode_pair(tokenizer, *pair) for pair in parts]
        lengths, shown = [max(1, len(name)) for name in names], clipped(parts[0][0])
    if len(pairs) < 2:
        raise line.fail(f"{len(pairs)} choices; there have to be two at least")
    for (context, continuation), name in zip(pairs, names):
        if not context:
            raise line.fail("the context has no tokens: there is nothing to go on from (does the tokenizer add a first token?)")
        if not continuation:
            raise line.fail(f"the choice '{name}' has no tokens of its own")
    return Question(shown, names, pairs, np.asarray(lengths, np.float64), _gold(line, names))


def _texts(line: Line) -> tuple[list[tuple[str, str]], list[str]]:
    """[(context, continuation)] and the choices' names."""
    arguments = line.fields.get("arguments")
    if arguments is not None:
        listed = list(arguments.values()) if isinstance(arguments, dict) else arguments
        try:
            pairs = [tuple(a.values())[:2] if isinstance(a, dict) else tuple(a)[:2] for a in listed]
            pairs = [(line.text("a context", context), line.text("a continuation", continuation)) for context, continuation in pairs]
        except (TypeError, ValueError, AttributeError):
            raise line.fail("'arguments' must be pairs of a context and a continuation") from None
        return pairs, [continuation.strip() for _, continuation in pairs]
    context = line.text("the context", line.one_of(CONTEXTS, "context"))
    choices = line.one_of(("choices", "endings"), "list of choices")
    if not isinstance(choices, list):
        raise line.fail("'choices' must be a list of texts")
    delimiter = line.text("target_delimiter", line.fields.get("target_delimiter", " "))
    names = [line.text("a choice", choice) for choice in choices]
    return [(context, delimiter + name) for name in names], names


def _gold(line: Line, names: list[str]) -> int:
    gold = line.one_of(GOLDS, "right answer")
    if isinstance(gold, str):
        gold = names.index(gold) if gold in names else int(gold) if gold.isdecimal() else gold
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(names):
        raise line.fail(f"the right answer must be a number from 0 to {len(names) - 1}, or one of the choices, not {gold!r}")
    return gold


class ChoiceSubject:
    """A causal language model as a model of questions: an item's number → the log-likelihoods of its choices."""

    def __init__(self, subject: Subject, questions: list[Question], output: str | None) -> None:
        self._decoder, self._questions = Decoder(subject, output), questions
        self.name, self.runtime, self.bytes = subject.name, subject.runtime, subject.bytes
        self.manifest = None if subject.manifest is None else {k: v for k, v in subject.manifest.items() if k != "kv_cache"}
        self.path = getattr(subject, "path", None)
        self.inputs, self.outputs = [ITEM], [Value("loglikelihood", "f64", (-1,), ("",))]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        pairs = self._questions[int(inputs[ITEM.name][0])].tokens
        found: dict[tuple[int, ...], np.ndarray] = {}  # choices of one token share their run
        sums = []
        for context, continuation in pairs:
            tokens = (*context, *continuation[:-1])
            if tokens not in found:
                found = {tokens: metrics.log_softmax(self._decoder.logits(tokens)[len(context) - 1 :])}
            logp = found[tokens]
            if max(continuation) >= logp.shape[1]:
                raise InvalidInput(f"{self.name}: token {max(continuation)} is outside the model's {logp.shape[1]}: is this its tokenizer?")
            sums.append(float(logp[np.arange(len(continuation)), continuation].sum()))
        return {"loglikelihood": np.asarray([sums])}


class Choices(_Distribution):
    """accuracy: of the choice with the largest log-likelihood; acc_norm: with the largest per character."""

    name, metrics, column, higher_is_better = "choices", ("accuracy", "acc_norm"), "correct", True
    _probabilities = False

    def __init__(self, label_key: str = "label", output: str | None = None, metric: str | None = None) -> None:
        super().__init__(label_key, None, metric)
        self.model_output = output
        self.questions: list[Question] = []
        self._right: dict[str, list[float]] = {}

    def wrap(self, subjects: list[Subject], lines: list[Line], tokenizer: Tokenizer | None) -> list[Subject]:
        """Models of questions from models of tokens."""
        self.questions = [parse_question(line, tokenizer) for line in lines]
        self.protocol.update(tokenizer=tokenizer.name if tokenizer else "token ids", score="sum of the log-likelihoods of a choice's tokens after the context"
                             + (", divided by the choice's characters (tokens, where there is no text)" if self.metric == "acc_norm" else ""))
        return [ChoiceSubject(subject, self.questions, self.model_output) for subject in subjects]

    def chance(self) -> float:
        """Accuracy of guessing."""
        return float(np.mean([1 / len(question.choices) for question in self.questions]))

    def _scores(self, outputs: Outputs, name: str, subject: int) -> np.ndarray:
        sums = np.asarray(outputs[name], np.float64)
        normal = sums / self._question.lengths
        right = [float(np.argmax(scores[0]) == self._question.gold) for scores in (sums, normal)]
        total = self._right.setdefault(str(subject), [0.0, 0.0, 0.0])
        self._right[str(subject)] = [total[0] + right[0], total[1] + right[1], total[2] + 1]
        return normal if self.metric == "acc_norm" else sums

    def reference(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        self._question, self._answers = self.questions[int(feed.inputs[ITEM.name][0])], []
        columns = self._reference(self._scores(outputs, name, 0), np.asarray([self._question.gold]))
        del columns["target"]  # a number means another choice in every question
        return columns

    def candidate(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        columns = self._candidate(self._scores(outputs, name, len(self._answers) + 1))
        self._answers.append(int(columns["top1"][0]))
        return columns

    def describe(self, candidate: int) -> dict[str, Any]:
        q, answer = self._question, self._answers[candidate]
        return {"text": q.shown, "answers": {"expected": q.choices[q.gold], "reference": q.choices[int(self._top1[0])], "candidate": q.choices[answer] if answer >= 0 else "NaN"}}

    def extra_values(self, subject: int) -> dict[str, float]:
        plain, normal, count = self._right[str(subject)]
        return {"accuracy": plain / count, "acc_norm": normal / count}

    def state(self) -> dict[str, Any]:
        return {"right": self._right}

    def restore(self, state: dict[str, Any]) -> None:
        self._right = state["right"]
