# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Quantiles of any number of values in bounded memory: a DDSketch for the bulk, the largest values kept as they are."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import Unavailable

KEEP = 16384  # the largest values, exact; with no more than so many values everything is
ACCURACY = 4e-4  # relative error of the quantiles of all others
# Among the others: smaller ones count as zero, larger ones as that; it bounds the number of bins.
_FLOOR, _CEILING = 1e-30, 1e30
_SIGNS = (1.0, -1.0)

LEVELS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class Distribution:
    """Values in any order; the figures depend on the values alone, not on how they were split or merged.

    Quantiles interpolate linearly between order statistics, as numpy's default does. Those that fall
    among the KEEP largest values are exact, all others have a relative error of at most ACCURACY
    (Masson, Rim and Lee, "DDSketch", VLDB 2019). One NaN makes every figure NaN.
    """

    def __init__(self) -> None:
        try:
            from ddsketch.ddsketch import BaseDDSketch
            from ddsketch.mapping import LogarithmicMapping
            from ddsketch.store import DenseStore
        except ImportError:
            raise Unavailable("evaluating needs the Python package ddsketch: pip install ddsketch") from None
        self.count = self._nan = 0
        self._sum = 0.0
        self._top = np.empty(0)  # sorted; the largest of all but the buffer
        self._buffer = np.empty(KEEP)
        self._filled = 0
        self._mapping = LogarithmicMapping(ACCURACY)
        self._make = lambda: (DenseStore(), DenseStore())
        self._sketch_class = BaseDDSketch
        self._sketch: BaseDDSketch | None = None  # of the counts, made when it is asked
        self._step = math.log(self._mapping.gamma)
        self._first = math.ceil(math.log(_FLOOR) / self._step)
        self._bins: list[np.ndarray | None] = [None, None]  # counts by key, of positive and negative values
        self._zeros = 0

    def add(self, values: np.ndarray) -> None:
        values = np.asarray(values, np.float64).ravel()
        missing = np.isnan(values)
        if missing.any():
            self._nan += int(missing.sum())
            values = values[~missing]
        self.count += len(values)
        self._sum += float(values.sum())
        while len(values):
            step = min(KEEP - self._filled, len(values))
            self._buffer[self._filled : self._filled + step] = values[:step]
            self._filled += step
            values = values[step:]
            if self._filled == KEEP:
                self._flush()

    def merge(self, other: Distribution) -> None:
        """Takes in what the other has seen; the other is left as it is."""
        self._nan += other._nan
        total, count = self._sum + other._sum, self.count + other.count
        self.add(other._top)
        self.add(other._buffer[: other._filled])
        for which, bins in enumerate(other._bins):
            if bins is not None:
                used = np.flatnonzero(bins)
                self._counts(which)[used] += bins[used]
        self._zeros += other._zeros
        self._sketch = None
        self._sum, self.count = total, count

    def _flush(self) -> None:
        """Merges the buffer into the largest values; what they displace goes to the sketch."""
        values = np.sort(np.concatenate([self._top, self._buffer[: self._filled]]))
        self._filled = 0
        self._top, rest = values[-KEEP:].copy(), values[:-KEEP]
        if not len(rest):
            return
        self._sketch = None
        self._zeros += int((np.abs(rest) < _FLOOR).sum())
        for which, sign in enumerate(_SIGNS):
            part = sign * rest[sign * rest >= _FLOOR]
            if len(part):
                keys = np.ceil(np.log(np.minimum(part, _CEILING)) / self._step).astype(np.int64) - self._first
                kinds, counts = np.unique(keys, return_counts=True)
                self._counts(which)[kinds] += counts  # touches no page that needs no count

    def _counts(self, which: int) -> np.ndarray:
        bins = self._bins[which]
        if bins is None:
            bins = self._bins[which] = np.zeros(math.ceil(math.log(_CEILING) / self._step) - self._first + 2, np.int64)
        return bins

    def _used(self) -> list[tuple[float, np.ndarray, np.ndarray]]:
        """(sign, keys, counts) where there are any."""
        result = []
        for sign, bins in zip(_SIGNS, self._bins):
            if bins is not None:
                used = np.flatnonzero(bins)
                result.append((sign, used + self._first, bins[used]))
        return result

    def _bulk(self) -> Any:
        """The sketch of all values but the largest."""
        if self._sketch is None:
            stores = self._make()
            for sign, keys, counts in self._used():
                store = stores[sign < 0]
                for i in (0, len(keys) - 1, *range(1, len(keys) - 1))[: len(keys)]:  # both ends first: the store grows once
                    store.add(int(keys[i]), int(counts[i]))
            self._sketch = self._sketch_class(self._mapping, *stores, self._zeros)
        return self._sketch

    # Figures ------------------------------------------------------------------------------------

    @property
    def mean(self) -> float:
        return math.nan if self._nan or not self.count else self._sum / self.count

    def _largest(self) -> np.ndarray:
        """The largest values, sorted: all of them, or at least KEEP."""
        if self._filled:
            if len(self._top) + self._filled <= KEEP:
                self._top = np.sort(np.concatenate([self._top, self._buffer[: self._filled]]))
                self._filled = 0
            else:
                self._flush()
        return self._top

    def at(self, rank: int) -> float:
        """The value of a rank, 0 … count − 1."""
        top = self._largest()
        below = self.count - len(top)
        if rank >= below:
            return float(top[rank - below])
        value = self._bulk().get_quantile_value(rank / max(below - 1, 1))
        return min(float(value), float(top[0]))

    def quantile(self, level: float) -> float:
        if self._nan or not self.count:
            return math.nan
        rank = level * (self.count - 1)
        low = math.floor(rank)
        a = self.at(low)
        if rank == low:
            return a
        b = self.at(low + 1)
        return a if a == b else a + (b - a) * (rank - low)

    def upper_mean(self, share: float) -> float:
        """Conditional value at risk: the mean of the largest `share` of the values, at least one."""
        if self._nan or not self.count:
            return math.nan
        wanted = max(1, math.ceil(self.count * share))
        top = self._largest()
        total = float(top[-wanted:].sum())
        rest = wanted - len(top)
        if rest > 0:  # from the sketch, downwards
            for value, count in sorted(((s * self._mapping.value(int(k)), c) for s, keys, counts in self._used() for k, c in zip(keys, counts)), reverse=True):
                if value < 0 and self._zeros:  # zeros come before the negative ones and add nothing
                    rest -= self._zeros
                    if rest <= 0:
                        break
                taken = min(rest, count)
                total += value * taken
                rest -= taken
                if rest <= 0:
                    break
        return total / wanted

    def tail(self) -> dict[str, float]:
        """p50, p90, p99, p999, max, cvar1 (mean of the worst 1 %), mean."""
        result = {key: self.quantile(level) for key, level in LEVELS.items()}
        result.update(max=self.quantile(1.0), cvar1=self.upper_mean(0.01), mean=self.mean)
        self._sketch = None
        return result

    def _at_all(self, ranks: np.ndarray) -> np.ndarray:
        """`at` for many ranks, for curves."""
        top, used = self._largest(), {sign: (keys, counts) for sign, keys, counts in self._used()}
        none = (np.empty(0, np.int64), np.empty(0, np.int64))
        (up, up_counts), (down, down_counts) = used.get(1.0, none), used.get(-1.0, none)
        value = lambda keys: np.exp(keys * self._step) * (2 / (1 + self._mapping.gamma))  # noqa: E731
        values = np.concatenate([-value(down[::-1]), [0.0], value(up)])
        cumulated = np.cumsum(np.concatenate([down_counts[::-1], [self._zeros], up_counts]))
        below = self.count - len(top)
        bulk = values[np.minimum(np.searchsorted(cumulated, np.minimum(ranks, max(below - 1, 0)), side="right"), len(values) - 1)]
        return np.where(ranks >= below, top[np.maximum(ranks - below, 0)], np.minimum(bulk, top[0]))

    def survival(self, points: int = 160) -> list[tuple[float, float]]:
        """(value, share of the values that are at least that large), from the largest down, ranks spaced geometrically."""
        if self._nan or not self.count:
            return []
        ranks = np.unique(np.geomspace(1, self.count, points).astype(np.int64))
        return list(zip(self._at_all(self.count - ranks).tolist(), (ranks / self.count).tolist()))

    def representative(self, points: int = 4096) -> np.ndarray:
        """Sorted values: all of them where there are no more than KEEP, else those of evenly spaced ranks."""
        if not self.count:
            return np.empty(0)
        if self.count <= KEEP:
            return self._largest().copy()
        return self._at_all(np.linspace(0, self.count - 1, points).astype(np.int64))

    # Checkpoints --------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "nan": self._nan, "sum": self._sum, "top": self._top, "buffer": self._buffer[: self._filled].copy(),
                "zeros": self._zeros, "bins": [[sign, keys, counts] for sign, keys, counts in self._used()]}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Distribution:
        result = cls()
        result.count, result._nan, result._sum, result._top = state["count"], state["nan"], state["sum"], state["top"]
        result._filled = len(state["buffer"])
        result._buffer[: result._filled] = state["buffer"]
        result._zeros = state["zeros"]
        for sign, keys, counts in state["bins"]:
            result._counts(int(sign < 0))[keys - result._first] = counts
        return result
