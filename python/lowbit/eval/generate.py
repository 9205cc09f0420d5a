# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tasks of whole answers: cloze, where the likeliest tokens have to be the target, and generation whose text is checked."""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data import load_function
from ..decoder import Decoder
from ..errors import Error, InvalidInput, one_line
from ..feeds import Feed
from ..signature import Value
from ..subjects import Subject
from ..tokenizer import Tokenizer
from . import metrics
from .items import CONTEXTS, ITEM, Line, clipped, encode_pair
from .tasks import Columns, Outputs, Task

MAX_TOKENS = 64
RIGHT = 0.5  # a score from here on counts as a right answer


@dataclass
class Prompt:
    """target: the tokens that a cloze has to be continued with. Of generation: when it stops, and what is right."""

    fields: dict[str, Any]
    where: str
    shown: str
    tokens: list[int]
    target: list[int] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    regex: re.Pattern[str] | None = None
    most: int = MAX_TOKENS
    stop: list[str] = field(default_factory=list)
    stop_ids: list[int] = field(default_factory=list)


@dataclass
class Path:
    """What a model said at each step: logits [steps, vocabulary], and the tokens that it chose."""

    logits: np.ndarray
    tokens: np.ndarray
    text: str


class AnswerSubject:
    """A causal language model as a model of prompts: an item's number → the mean log-likelihood of its answer; `path` has the rest."""

    def __init__(self, subject: Subject, output: str | None, prompts: list[Prompt], answer: Callable[[Decoder, Prompt], Path]) -> None:
        self.decoder, self._prompts, self._answer = Decoder(subject, output), prompts, answer
        self.name, self.runtime, self.bytes = subject.name, subject.runtime, subject.bytes
        self.manifest = None if subject.manifest is None else {k: v for k, v in subject.manifest.items() if k != "kv_cache"}
        self.inputs, self.outputs = [ITEM], [Value("loglikelihood", "f64", (1,), ("",))]
        self.path = getattr(subject, "path", None)
        self.said: Path | None = None

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        prompt = self._prompts[int(inputs[ITEM.name][0])]
        self.said = self._answer(self.decoder, prompt)
        vocabulary = self.said.logits.shape[1]
        if max(prompt.target, default=0) >= vocabulary:
            raise InvalidInput(f"{prompt.where}: token {max(prompt.target)} is outside the model's {vocabulary}: is this its tokenizer?")
        chosen = np.asarray(prompt.target or self.said.tokens)
        logp = metrics.log_softmax(self.said.logits)
        return {"loglikelihood": np.asarray([logp[np.arange(len(chosen)), chosen].mean()])}


