# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What an evaluation measures per sample: classify, lm, regress, drift, or a function of the user's.

A task turns one feed's outputs into columns of float64 or int64, one entry per unit. A unit is a
sample, or for `lm` a scored position. Columns of the reference are computed once per feed.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..data import Data, load_function
from ..errors import Error, InvalidInput, nearest, one_line
from ..feeds import Feed
from . import metrics
from .ranks import resampled_ranks, spearman

Columns = dict[str, np.ndarray]
Outputs = Mapping[str, np.ndarray]

# Values that are looked at together, in float64.
_PIECE = 1 << 21


class Task:
    """Base: distances of the task's output alone, no labels.

    metric: name of the task value, None where there is none; metrics: what --metric can choose, the
    default first. column: the one whose mean slices show, after `slice_value`. higher_is_better: None
    where unknown. retained: what is kept per sample, None where nothing is.
    """

    name = "drift"
    metric: str | None = None
    metrics: tuple[str, ...] = ()
    column = ""
    retained: str | None = None
    higher_is_better: bool | None = None
    worst_by = "relative_error"
    needs_label = False
    unit = "sample"

    def __init__(self, label_key: str = "label", output: str | None = None, metric: str | None = None) -> None:
        self.label_key, self.output = label_key, output
        self.protocol: dict[str, Any] = {}
        if metric is not None and metric not in self.metrics:
            raise InvalidInput(f"task {self.name} has no metric '{metric}'{nearest(metric, self.metrics)}")
        if self.metrics:
            self.metric = metric or self.metrics[0]

    def additive(self, columns: Columns) -> np.ndarray:
        """[units, k]: what has to be averaged over units to get the task value."""
        return columns[self.column][:, None]

    def value_of(self, means: np.ndarray) -> np.ndarray:
        """The task value for means [..., k] of `additive`."""
        return self.slice_value(means[..., 0])

    def slice_value(self, mean: Any) -> Any:
        """What a slice shows for its mean of `column`."""
        return mean

    def state(self) -> dict[str, Any]:
        """What the task itself has accumulated, for checkpoints."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""

    def prepare(self, data: Data, first: int, count: int | None) -> None:
        """Sees the data before the first feed; their samples are `first` … `first + count − 1`."""

    def describe(self, candidate: int) -> dict[str, Any] | None:
        """What a reader of a worst sample is told of the feed that was compared last, instead of class numbers."""
        return None

    def choose_output(self, names: list[str]) -> str:
        """The output the task looks at: --output, the only one, or one called logits."""
        if self.output is not None:
            if self.output not in names:
                raise InvalidInput(f"the model has no output '{self.output}'{nearest(self.output, names)}")
            return self.output
        if len(names) == 1 or self.name == "drift":
            return names[0]
        if "logits" in names:
            return "logits"
        raise InvalidInput(f"the model has {len(names)} outputs; choose one with --output: {', '.join(names)}")

    def reference(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        """Columns of the reference for one feed; also keeps what `candidate` compares with."""
        self._rows = rows(outputs[name], name, feed)
        return {}

    def candidate(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        """Columns of a candidate for the feed that `reference` saw last."""
        return metrics.row_distances(self._rows, rows(outputs[name], name, feed))


def rows(output: np.ndarray, name: str, feed: Feed) -> np.ndarray:
    """[samples, …] of an output; a feed of one sample may lack the sample axis."""
    if output.ndim and output.shape[0] == feed.count:
        return output
    if feed.count == 1:
        return output[None]
    raise InvalidInput(f"{feed.origin}: output '{name}' has shape {list(output.shape)} for {feed.count} samples: "
                       "its first axis does not count samples; use --batch 1")


def label_of(feed: Feed, key: str) -> np.ndarray:
    """Labels with first axis = the feed's samples."""
    if key not in feed.extras:
        raise InvalidInput(f"{feed.origin}: no label '{key}'{nearest(key, feed.extras)}; name it with --label-key, or use --task drift")
    label = np.asarray(feed.extras[key])
    label = label if label.ndim and len(label) == feed.count else label[None]
    if len(label) != feed.count:
        raise InvalidInput(f"{feed.origin}: '{key}' has {len(label)} entries for {feed.count} samples")
    return label


