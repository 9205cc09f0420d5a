# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Turns measured columns into the figures of the report."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import InvalidInput
from .run import Measured
from .statistics import Bootstrap, binomial_tail, detectable_drop, interval, mcnemar_p, tail

QUANTITIES = ("kl", "loss_increase", "max_abs", "relative_error", "cosine_distance", "value_change")
CONFIDENT = 0.9  # the reference's probability of its first choice
HARD, EASY = 0.1, 0.5  # least and most confident shares
MAX_SLICES = 64
WORST = 10


class Figures:
    """Computes each part of the report for one measurement."""

    def __init__(self, measured: Measured, seed: int) -> None:
        self.m = measured
        self.task, self.seed = measured.task, seed
        self.bootstrap = Bootstrap(measured.reference["sample"], seed)
        self.groups = self._groups()
        self._resampled: np.ndarray | None = None

    # Task values --------------------------------------------------------------------------------

    def _column(self, subject: int) -> np.ndarray:
        table = self.m.reference if subject == 0 else self.m.candidates[subject - 1]
        return table[self.task.column]

    def _total(self, subject: int) -> float:
        if hasattr(self.task, "total"):
            return self.task.total(subject)
        return float(self.task.value_of(self._column(subject).mean()))

    def resampled(self) -> np.ndarray:
        """[resamples, 1 + candidates] task values; columns are paired."""
        if self._resampled is None and hasattr(self.task, "resample"):
            self._resampled = self.task.resample(self.seed, len(self.m.candidates) + 1)
        if self._resampled is None:
            columns = [self._column(i) for i in range(len(self.m.candidates) + 1)]
            self._resampled = self.task.value_of(self.bootstrap.means(columns))
        return self._resampled

    def task_value(self, subject: int) -> dict[str, Any] | None:
        """{metric, value, ci95}; for candidates also the paired change. None for a task without a value."""
        if self.task.metric is None:
            return None
        extra = getattr(self.task, "extra_values", lambda _: {})(subject)
        if getattr(self.task, "reduce", None) is not None:
            return {"metric": self.task.metric, "value": next(iter(extra.values())), "ci95": None, "values": extra}
        value = self._total(subject)
        result = {"metric": self.task.metric, "value": value, "ci95": interval(self.resampled()[:, subject])}
        if subject:
            reference = self._total(0)
            change = self.resampled()[:, subject] - self.resampled()[:, 0]
            result["change"] = {"value": value - reference, "ci95": interval(change)}
        if extra:
            result["values"] = extra
        return result

    def check_reference(self) -> None:
        """Raises InvalidInput where the reference is no better than chance: then nothing it is compared with means anything."""
        table, n = self.m.reference, len(self.m.reference["sample"])
        message = None
        if self.task.name == "classify":
            right, classes = int(table["correct"].sum()), self.task.classes
            common = np.bincount(table["target"]).max() / n
            chance = 1 / classes
            # One label only (a slice of the data, say) leaves no other guess to compare with.
            chance = max(chance, common) if common < 1 else chance
            if classes > 1 and binomial_tail(right, n, chance) > 0.01:
                message = f"accuracy {right / n:.2%} on {n} samples, chance {chance:.2%}"
        elif self.task.name == "lm":
            value = float(np.exp(table["nll"].mean()))
            chance, what = float(self.task.classes), "a uniform guess"
            if n >= 20 * self.task.classes:
                share = np.bincount(table["target"]) / n
                share = share[share > 0]
                chance, what = float(np.exp(-(share * np.log(share)).sum())), "the tokens' own frequencies"
            if value >= chance:
                message = f"perplexity {value:.1f}, {what} {chance:.1f}"
        elif self.task.name == "regress" and n > 1:
            error = float(table["squared_error"].mean())
            variance = float(table["label_square"].mean() - table["label"].mean() ** 2)
            if error >= variance:
                message = f"mean squared error {error:.4g}, variance of the labels {variance:.4g}"
        elif self.task.name == "embed" and self.task.metric:
            low = interval(self.resampled()[:, 0])[0]
            if not low > 0:
                message = f"Spearman correlation {self._total(0):.3f}, whose 95 % interval reaches {low:.3f}"
        if message:
            raise InvalidInput(f"the reference is at chance level ({message}): check the preprocessing, the labels and the tokenizer")

    # Distances ----------------------------------------------------------------------------------

    def quantities(self, index: int) -> dict[str, np.ndarray]:
        """Per-unit quantities of a candidate; in all of them more is worse."""
        table = self.m.candidates[index]
        result = dict(table)
        if "nll" in table:
            result["loss_increase"] = table["nll"] - self.m.reference["nll"]
        if "value" in table and not np.isnan(table["value"]).all():
            result["value_change"] = np.abs(table["value"] - self.m.reference["value"])
        return {name: result[name] for name in QUANTITIES if name in result}

    def drift(self, index: int) -> dict[str, Any]:
        table, own = self.m.candidates[index], self.m.reference
        outputs = {name: drift.summary() for name, drift in self.m.outputs[index].items()}
        result: dict[str, Any] = {
            "outputs": outputs,
            "cosine": _worst(min, [o["cosine"] for o in outputs.values()]),
            "sqnr_db": _worst(min, [o["sqnr_db"] for o in outputs.values()]),
            "max_abs": _worst(max, [o["max_abs"] for o in outputs.values()]),
            "nonfinite": sum(drift.nonfinite for drift in self.m.outputs[index].values()),
        }
        if "kl" in table:
            result["kl"] = float(table["kl"].mean())
            result["top1_agreement"] = float((table["top1"] == own["top1"]).mean())
            with np.errstate(over="ignore"):
                result["perplexity"] = float(np.exp(table["nll"].mean()))
                result["perplexity_ratio"] = float(np.exp((table["nll"] - own["nll"]).mean()))
            if self.task.name == "lm":
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = self.resampled()[:, index + 1] / self.resampled()[:, 0]
                result["perplexity_ratio_ci95"] = interval(ratio)
        return result

    def tails(self, index: int) -> dict[str, Any]:
        return {name: tail(values) for name, values in self.quantities(index).items()}

    def worst(self, index: int) -> list[dict[str, Any]]:
        """The units with the largest `worst_by` quantity, worst first; NaN counts as worst of all."""
        quantities, own, table = self.quantities(index), self.m.reference, self.m.candidates[index]
        key = np.nan_to_num(quantities[self.task.worst_by], nan=np.inf)
        first = int(own["sample"].min())
        result = []
        for i in np.argsort(-key, kind="stable")[:WORST]:
            sample = int(own["sample"][i])
            entry: dict[str, Any] = {"index": sample, self.task.worst_by: float(quantities[self.task.worst_by][i])}
            origin = self.m.origins[sample - first] if sample - first < len(self.m.origins) else ""
            if origin and origin != self.m.protocol["data"]:
                entry["origin"] = origin
            if "position" in own:
                entry["position"] = int(own["position"][i])
                before = np.flatnonzero((own["sample"] == sample) & (own["position"] < own["position"][i]))[-8:]
                entry["context"] = [int(t) for t in own["target"][before]]
            if "top1" in own:
                entry.update(label=int(own["target"][i]), reference=int(own["top1"][i]), candidate=int(table["top1"][i]),
                             confidence=float(own["confidence"][i]), loss_increase=float(quantities["loss_increase"][i]))
            result.append(entry)
        return result

    # Slices and flips ---------------------------------------------------------------------------

    def _groups(self) -> dict[str, np.ndarray]:
        """Masks over the units: easy, hard, classes, and the data's own slices."""
        own, groups = self.m.reference, {}
        if "margin" in own:
            order = np.argsort(own["margin"], kind="stable")
            rank = np.empty(len(order), np.int64)
            rank[order] = np.arange(len(order))
            groups["hard"] = rank < max(1, round(HARD * len(order)))
            groups["easy"] = rank >= len(order) - max(1, round(EASY * len(order)))
        if self.task.name == "classify" and self.task.classes <= MAX_SLICES:
            for label in np.unique(own["target"]):
                groups[f"class={label}"] = own["target"] == label
        for name, values in self.m.slices.items():
            kinds = np.unique(values)
            if len(kinds) > MAX_SLICES:
                raise InvalidInput(f"'slice:{name}' has {len(kinds)} different values; at most {MAX_SLICES}")
            groups.update({f"{name}={kind}": values == kind for kind in kinds})
        return groups

    def slices(self, index: int) -> dict[str, Any]:
        own, table = self.m.reference, self.m.candidates[index]
        quantity = self.quantities(index)[self.task.worst_by]
        result = {}
        for name, mask in self.groups.items():
            entry: dict[str, Any] = {"count": int(mask.sum()), self.task.worst_by: float(quantity[mask].mean())}
            if self.task.column and getattr(self.task, "reduce", None) is None:
                values = [float(self.task.value_of(t[self.task.column][mask].mean())) for t in (own, table)]
                entry.update(reference=values[0], candidate=values[1], change=values[1] - values[0])
            if "top1" in own:
                entry["top1_agreement"] = float((own["top1"] == table["top1"])[mask].mean())
                lost, won = _flips(own["correct"][mask], table["correct"][mask])
                entry.update(correct_to_wrong=lost, wrong_to_correct=won, mcnemar_p=mcnemar_p(lost, won))
            result[name] = entry
        return result

    def flips(self, index: int) -> dict[str, Any] | None:
        """Answers that changed; `confident` are those that the reference got right with probability ≥ 0.9."""
        own, table = self.m.reference, self.m.candidates[index]
        if "correct" not in own:
            return None
        lost, won = _flips(own["correct"], table["correct"])
        pairs = len(own["correct"])
        sure = (own["confidence"] >= CONFIDENT) & (own["correct"] == 1)
        broken = int((sure & (table["correct"] == 0)).sum())
        both_wrong = (own["correct"] == 0) & (table["correct"] == 0) & (own["top1"] != table["top1"])
        return {
            "pairs": pairs, "correct_to_wrong": lost, "wrong_to_correct": won, "wrong_to_other_wrong": int(both_wrong.sum()),
            "mcnemar_p": mcnemar_p(lost, won), "detectable_drop": detectable_drop(pairs, lost + won),
            "confident": {"count": int(sure.sum()), "broken": broken, "share": broken / int(sure.sum()) if sure.any() else 0.0},
        }

    def worst_sequence(self, index: int) -> tuple[float, int] | None:
        """The largest perplexity ratio of one sequence with at least 50 scored positions, and its index."""
        own = self.m.reference
        names, inverse = np.unique(own["sample"], return_inverse=True)
        sizes = np.bincount(inverse)
        means = np.bincount(inverse, self.m.candidates[index]["nll"] - own["nll"]) / sizes
        means = np.where(sizes >= 50, means, -math.inf)
        best = int(np.argmax(means))
        return (float(np.exp(means[best])), int(names[best])) if means[best] > -math.inf else None


def _flips(reference: np.ndarray, candidate: np.ndarray) -> tuple[int, int]:
    return int(((reference == 1) & (candidate == 0)).sum()), int(((reference == 0) & (candidate == 1)).sum())


def _worst(pick: Any, values: list[float]) -> float:
    return math.nan if any(math.isnan(v) for v in values) else pick(values)
