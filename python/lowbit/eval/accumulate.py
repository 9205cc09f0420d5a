# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a run keeps: sums, sketches and the worst units. Its size does not depend on the number of samples."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InvalidInput
from ..feeds import Feed
from .groups import Grown, Named, Ranked
from .metrics import OutputDrift
from .pictures import thumbnail
from .sketch import Distribution
from .statistics import Buckets
from .tasks import Columns, Task

QUANTITIES = ("kl", "loss_increase", "confidence_loss", "max_abs", "relative_error", "cosine_distance", "value_change")
CONFIDENT = 0.9  # the reference's probability of its first choice
WORST = 10
CONTEXT = 8  # tokens before a worst one
POSITIONS = 16  # positions summed together for the search of a change
SEQUENCE = 50  # scored positions that a sequence needs to be judged by itself
MAX_SLICES = 64
DOCUMENT = "document"


def quantities(own: Columns, table: Columns) -> Columns:
    """Per-unit quantities of a candidate; in all of them more is worse."""
    result = dict(table)
    if "nll" in table:
        result["loss_increase"] = table["nll"] - own["nll"]
        result["confidence_loss"] = -table["delta_p"]
    if "value" in table and not np.isnan(table["value"]).all():
        result["value_change"] = np.abs(table["value"] - own["value"])
    return {name: result[name] for name in QUANTITIES if name in result}


class Facts:
    """Names of the columns that are summed, and how they come from a task's columns."""

    OWN = ("count", "value", "correct", "nll", "sure", "label", "label_square")
    EACH = ("value", "worst", "agree", "lost", "won", "broken", "other", "nll", "delta_p", "delta_p_square")

    def __init__(self, candidates: int) -> None:
        self.names = [*self.OWN, *(f"{i}.{name}" for i in range(candidates) for name in self.EACH)]
        self.index = {name: i for i, name in enumerate(self.names)}
        self.brief = [self.index[n] for n in ("count", "value", *(f"{i}.{k}" for i in range(candidates) for k in ("value", "worst", "agree")))]

    def rows(self, task: Task, own: Columns, theirs: list[Columns], worst: list[np.ndarray]) -> np.ndarray:
        """[units, columns]; what a task does not have is 0."""
        n = len(own["sample"])
        table = np.zeros((n, len(self.names)))
        put = lambda name, values: table.__setitem__((slice(None), self.index[name]), values)  # noqa: E731
        put("count", 1.0)
        for name in ("label", "label_square"):
            if name in own:
                put(name, own[name])
        if task.column:
            put("value", own[task.column])
        if "top1" in own:
            right = own["correct"] == 1
            sure = right & (own["confidence"] >= CONFIDENT)
            for name, values in (("correct", own["correct"]), ("nll", own["nll"]), ("sure", sure)):
                put(name, values)
        for i, (other, bad) in enumerate(zip(theirs, worst)):
            put(f"{i}.worst", bad)
            if task.column:
                put(f"{i}.value", other[task.column])
            if "top1" in own:
                hit, same = other["correct"] == 1, own["top1"] == other["top1"]
                each = {"agree": same, "lost": right & ~hit, "won": ~right & hit, "broken": sure & ~hit, "other": ~right & ~hit & ~same,
                        "nll": other["nll"], "delta_p": other["delta_p"], "delta_p_square": other["delta_p"] ** 2}
                for name, values in each.items():
                    put(f"{i}.{name}", values)
        return table


def bucket_names(what: str, numbers: np.ndarray, least: int) -> np.ndarray:
    """Names such as "length=64-127", by powers of two; everything below `least` is one."""
    power = np.floor(np.log2(np.maximum(numbers, 1))).astype(np.int64)
    power = np.where(numbers < least, -1, power)
    names = {int(p): f"{what}=0-{least - 1}" if p < 0 else f"{what}={2**int(p)}-{2 ** (int(p) + 1) - 1}" for p in np.unique(power)}
    return np.asarray([names[int(p)] for p in power])