class _Distribution(Task):
    """Shared by classify and lm: an output that is a distribution over classes."""

    worst_by = "kl"
    _probabilities: bool | None = None

    def _logs(self, values: np.ndarray) -> np.ndarray:
        return metrics.log_probabilities(values) if self._probabilities else metrics.log_softmax(values)

    def _reference(self, values: np.ndarray, target: np.ndarray) -> Columns:
        """values [n, C], target [n] → columns of n."""
        self._values, self._target, self.classes = values, target, values.shape[-1]
        if target.size and (target.min() < 0 or target.max() >= self.classes):
            wrong = target.min() if target.min() < 0 else target.max()
            raise InvalidInput(f"class {wrong} is outside the model's {self.classes} classes")
        if self._probabilities is None and len(values):
            self._probabilities = metrics.looks_like_probabilities(values)
            self.protocol["output_is"] = "probabilities" if self._probabilities else "logits"
        columns = _stack([self._reference_part(part) for part in self._parts()])
        columns.update(target=target, correct=(columns["top1"] == target).astype(np.float64))
        self._top1 = columns["top1"]
        return columns

    def _parts(self) -> list[slice]:
        """Rows in pieces of some million values: vocabularies are large, and float64 copies add up."""
        count, step = len(self._values), max(1, _PIECE // self.classes)
        return [slice(begin, min(begin + step, count)) for begin in range(0, max(count, 1), step)]

    def _reference_part(self, part: slice) -> Columns:
        logp = self._logs(self._values[part])
        two = np.partition(logp, -2, -1)[:, -2:] if self.classes > 1 else np.zeros((len(logp), 2))
        return {"top1": np.argmax(self._values[part], -1), "nll": self._nll(logp, part), "confidence": np.exp(two[:, 1]), "margin": two[:, 1] - two[:, 0],
                **self._extra(logp, part)}

    def _extra(self, logp: np.ndarray, part: slice) -> Columns:
        """Further columns of a task, of either model."""
        return {}

    def _nll(self, logp: np.ndarray, part: slice) -> np.ndarray:
        return -np.take_along_axis(logp, self._target[part, None], -1)[:, 0]

    def _candidate(self, values: np.ndarray) -> Columns:
        columns = _stack([self._candidate_part(values[part], part) for part in self._parts()])
        columns["correct"] = (columns["top1"] == self._target).astype(np.float64)
        return columns

    def _candidate_part(self, values: np.ndarray, part: slice) -> Columns:
        finite = np.isfinite(values).all(-1)
        logp = self._logs(np.where(finite[:, None], values, 0))
        own = self._logs(self._values[part])
        kl = metrics.kl_divergence(own, logp)
        choice = self._top1[part, None]
        change = np.exp(np.take_along_axis(logp, choice, -1)) - np.exp(np.take_along_axis(own, choice, -1))
        return {
            "delta_p": np.where(finite, change[:, 0], np.nan), **self._extra(logp, part),
            "top1": np.where(finite, np.argmax(values, -1), -1),
            "nll": np.where(finite, self._nll(logp, part), np.nan), "kl": np.where(finite, kl, np.nan),
            **metrics.row_distances(self._values[part], values)}


def _stack(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Classify(_Distribution):
    name, metrics, column, higher_is_better, needs_label = "classify", ("accuracy", "top5", "f1"), "correct", True, True

    def _extra(self, logp: np.ndarray, part: slice) -> Columns:
        if self.metric != "top5":
            return {}
        own = np.take_along_axis(logp, self._target[part, None], -1)
        return {"top5": ((logp > own).sum(-1) < 5).astype(np.float64)}

    def additive(self, columns: Columns) -> np.ndarray:
        """accuracy: correct. top5: a hit among the five likeliest. f1: per class what was said, what was right, what was true."""
        if self.metric != "f1":
            return columns["correct" if self.metric == "accuracy" else "top5"][:, None]
        if self.classes > 256:
            raise InvalidInput(f"metric f1 is for at most 256 classes; the model has {self.classes}")
        kinds = np.arange(self.classes)
        said, true = columns["top1"][:, None] == kinds, self._target[:, None] == kinds
        return np.concatenate([said, said & true, true], 1).astype(np.float64)

    def value_of(self, means: np.ndarray) -> np.ndarray:
        if self.metric != "f1":
            return means[..., 0]
        said, right, true = np.split(means, 3, -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = 2 * right / (said + true)
        if self.classes == 2:  # of class 1, as usual
            return np.nan_to_num(score[..., 1])
        return np.nanmean(np.where(said + true > 0, score, np.nan), -1)  # macro: over the classes that occur

    def _matrix(self, outputs: Outputs, name: str, feed: Feed) -> np.ndarray:
        values = rows(outputs[name], name, feed)
        if values.ndim < 2 or values.size != values.shape[0] * values.shape[1]:
            raise InvalidInput(f"classify needs an output [N, classes]; '{name}' is {list(outputs[name].shape)}; choose another with --output")
        return values.reshape(values.shape[:2])

    def reference(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        label = label_of(feed, self.label_key)
        if label.size != feed.count:
            raise InvalidInput(f"{feed.origin}: '{self.label_key}' must hold one class number per sample, not {list(label.shape[1:])}")
        label = label.reshape(-1)
        if label.dtype.kind not in "iub" and not (label.dtype.kind == "f" and np.array_equal(label, np.trunc(label))):
            raise InvalidInput(f"{feed.origin}: '{self.label_key}' must hold class numbers, not {label.dtype}")
        return self._reference(self._matrix(outputs, name, feed), label.astype(np.int64))

    def candidate(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        return self._candidate(self._matrix(outputs, name, feed))


class LanguageModel(_Distribution):
    name, metrics, column, higher_is_better, unit = "lm", ("perplexity",), "nll", False, "position"

    def slice_value(self, mean: Any) -> Any:
        with np.errstate(over="ignore"):
            return np.exp(mean)

    def _scored(self, outputs: Outputs, name: str, feed: Feed) -> np.ndarray:
        """Logits [count · scored, vocabulary] that predict positions first_scored … length − 1."""
        if feed.tokens is None:
            raise InvalidInput(f"{feed.origin}: task lm needs 'tokens', integers [sequences, length]")
        values = outputs[name]
        count, length = feed.tokens.shape
        if values.ndim != 3 or values.shape[:2] != (count, length):
            raise InvalidInput(f"lm needs an output [batch, length, vocabulary]; '{name}' is {list(values.shape)}; choose another with --output")
        return values[:, feed.first_scored - 1 : length - 1].reshape(-1, values.shape[-1])

    def reference(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        values = self._scored(outputs, name, feed)
        count, length = feed.tokens.shape
        columns = self._reference(values, feed.tokens[:, feed.first_scored :].reshape(-1))
        columns["position"] = np.tile(np.arange(feed.first_scored, length) + feed.offset, count)
        columns["sample"] = np.repeat(np.arange(feed.start, feed.start + count), length - feed.first_scored)
        return columns

    def candidate(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        return self._candidate(self._scored(outputs, name, feed))


class Regress(Task):
    """Metrics over values, of which a sample may have several; correlations are over the samples' means."""

    name, metrics, column, needs_label = "regress", ("rmse", "mse", "mae", "pearson", "spearman"), "squared_error", True

    def __init__(self, label_key: str = "label", output: str | None = None, metric: str | None = None) -> None:
        super().__init__(label_key, output, metric)
        self.higher_is_better = self.metric in ("pearson", "spearman")
        if self.metric == "spearman":
            self.retained = "two numbers per sample and model: ranks need all of them"
            self._pairs: list[list[np.ndarray]] = []

    def slice_value(self, mean: Any) -> Any:
        return np.sqrt(mean)

    def additive(self, columns: Columns) -> np.ndarray:
        if self.metric == "mae":
            return columns["absolute_error"][:, None]
        if self.metric == "pearson":
            x, y = columns["output_mean"], self._label.mean(1)
            return np.stack([x, y, x * x, y * y, x * y], 1)
        return columns["squared_error"][:, None]

    def value_of(self, means: np.ndarray) -> np.ndarray:
        if self.metric == "rmse":
            return np.sqrt(means[..., 0])
        if self.metric != "pearson":
            return means[..., 0]
        x, y, xx, yy, xy = np.moveaxis(means, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y))

    def reference(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        super().reference(outputs, name, feed)
        label = np.asarray(label_of(feed, self.label_key), np.float64)
        if label.size != self._rows.size:
            raise InvalidInput(f"{feed.origin}: '{self.label_key}' has shape {list(label.shape)}, the output '{name}' {list(self._rows.shape)}")
        self._label, self._subject = label.reshape(feed.count, -1), -1
        return {**self._errors(self._rows), "label": self._label.mean(1), "label_square": (self._label**2).mean(1)}

    def _errors(self, values: np.ndarray) -> Columns:
        values = np.asarray(values, np.float64).reshape(len(values), -1)
        error = values - self._label
        if self.metric == "spearman":
            self._subject += 1
            while len(self._pairs) <= self._subject:
                self._pairs.append([])
            self._pairs[self._subject].append(np.stack([values.mean(1), self._label.mean(1)]))
        return {"squared_error": (error**2).mean(1), "absolute_error": np.abs(error).mean(1), "output_mean": values.mean(1)}

    def candidate(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        return {**super().candidate(outputs, name, feed), **self._errors(rows(outputs[name], name, feed))}

    def total(self, subject: int) -> float | None:
        """The task value of one model, where it is not one of means."""
        return spearman(*np.concatenate(self._pairs[subject], 1)) if self.metric == "spearman" else None

    def resample(self, seed: int, subjects: int) -> np.ndarray | None:
        """[resamples, subjects] task values of resampled samples, the same ones for every model; None as for `total`."""
        if self.metric != "spearman":
            return None
        tables = [np.concatenate(parts, 1) for parts in self._pairs[:subjects]]
        return resampled_ranks([table[0] for table in tables], tables[0][1], seed)

    def state(self) -> dict[str, Any]:
        return {"pairs": [np.concatenate(parts, 1) for parts in self._pairs]} if self.metric == "spearman" else {}

    def restore(self, state: dict[str, Any]) -> None:
        if self.metric == "spearman":
            self._pairs = [[table] for table in state["pairs"]]


class Function(Task):
    """FILE.py:FUNC. FUNC(outputs, sample) → float or dict of floats for one sample.

    `outputs` and `sample` hold numpy arrays by name, with a first axis of 1 where data are stacked.
    A dict's first entry is the task value. The file may define `reduce(list of results)`, which
    replaces the mean, and `higher_is_better` (True or False).
    """

    column = "value"

    def __init__(self, text: str, label_key: str = "label", output: str | None = None, metric: str | None = None) -> None:
        self.name = text
        super().__init__(label_key, output, metric)
        self._function: Callable[..., Any] = load_function(text)
        home = getattr(self._function, "__globals__", {})
        self.reduce: Callable[[list[Any]], Any] | None = home.get("reduce")
        self.higher_is_better = home.get("higher_is_better")
        self.metric = text.rpartition(":")[2]
        if self.reduce is not None:
            self.retained = "what the function returned, for reduce"
        self._results: dict[int, list[Any]] = {}
        self._sums: dict[int, dict[str, float]] = {}
        self._counts: dict[int, int] = {}

    def _call(self, outputs: Outputs, feed: Feed, subject: int) -> np.ndarray:
        values = []
        for i in range(feed.count):
            part = slice(i, i + 1)
            cut = (lambda a: a[part] if a.ndim and len(a) == feed.count else a)
            sample = {key: cut(a) for key, a in {**feed.inputs, **feed.extras}.items()}
            try:
                result = self._function({key: cut(a) for key, a in outputs.items()}, sample)
                first = next(iter(result.values())) if isinstance(result, Mapping) else result
                values.append(float(first) if self.reduce is None else math.nan)
            except Error:
                raise
            except Exception as error:
                raise InvalidInput(f"{self.name} raised {type(error).__name__} on sample {feed.start + i}: {one_line(error)}") from error
            self._keep(subject, result)
        return np.asarray(values)

    def _keep(self, subject: int, result: Any) -> None:
        self._counts[subject] = self._counts.get(subject, 0) + 1
        if self.reduce is not None:
            self._results.setdefault(subject, []).append(result)
        elif isinstance(result, Mapping):
            sums = self._sums.setdefault(subject, {})
            for key, value in result.items():
                sums[key] = sums.get(key, 0.0) + float(value)

    def state(self) -> dict[str, Any]:
        if self._results:
            raise InvalidInput(f"{self.name} has a reduce, which needs all results: no checkpoint can be written")
        return {"sums": {str(k): v for k, v in self._sums.items()}, "counts": {str(k): v for k, v in self._counts.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        self._sums = {int(k): v for k, v in state["sums"].items()}
        self._counts = {int(k): v for k, v in state["counts"].items()}

    def reference(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        super().reference(outputs, name, feed)
        self._subject = 0
        return {"value": self._call(outputs, feed, 0)}

    def candidate(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        columns = super().candidate(outputs, name, feed)
        self._subject += 1
        columns["value"] = self._call(outputs, feed, self._subject)
        return columns

    def extra_values(self, subject: int) -> dict[str, float]:
        """Means of all entries where FUNC returns dicts, or what `reduce` returns; the first is the task value."""
        if self.reduce is not None:
            try:
                reduced = self.reduce(self._results.get(subject, []))
            except Exception as error:
                raise InvalidInput(f"reduce of {self.name} raised {type(error).__name__}: {one_line(error)}") from error
            return {k: float(v) for k, v in reduced.items()} if isinstance(reduced, Mapping) else {self.metric: float(reduced)}
        return {key: value / self._counts[subject] for key, value in self._sums.get(subject, {}).items()}