class _Answers(Task):
    """Shared by both. Of each item: KL, Δp and loss are means over the steps at which both models had seen the same tokens;
    margin and confidence are those of the reference's least certain step."""

    metrics, column, higher_is_better, worst_by = ("accuracy",), "correct", True, "kl"

    def __init__(self, label_key: str = "label", output: str | None = None, metric: str | None = None) -> None:
        super().__init__(label_key, None, metric)
        self.model_output = output
        self.prompts: list[Prompt] = []
        self._tokenizer: Tokenizer | None = None

    def parse(self, line: Line) -> Prompt:
        raise NotImplementedError

    def answer(self, decoder: Decoder, prompt: Prompt) -> Path:
        raise NotImplementedError

    def score(self, prompt: Prompt, path: Path) -> float:
        raise NotImplementedError

    def common(self, own: Path, other: Path) -> int:
        """Steps at which both models had seen the same tokens."""
        raise NotImplementedError

    def wrap(self, subjects: list[Subject], lines: list[Line], tokenizer: Tokenizer | None) -> list[Subject]:
        """Models of prompts from models of tokens."""
        self._tokenizer = tokenizer
        self.prompts = [self.parse(line) for line in lines]
        self.protocol["tokenizer"] = tokenizer.name if tokenizer else "token ids"
        self._subjects = [AnswerSubject(subject, self.model_output, self.prompts, self.answer) for subject in subjects]
        return list(self._subjects)

    def prompt_tokens(self, line: Line, names: tuple[str, ...]) -> tuple[list[int], str]:
        """A prompt's ids and how it is shown, from the fields NAME_ids or NAME."""
        for name in names:
            ids = line.ids(f"{name}_ids")
            if ids:
                return ids, " ".join(map(str, ids[-40:]))
        if self._tokenizer is None:
            raise line.fail(f"text needs --tokenizer TOKENIZER.json; or give {names[0]}_ids")
        text = line.text("the prompt", line.one_of(names, "prompt"))
        ids = self._tokenizer.encode(text)
        if not ids:
            raise line.fail("the prompt has no tokens: there is nothing to go on from")
        return ids, clipped(text)

    def additive(self, columns: Columns) -> np.ndarray:
        return columns["score"][:, None]

    def reference(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        self._prompt = self.prompts[int(feed.inputs[ITEM.name][0])]
        self._own, self._others = self._subjects[0].said, []
        logp = metrics.log_softmax(self._own.logits)
        self._logp = logp
        two = np.partition(logp, -2, -1)[:, -2:]
        self._wanted = np.asarray(self._prompt.target or self._own.tokens)
        self._nll = -logp[np.arange(len(logp)), self._wanted]
        score = self.score(self._prompt, self._own)
        self._right = float(score >= RIGHT)
        return {"top1": np.asarray([0]), "correct": np.asarray([self._right]), "score": np.asarray([score]), "nll": np.asarray([self._nll.mean()]),
                "confidence": np.exp(two[:, 1].min())[None], "margin": (two[:, 1] - two[:, 0]).min()[None]}

    def candidate(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        other = self._subjects[len(self._others) + 1].said
        self._others.append(other)
        if not np.isfinite(other.logits).all():
            nothing = np.asarray([np.nan])
            return {"top1": np.asarray([-1]), "correct": np.zeros(1), "score": np.zeros(1), "nll": nothing, "kl": nothing, "delta_p": nothing,
                    "max_abs": nothing, "relative_error": nothing, "cosine_distance": nothing}
        n = self.common(self._own, other)
        logp, at = metrics.log_softmax(other.logits[:n]), np.arange(n)
        change = np.exp(logp[at, self._own.tokens[:n]]) - np.exp(self._logp[at, self._own.tokens[:n]])
        nll = self._nll.mean() + (-logp[at, self._wanted[:n]] - self._nll[:n]).mean()
        score = self.score(self._prompt, other)
        same = len(other.tokens) == len(self._own.tokens) and np.array_equal(other.tokens, self._own.tokens)
        return {"top1": np.asarray([0 if same else 1]), "correct": np.asarray([float(score >= RIGHT)]), "score": np.asarray([score]), "nll": np.asarray([nll]),
                "kl": metrics.kl_divergence(self._logp[:n], logp).mean()[None], "delta_p": change.mean()[None],
                **metrics.row_distances(self._own.logits[None, :n], other.logits[None, :n])}

    def describe(self, candidate: int) -> dict[str, Any]:
        expected = " | ".join(self._prompt.expected) or (self._prompt.regex.pattern if self._prompt.regex else "(scored by a function)")
        return {"text": self._prompt.shown, "answers": {"expected": clipped(expected), "reference": clipped(self._own.text), "candidate": clipped(self._others[candidate].text)}}

    def said(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(tokens) if self._tokenizer else " ".join(map(str, tokens))


class Cloze(_Answers):
    """Right where every token of the target is the likeliest one, given the context and the target's tokens before it."""

    name = "cloze"

    def parse(self, line: Line) -> Prompt:
        target = line.ids("target_ids")
        if target is not None:
            tokens, shown = self.prompt_tokens(line, ("context", "prompt"))
            expected = " ".join(map(str, target))
        else:
            if self._tokenizer is None:
                raise line.fail("text needs --tokenizer TOKENIZER.json; or give context_ids and target_ids")
            context = line.text("the context", line.one_of(CONTEXTS, "context"))
            expected = line.text("the target", line.one_of(("target", "completion", "continuation", "doc_to_target"), "target"))
            delimiter = line.text("target_delimiter", line.fields.get("target_delimiter", " "))
            tokens, target = encode_pair(self._tokenizer, context, delimiter + expected)
            shown = clipped(context)
        if not tokens or not target:
            raise line.fail("the context or the target has no tokens")
        return Prompt(line.fields, line.where, shown, tokens, target, [expected])

    def answer(self, decoder: Decoder, prompt: Prompt) -> Path:
        logits = np.asarray(decoder.logits([*prompt.tokens, *prompt.target[:-1]])[len(prompt.tokens) - 1 :])
        tokens = logits.argmax(1)
        return Path(logits, tokens, self.said(tokens.tolist()))

    def score(self, prompt: Prompt, path: Path) -> float:
        return float(np.array_equal(path.tokens, prompt.target))

    def common(self, own: Path, other: Path) -> int:
        return len(own.tokens)


class Generate(_Answers):
    """Greedy generation. scorer: FILE.py:FUNC, FUNC(text, item) → float, replaces exact match and regex."""

    name = "generate"

    def __init__(self, label_key: str = "label", output: str | None = None, metric: str | None = None, scorer: str | None = None) -> None:
        super().__init__(label_key, output, metric)
        self._scorer, self._scorer_name = (load_function(scorer), scorer) if scorer else (None, "")
        if scorer:
            self.metric = "score"

    def wrap(self, subjects: list[Subject], lines: list[Line], tokenizer: Tokenizer | None) -> list[Subject]:
        wrapped = super().wrap(subjects, lines, tokenizer)
        self.protocol.update(decoding="greedy", check=self._scorer_name or "exact match after stripping, or regular expression", cache={
            subject.name: "by its cache ports" if subject.decoder.cached else "none: the prefix runs again for each token" for subject in self._subjects})
        return wrapped

    def parse(self, line: Line) -> Prompt:
        tokens, shown = self.prompt_tokens(line, ("prompt", *(name for name in CONTEXTS if name != "prompt")))
        fields = line.fields
        given = fields.get("generation_kwargs", {})
        most = fields.get("max_tokens", given.get("max_gen_toks", MAX_TOKENS))
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise line.fail(f"max_tokens must be a number from 1 on, not {most!r}")
        stop = fields.get("stop", given.get("until", []))
        stop = [stop] if isinstance(stop, str) else stop
        if not isinstance(stop, list) or not all(isinstance(s, str) and s for s in stop):
            raise line.fail("stop must be texts")
        if stop and self._tokenizer is None:
            raise line.fail("stop is text and needs --tokenizer; stop_ids holds token ids")
        prompt = Prompt(fields, line.where, shown, tokens, most=most, stop=stop, stop_ids=line.ids("stop_ids") or [])
        if "regex" in fields:
            try:
                prompt.regex = re.compile(line.text("regex", fields["regex"]))
            except re.error as error:
                raise line.fail(f"regex '{fields['regex']}': {error}") from None
        answer = fields.get("answer", fields.get("target"))
        if line.ids("answer_ids") is not None:
            prompt.expected = [self.said(line.ids("answer_ids"))]
        elif answer is not None:
            prompt.expected = [line.text("an answer", a) for a in (answer if isinstance(answer, list) else [answer])]
        if not (prompt.expected or prompt.regex or self._scorer):
            raise line.fail("nothing to check the answer with: give answer, regex, or --scorer FILE.py:FUNC")
        return prompt

    def answer(self, decoder: Decoder, prompt: Prompt) -> Path:
        state, fed = decoder.start(), prompt.tokens
        logits, tokens, text = [], [], ""
        while len(tokens) < prompt.most:
            logits.append(state.feed(fed))
            token = int(np.argmax(logits[-1]))
            tokens.append(token)
            if token in prompt.stop_ids or not np.isfinite(logits[-1]).all():
                break
            text = self.said(tokens)
            found = [at for at in (text.find(stop) for stop in prompt.stop) if at >= 0]
            if found:
                text = text[: min(found)]
                break
            if self._tokenizer and self._tokenizer.token(token) in prompt.stop:
                break
            fed = [token]
        return Path(np.stack(logits), np.asarray(tokens), text)

    def score(self, prompt: Prompt, path: Path) -> float:
        if self._scorer is not None:
            try:
                return float(self._scorer(path.text, prompt.fields))
            except Error:
                raise
            except Exception as error:
                raise InvalidInput(f"{self._scorer_name} raised {type(error).__name__} on {prompt.where}: {one_line(error)}") from error
        text = path.text
        if prompt.regex is not None:
            match = prompt.regex.search(text)
            if match is None or not prompt.expected:
                return float(match is not None)
            text = match.group(1) if prompt.regex.groups else match.group(0)
        return float((text or "").strip() in [answer.strip() for answer in prompt.expected])

    def common(self, own: Path, other: Path) -> int:
        n = min(len(own.tokens), len(other.tokens))
        apart = np.flatnonzero(own.tokens[:n] != other.tokens[:n])
        return int(apart[0]) + 1 if len(apart) else n