class Accumulated:
    """Everything that was seen of one reference and its candidates; `add` takes the feeds in order."""

    def __init__(self, task: Task, candidates: int, outputs: list[str]) -> None:
        self.task, self.candidates = task, candidates
        self.facts = Facts(candidates)
        width = len(self.facts.names)
        self.samples = self.units = self.feeds = self.largest = 0
        self.total = np.zeros(width)
        self.outputs = [{name: OutputDrift() for name in outputs} for _ in range(candidates)]
        self.tails: list[dict[str, Distribution]] = [{} for _ in range(candidates)]
        self.worst: list[list[dict[str, Any]]] = [[] for _ in range(candidates)]
        self.slices, self.lengths, self.places = Named(width), Named(width), Named(width)
        self.margins = Ranked(width)
        self.targets = Grown(len(self.facts.brief) if task.name == "lm" else width)
        self.positions = Grown(2 + 2 * candidates)
        self.kinds: set[str] | None = None
        self.means: Buckets | None = None
        self._open: dict[int, np.ndarray] = {}
        self.sequences: list[tuple[float, int] | None] = [None] * candidates
        self.first: int | None = None
        self.clusters = "sample"

    # Adding -------------------------------------------------------------------------------------

    def add(self, feed: Feed, own: Columns, theirs: list[Columns], additive: list[np.ndarray], slices: Columns) -> None:
        """own, theirs: a task's columns; additive: its averages' terms, of the reference and each candidate; slices: the data's."""
        if self.first is None:
            self.first = feed.start
        self.samples = max(self.samples, feed.start + feed.count - self.first)
        self.largest = max(self.largest, feed.count)
        self.feeds += 1
        if self.kinds is not None and set(slices) != self.kinds:
            raise InvalidInput(f"{feed.origin}: its slice: arrays are {sorted(slices)}, those of earlier samples {sorted(self.kinds)}")
        self.kinds = set(slices)
        if not len(own["sample"]):
            return
        found = [quantities(own, table) for table in theirs]
        with np.errstate(invalid="ignore", over="ignore"):
            rows = self.facts.rows(self.task, own, theirs, [q[self.task.worst_by] for q in found])
            self.total += rows.sum(0)
            for i, table in enumerate(found):
                for name, values in table.items():
                    self.tails[i].setdefault(name, Distribution()).add(values)
                self._worst(i, feed, own, theirs[i], table)
            self._group(feed, own, rows, slices)
            self._average(feed, own, theirs, additive)
        self.units += len(rows)

    def _group(self, feed: Feed, own: Columns, rows: np.ndarray, slices: Columns) -> None:
        if "margin" in own:
            self.margins.add(own["margin"], rows)
        if "target" in own:
            self.targets.add(own["target"], rows[:, self.facts.brief] if self.task.name == "lm" else rows)
        for name, values in slices.items():
            self.slices.add(np.char.add(f"{name}=", values), rows)
            if len(self.slices.rows) > MAX_SLICES * len(slices):
                raise InvalidInput(f"'slice:{name}' has more than {MAX_SLICES} different values")
        lengths = _lengths(feed)
        if lengths is not None:
            self.lengths.add(bucket_names("length", lengths[own["sample"] - feed.start], 16), rows)
        if "position" in own:
            self.places.add(bucket_names("position", own["position"], 32), rows)
            index = self.facts.index
            change = [rows[:, index[f"{i}.nll"]] - rows[:, index["nll"]] for i in range(self.candidates)]
            self.positions.add(own["position"] // POSITIONS, np.stack([rows[:, 0], rows[:, index["nll"]], *change, *(c * c for c in change)], 1))
            self._sequence(feed, own["sample"], np.stack([rows[:, 0], *change], 1))

    def _sequence(self, feed: Feed, samples: np.ndarray, rows: np.ndarray) -> None:
        """Sums the windows of a sequence; a sequence is over when a later one begins."""
        for sample in [s for s in self._open if s < feed.start]:
            self._close(sample)
        for sample in np.unique(samples).tolist():
            self._open[sample] = self._open.get(sample, 0.0) + rows[samples == sample].sum(0)

    def _close(self, sample: int) -> None:
        count, *sums = self._open.pop(sample)
        for i, change in enumerate(sums):
            mean = change / count
            if count >= SEQUENCE and (self.sequences[i] is None or mean > self.sequences[i][0]):
                self.sequences[i] = (float(mean), sample)

    def finish(self) -> None:
        """To be called once, after the last feed."""
        for sample in sorted(self._open):
            self._close(sample)

    def _average(self, feed: Feed, own: Columns, theirs: list[Columns], additive: list[np.ndarray]) -> None:
        columns = np.concatenate([np.empty((len(own["sample"]), 0)), *additive, *(table["kl"][:, None] for table in theirs if "kl" in table)], 1)
        if self.means is None:
            self.means = Buckets(columns.shape[1])
        clusters = own["sample"] - self.first
        if DOCUMENT in feed.extras:
            self.clusters = DOCUMENT
            documents = np.asarray(feed.extras[DOCUMENT]).reshape(-1)
            if len(documents) != feed.count or documents.dtype.kind not in "iu" or documents.min() < 0:
                raise InvalidInput(f"{feed.origin}: '{DOCUMENT}' must hold one number ≥ 0 per sample, which document it is from")
            clusters = documents.astype(np.int64)[own["sample"] - feed.start]
        self.means.add(clusters, columns)

    def _worst(self, i: int, feed: Feed, own: Columns, table: Columns, found: Columns) -> None:
        """Keeps the units with the largest `worst_by` quantity, worst first; NaN counts as worst of all."""
        kept = self.worst[i]
        key = np.nan_to_num(found[self.task.worst_by], nan=np.inf)
        order = np.argsort(-key, kind="stable")[:WORST]
        for unit in order.tolist():
            if len(kept) == WORST and key[unit] <= kept[-1]["key"]:
                break
            picture = None if "position" in own else thumbnail(feed.inputs, int(own["sample"][unit]) - feed.start, feed.count)
            kept.append({"key": float(key[unit]), "entry": self._entry(i, unit, feed, own, table, found), "picture": picture})
            kept.sort(key=lambda item: -item["key"])
            del kept[WORST:]

    def _entry(self, i: int, unit: int, feed: Feed, own: Columns, table: Columns, found: Columns) -> dict[str, Any]:
        sample = int(own["sample"][unit])
        entry: dict[str, Any] = {"index": sample, self.task.worst_by: float(found[self.task.worst_by][unit]), "origin": feed.origin}
        if "position" in own:
            entry["position"] = int(own["position"][unit])
            row, here = sample - feed.start, entry["position"] - feed.offset
            entry["context"] = [int(t) for t in feed.tokens[row, max(0, here - CONTEXT) : here]]
        described = self.task.describe(i)
        if described is not None:
            entry.update(described, confidence=float(own["confidence"][unit]), loss_increase=float(found["loss_increase"][unit]))
        elif "top1" in own:
            entry.update(label=int(own["target"][unit]), reference=int(own["top1"][unit]), candidate=int(table["top1"][unit]),
                         confidence=float(own["confidence"][unit]), delta_p=float(table["delta_p"][unit]), loss_increase=float(found["loss_increase"][unit]))
        return entry

    # Reading ------------------------------------------------------------------------------------

    def sum(self, name: str) -> float:
        return float(self.total[self.facts.index[name]])

    def mean(self, name: str) -> float:
        return self.sum(name) / self.units

    # Checkpoints --------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All of it, for `state.save`."""
        return {
            "counts": [self.samples, self.units, self.feeds, self.largest, self.first], "clusters": self.clusters, "total": self.total,
            "kinds": None if self.kinds is None else sorted(self.kinds),
            "outputs": [{name: drift.state() for name, drift in each.items()} for each in self.outputs],
            "tails": [{name: tail.state() for name, tail in each.items()} for each in self.tails],
            "worst": self.worst, "slices": self.slices.rows, "lengths": self.lengths.rows, "places": self.places.rows,
            "margins": self.margins.state(), "targets": self.targets.rows, "positions": self.positions.rows,
            "means": None if self.means is None else [self.means.columns, self.means.state()],
            "open": [[sample, row] for sample, row in self._open.items()], "sequences": self.sequences, "task": self.task.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes the place of what was seen so far."""
        self.samples, self.units, self.feeds, self.largest, self.first = state["counts"]
        self.clusters, self.total, self.worst = state["clusters"], state["total"], state["worst"]
        self.kinds = None if state["kinds"] is None else set(state["kinds"])
        for each, saved in zip(self.outputs, state["outputs"]):
            for name, drift in each.items():
                drift.restore(saved[name])
        self.tails = [{name: Distribution.restored(saved) for name, saved in each.items()} for each in state["tails"]]
        self.slices.rows, self.lengths.rows, self.places.rows = state["slices"], state["lengths"], state["places"]
        self.margins.restore(state["margins"])
        self.targets.rows, self.positions.rows = state["targets"], state["positions"]
        if state["means"] is not None:
            self.means = Buckets(state["means"][0])
            self.means.restore(state["means"][1])
        self._open = {int(sample): row for sample, row in state["open"]}
        self.sequences = [None if best is None else (best[0], best[1]) for best in state["sequences"]]
        self.task.restore(state["task"])


def _lengths(feed: Feed) -> np.ndarray | None:
    """Tokens of each sample, where it has any."""
    if feed.length:
        return np.full(feed.count, feed.length)
    for name, array in feed.inputs.items():
        if "mask" in name and array.ndim == 2 and len(array) == feed.count:
            return array.astype(np.int64).sum(1)
    return None


