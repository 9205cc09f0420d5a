# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Turns what a run has accumulated into the figures of the report."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import InvalidInput
from .accumulate import MAX_SLICES, POSITIONS
from .run import Measured
from .statistics import binomial_tail, detectable_change, detectable_drop, holm, interval, mcnemar_p, two_sided_p

HARD, EASY = 0.1, 0.5  # least and most confident shares
RARE, COMMON = 0.1, 0.5  # shares of the positions whose tokens are the rarest and the commonest


class Figures:
    """Computes each part of the report for one measurement."""

    def __init__(self, measured: Measured, seed: int) -> None:
        self.m, self.seen, self.task, self.seed = measured, measured.seen, measured.task, seed
        self.subjects = self.seen.candidates + 1
        self._resample()

    # Task values --------------------------------------------------------------------------------

    def _resample(self) -> None:
        """[resamples, subjects] task values with paired columns, and the intervals of mean KL."""
        means = self.seen.means.means(self.seed)
        total = self.seen.means.totals()
        kl = self.seen.candidates if "kl" in self.seen.tails[0] else 0
        self.kl = [self.seen.means.studentized(means.shape[1] - kl + i, self.seed) for i in range(kl)]
        self.values: list[float] = []
        self.resampled: np.ndarray | None = None
        if self.task.metric is None or getattr(self.task, "reduce", None) is not None:
            return
        self.resampled = self.task.resample(self.seed, self.subjects) if hasattr(self.task, "resample") else None
        if self.resampled is not None:
            self.values = [self.task.total(i) for i in range(self.subjects)]
            return
        width = (means.shape[1] - kl) // self.subjects
        with np.errstate(invalid="ignore", over="ignore"):
            self.resampled = np.stack([self.task.value_of(means[:, i * width : (i + 1) * width]) for i in range(self.subjects)], 1)
            self.values = [float(self.task.value_of(total[i * width : (i + 1) * width])) for i in range(self.subjects)]

    def task_value(self, subject: int) -> dict[str, Any] | None:
        """{metric, value, ci95}; for candidates also the paired change. None for a task without a value."""
        if self.task.metric is None:
            return None
        extra = getattr(self.task, "extra_values", lambda _: {})(subject)
        if self.resampled is None:
            return {"metric": self.task.metric, "value": next(iter(extra.values())), "ci95": None, "values": extra}
        result: dict[str, Any] = {"metric": self.task.metric, "value": self.values[subject], "ci95": interval(self.resampled[:, subject])}
        if subject:
            with np.errstate(invalid="ignore"):
                change = self.resampled[:, subject] - self.resampled[:, 0]
            result["change"] = {"value": self.values[subject] - self.values[0], "ci95": interval(change),
                                "p": two_sided_p(change), "detectable": detectable_change(change)}
        if extra:
            result["values"] = extra
        return result

    def correct(self, entries: list[dict[str, Any]]) -> None:
        """Adds Holm's correction for several candidates beside every p."""
        changes = [entry["task"]["change"] for entry in entries if entry["task"] and "change" in entry["task"]]
        for change, p in zip(changes, holm([change["p"] for change in changes])):
            change["p_adjusted"] = p
        flips = [entry["flips"] for entry in entries if entry["flips"]]
        for flip, p in zip(flips, holm([flip["mcnemar_p"] for flip in flips])):
            flip["mcnemar_p_adjusted"] = p

    def check_reference(self) -> None:
        """Raises InvalidInput where the reference is no better than chance: then nothing it is compared with means anything."""
        seen, n = self.seen, self.seen.units
        message = None
        if self.task.name == "classify":
            right, classes = int(seen.sum("correct")), self.task.classes
            common = seen.targets.rows[:, 0].max() / n
            chance = 1 / classes
            # One label only (a slice of the data, say) leaves no other guess to compare with.
            chance = max(chance, common) if common < 1 else chance
            if classes > 1 and binomial_tail(right, n, chance) > 0.01:
                message = f"accuracy {right / n:.2%} on {n} samples, chance {chance:.2%}"
        elif self.task.name in ("choices", "cloze", "generate"):
            right = int(seen.sum("correct"))
            chance = self.task.chance() if self.task.name == "choices" else 0.0
            if right == 0 or (chance and binomial_tail(right, n, chance) > 0.01):
                message = f"accuracy {right / n:.2%} on {n} items" + (f", chance {chance:.2%}" if chance else "")
        elif self.task.name == "lm":
            value = float(np.exp(seen.mean("nll")))
            chance, what = float(self.task.classes), "a uniform guess"
            if n >= 20 * self.task.classes:
                share = seen.targets.rows[:, 0] / n
                share = share[share > 0]
                chance, what = float(np.exp(-(share * np.log(share)).sum())), "the tokens' own frequencies"
            if value >= chance:
                message = f"perplexity {value:.1f}, {what} {chance:.1f}"
        elif self.task.name == "regress" and n > 1:
            error = seen.mean("value")
            variance = seen.mean("label_square") - seen.mean("label") ** 2
            if error >= variance:
                message = f"mean squared error {error:.4g}, variance of the labels {variance:.4g}"
        elif self.task.name == "embed" and self.task.metric:
            low = interval(self.resampled[:, 0])[0]
            if not low > 0:
                message = f"{self.task.metric.capitalize()} correlation {self.values[0]:.3f}, whose 95 % interval reaches {low:.3f}"
        if message:
            raise InvalidInput(f"the reference is at chance level ({message}): check the preprocessing, the labels and the tokenizer")

    # Distances ----------------------------------------------------------------------------------

    def drift(self, index: int) -> dict[str, Any]:
        seen = self.seen
        outputs = {name: drift.summary() for name, drift in seen.outputs[index].items()}
        result: dict[str, Any] = {
            "outputs": outputs,
            "cosine": _worst(min, [o["cosine"] for o in outputs.values()]),
            "sqnr_db": _worst(min, [o["sqnr_db"] for o in outputs.values()]),
            "max_abs": _worst(max, [o["max_abs"] for o in outputs.values()]),
            "nonfinite": sum(drift.nonfinite for drift in seen.outputs[index].values()),
        }
        if "kl" in seen.tails[index]:
            result["kl"] = seen.tails[index]["kl"].mean
            result["kl_ci95"] = self.kl[index]
            result["top1_agreement"] = seen.mean(f"{index}.agree")
            result["delta_p"] = {"mean": seen.mean(f"{index}.delta_p"), "rms": math.sqrt(seen.mean(f"{index}.delta_p_square"))}
            nll, own = seen.mean(f"{index}.nll"), seen.mean("nll")
            with np.errstate(over="ignore"):
                result["perplexity"] = float(np.exp(nll))
                result["perplexity_ratio"] = float(np.exp(nll - own))
            if self.task.name == "lm":
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = self.resampled[:, index + 1] / self.resampled[:, 0]
                    spread = np.log(ratio)
                result["perplexity_ratio_ci95"] = interval(ratio)
                result["perplexity_ratio_detectable"] = float(np.exp(detectable_change(spread)))
        return result

    def tails(self, index: int) -> dict[str, Any]:
        return {name: tail.tail() for name, tail in self.seen.tails[index].items()}

    def worst(self, index: int) -> list[dict[str, Any]]:
        """The units with the largest `worst_by` quantity, worst first."""
        result = []
        for item in self.seen.worst[index]:
            entry = dict(item["entry"])
            if entry["origin"] in ("", self.m.protocol["data"]):
                del entry["origin"]
            result.append(entry)
        return result

    # Slices and flips ---------------------------------------------------------------------------

    def _groups(self, index: int) -> Iterator[tuple[str, dict[str, float]]]:
        """(name, sums by column) of every slice."""
        seen = self.seen
        named = lambda row: dict(zip(seen.facts.names, row))  # noqa: E731
        if seen.task.worst_by == "kl":
            yield "hard", named(seen.margins.lowest(HARD))
            yield "easy", named(seen.margins.highest(EASY))
        if self.task.name == "classify":
            yield from ((f"class={label}", named(seen.targets.rows[label])) for label in self._classes(index))
        if self.task.name == "lm":
            rows = seen.targets.rows
            brief = [seen.facts.names[i] for i in seen.facts.brief]
            order = np.argsort(rows[:, 0], kind="stable")
            share = np.cumsum(rows[order, 0]) / seen.units
            for name, chosen in (("rare tokens", order[share <= RARE]), ("common tokens", order[share > 1 - COMMON])):
                if rows[chosen, 0].sum():
                    yield name, dict(zip(brief, rows[chosen].sum(0)))
        for part in (seen.slices, seen.lengths, seen.places):
            if part is seen.slices or len(part.rows) > 1:
                yield from ((name, named(part.rows[name])) for name in sorted(part.rows, key=_natural))

    def _classes(self, index: int) -> list[int]:
        """All classes; of more than 64 those that lost most."""
        rows, at = self.seen.targets.rows, self.seen.facts.index
        present = np.flatnonzero(rows[:, 0])
        if len(present) <= MAX_SLICES:
            return present.tolist()
        net = rows[present, at[f"{index}.lost"]] - rows[present, at[f"{index}.won"]]
        return sorted(present[np.argsort(-net, kind="stable")[:MAX_SLICES]].tolist())

    def slice_count(self) -> int:
        """How many slices were looked at, shown or not: the correction for looking that often."""
        seen = self.seen
        return (2 * (seen.task.worst_by == "kl") + (int((seen.targets.rows[:, 0] > 0).sum()) if self.task.name == "classify" else 0)
                + 2 * (self.task.name == "lm") + len(seen.slices.rows) + len(seen.lengths.rows) + len(seen.places.rows))

    def slices(self, index: int) -> dict[str, Any]:
        result = {}
        for name, sums in self._groups(index):
            count = sums["count"]
            mean = lambda column: float(sums[f"{index}.{column}"] / count)  # noqa: B023, E731
            entry: dict[str, Any] = {"count": int(count), self.task.worst_by: mean("worst")}
            if self.task.column and getattr(self.task, "reduce", None) is None:
                values = [float(self.task.slice_value(v)) for v in (sums["value"] / count, mean("value"))]
                entry.update(reference=values[0], candidate=values[1], change=values[1] - values[0])
            if self.task.worst_by == "kl":
                entry["top1_agreement"] = mean("agree")
                if f"{index}.lost" in sums:
                    lost, won = int(sums[f"{index}.lost"]), int(sums[f"{index}.won"])
                    entry.update(correct_to_wrong=lost, wrong_to_correct=won, mcnemar_p=mcnemar_p(lost, won))
            result[name] = entry
        return result

    def flips(self, index: int) -> dict[str, Any] | None:
        """Answers that changed; `confident` are those that the reference got right with probability ≥ 0.9."""
        if self.task.worst_by != "kl":
            return None
        count = lambda name: int(self.seen.sum(name))  # noqa: E731
        lost, won, pairs = count(f"{index}.lost"), count(f"{index}.won"), self.seen.units
        sure, broken = count("sure"), count(f"{index}.broken")
        return {
            "pairs": pairs, "correct_to_wrong": lost, "wrong_to_correct": won, "wrong_to_other_wrong": count(f"{index}.other"),
            "mcnemar_p": mcnemar_p(lost, won), "detectable_drop": detectable_drop(pairs, lost + won),
            "confident": {"count": sure, "broken": broken, "share": broken / sure if sure else 0.0},
        }

    def worst_sequence(self, index: int) -> tuple[float, int] | None:
        """The largest perplexity ratio of one sequence with at least 50 scored positions, and its index."""
        best = self.seen.sequences[index]
        return None if best is None else (float(np.exp(min(best[0], 700.0))), best[1])

    def position_change(self, index: int) -> dict[str, float] | None:
        """Where along the sequence the loss changes most: the split of the positions that explains most of its variance.

        {position, before, after, p}: the first position after the change, the perplexity ratios on both
        sides, and the p of a two-sample z-test, Bonferroni's correction over all splits.
        """
        rows = self.seen.positions.rows
        used = np.flatnonzero(rows[:, 0] > 0) if len(rows) else np.empty(0, int)
        if len(used) < 4:
            return None
        n, change = rows[used, 0], rows[used, 2 + index]
        squares = rows[used, 2 + self.seen.candidates + index]
        left, sums = np.cumsum(n)[:-1], np.cumsum(change)[:-1]
        total, all_sums = n.sum(), change.sum()
        right = total - left
        a, b = sums / left, (all_sums - sums) / right
        with np.errstate(invalid="ignore"):
            gain = (a - b) ** 2 * left * right / total
        gain = np.where((left >= 100) & (right >= 100), gain, -1.0)
        k = int(np.argmax(gain))
        if not gain[k] > 0:
            return None
        variance = max((squares.sum() - gain[k]) / total - (all_sums / total) ** 2, 1e-300)
        z = math.sqrt(gain[k] / variance)
        return {"position": int(used[k + 1] * POSITIONS), "before": float(np.exp(a[k])), "after": float(np.exp(b[k])),
                "p": min(1.0, math.erfc(z / math.sqrt(2)) * len(gain))}


def _natural(name: str) -> tuple[str, float, str]:
    """Orders length=64-127 before length=128-255."""
    key, _, value = name.partition("=")
    first = value.split("-")[0]
    return key, float(first) if first.isdigit() else math.inf, value


def _worst(pick: Any, values: list[float]) -> float:
    return math.nan if any(math.isnan(v) for v in values) else pick(values)
