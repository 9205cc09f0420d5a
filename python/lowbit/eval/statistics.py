# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Statistics of paired comparisons, in float64 and without scipy."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .groups import add_rows

# Quantiles of the normal distribution: two-sided 5 %, and 80 % power.
_Z_ALPHA, _Z_POWER = 1.959963984540054, 0.8416212335729143

RESAMPLES = 2000
_EXACT = 100  # expected discordant pairs up to which the power of McNemar's test is summed exactly

_LOG_FACTORIALS = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, 256, dtype=np.float64)))))


def _log_factorial(n: np.ndarray) -> np.ndarray:
    """log n!, from a table below 256, from Stirling's series above; relative error below 1e-14."""
    n = np.asarray(n, np.float64)
    x = np.maximum(n, 255.0)
    series = x * np.log(x) - x + 0.5 * np.log(2 * math.pi * x) + 1 / (12 * x) - 1 / (360 * x**3)
    return np.where(n < 256, _LOG_FACTORIALS[np.minimum(n, 255).astype(np.int64)], series)


def _log_binomial(n: int, k: np.ndarray) -> np.ndarray:
    return _log_factorial(n) - _log_factorial(k) - _log_factorial(n - k)


def binomial_tail(successes: int, trials: int, probability: float) -> float:
    """P(X ≥ successes) for X ~ Binomial(trials, probability), exactly."""
    if successes <= 0:
        return 1.0
    if probability <= 0:
        return 0.0
    if probability >= 1:
        return 1.0
    mean, reach = trials * probability, 60 * math.sqrt(trials * probability * (1 - probability)) + 100
    if successes < mean - reach:
        return 1.0
    # What lies further out is less than the smallest float64.
    k = np.arange(successes, min(trials, math.ceil(max(mean, successes) + reach)) + 1)
    terms = _log_binomial(trials, k) + k * math.log(probability) + (trials - k) * math.log1p(-probability)
    return float(min(1.0, np.exp(terms).sum()))


def mcnemar_p(lost: int, won: int) -> float:
    """Two-sided mid-p McNemar test: `lost` pairs turned wrong, `won` turned right.

    The exact p minus the probability of the very table seen (Fagerland, Lydersen and Laake, "The
    McNemar test for binary matched-pairs data", 2013): the exact test rejects too rarely.
    """
    discordant = lost + won
    if lost == won:
        return 1.0
    larger = max(lost, won)
    seen = math.exp(_log_binomial(discordant, np.asarray(larger)) - discordant * math.log(2))
    return float(min(1.0, max(0.0, 2 * binomial_tail(larger, discordant, 0.5) - seen)))


def _critical(discordant: np.ndarray) -> np.ndarray:
    """For each number of discordant pairs the fewest lost ones that are significant; more than all of them where none are."""
    top = int(discordant.max())
    result = np.empty(len(discordant), np.int64)
    k = np.arange(top + 1)
    for i, n in enumerate(discordant.tolist()):
        mass = np.exp(_log_binomial(n, k[: n + 1]) - n * math.log(2))
        tails = np.cumsum(mass[::-1])[::-1]
        p = 2 * tails - mass
        significant = np.flatnonzero((p < 0.05) & (2 * k[: n + 1] > n))
        result[i] = significant[0] if len(significant) else n + 1
    return result


def _power(drop: float, pairs: int, share: float, discordant: np.ndarray, critical: np.ndarray) -> float:
    """Probability that McNemar's test finds the drop where a `share` of the pairs is discordant."""
    share = min(1.0, max(share, drop))
    if share == 1:
        mass = (discordant == pairs).astype(np.float64)
    else:
        mass = np.exp(_log_binomial(pairs, discordant) + discordant * math.log(share) + (pairs - discordant) * math.log1p(-share))
    up = (share + drop) / (2 * share)
    seen = (mass > 1e-7) & (critical <= discordant)
    found = [binomial_tail(int(c), int(n), up) + (1 - binomial_tail(int(n - c) + 1, int(n), up)) for n, c in zip(discordant[seen], critical[seen])]
    return float(mass[seen] @ np.asarray(found))


def detectable_drop(pairs: int, discordant: int) -> float:
    """The smallest drop (as a share) that McNemar's test on `pairs` samples finds at p < 0.05 with 80 % power.

    Assumes the observed share of discordant pairs, or the drop itself where that is larger. Exact up
    to 100 observed discordant pairs, the normal approximation above.
    """
    if pairs <= 0:
        return 1.0
    share = discordant / pairs
    if discordant > _EXACT:
        drop = 0.0
        for _ in range(50):  # d = (z_α √ψ + z_β √(ψ − d²)) / √n, by iteration; ψ is at least d
            spread = max(share, drop)
            drop = min(1.0, (_Z_ALPHA * math.sqrt(spread) + _Z_POWER * math.sqrt(max(spread - drop * drop, 0.0))) / math.sqrt(pairs))
        return drop
    mean = max(discordant, 12)
    reach = min(pairs, int(mean + 8 * math.sqrt(mean) + 30))
    counts = np.arange(0, reach + 1)
    critical = _critical(counts)
    if reach == pairs and _power(1.0, pairs, share, counts, critical) < 0.8:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        # Beyond the counts looked at the test finds the drop all but surely.
        if (reach < pairs and middle * pairs > reach * 0.6) or _power(middle, pairs, share, counts, critical) >= 0.8:
            high = middle
        else:
            low = middle
        if high - low < 1e-3 * high:
            break
    return high


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction (1979): adjusted p-values, in the order given; NaN stays and does not count."""
    known = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    result, largest = list(p_values), 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[i] * (len(known) - rank)))
        result[i] = largest
    return result


class Buckets:
    """Sums of columns per cluster, for bootstrap intervals in bounded memory.

    A cluster (a sample, or a document) goes to one of at most 16384 buckets; with no more clusters than
    buckets each has its own, and resampling is the ordinary bootstrap. With more, a bucket is the sum of
    clusters picked without regard to their values, and resampling buckets estimates the same variance.
    """

    LIMIT, VALUES = 16384, 1 << 20

    def __init__(self, columns: int) -> None:
        size = self.LIMIT
        while size > 256 and size * (columns + 1) > self.VALUES:
            size //= 2
        self.columns = columns
        self._table = np.zeros((size, columns + 1))  # the last column counts units
        self._used = np.zeros(size, bool)

    def add(self, clusters: np.ndarray, columns: np.ndarray) -> None:
        """clusters: numbers ≥ 0, one per row of columns [n, k]."""
        size = len(self._table)
        block, inside = clusters // size, clusters % size
        # Another affine order in each block of `size`, so that nothing periodic in the data stays together.
        mixed = (block.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
        odd = np.where(block == 0, 1, (mixed & np.uint64(0x3FFF)).astype(np.int64) | 1)
        shift = np.where(block == 0, 0, (mixed >> np.uint64(20)).astype(np.int64) % size)
        bucket = (inside * odd + shift) % size
        self._used[bucket] = True
        add_rows(self._table, bucket, np.concatenate([columns, np.ones((len(columns), 1))], 1))

    def merge(self, other: Buckets) -> None:
        """Takes in another part of the data, whose clusters have numbers of their own."""
        self._table += other._table
        self._used |= other._used

    def _resampled(self, table: np.ndarray, seed: int, resamples: int) -> np.ndarray:
        """[resamples, columns of table]: sums over resampled rows; the same seed draws the same resamples."""
        rng, count = np.random.default_rng(seed), len(table)
        result = np.empty((resamples, table.shape[1]))
        step = max(1, (1 << 15) // count)
        for begin in range(0, resamples, step):
            rows = min(step, resamples - begin)
            draws = rng.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
            weights = np.bincount(draws.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
            for j in range(table.shape[1]):  # no BLAS: the same bits for any number of threads
                result[begin : begin + rows, j] = np.einsum("ri,i->r", weights, np.ascontiguousarray(table[:, j]))
        return result

    def means(self, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
        """[resamples, columns]: means of resampled columns."""
        with np.errstate(invalid="ignore", over="ignore"):
            total = self._resampled(self._table[self._used], seed, resamples)
            return total[:, :-1] / total[:, -1:]

    def studentized(self, column: int, seed: int, resamples: int = RESAMPLES) -> list[float]:
        """95 % bootstrap-t interval of the mean of a column whose values are ≥ 0 and may be skewed, as KL is.

        The percentile interval is too narrow for such values (Efron and Tibshirani, "An Introduction to
        the Bootstrap", 1993, chapter 12).
        """
        table = self._table[self._used]
        x, n = table[:, column], table[:, -1]
        if np.isnan(x).any():
            return [math.nan, math.nan]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            sums = self._resampled(np.stack([x, n, x * x, x * n, n * n], 1), seed, resamples)
            mean, error = _mean_and_error(np.stack([x, n, x * x, x * n, n * n], 1).sum(0))
            means, errors = _mean_and_error(sums)
            t = np.where(errors > 0, (means - mean) / errors, np.where(means == mean, 0.0, np.inf * np.sign(means - mean)))
        if not (math.isfinite(mean) and error > 0):
            return [float(mean), float(mean)]
        high, low = np.quantile(t, [0.975, 0.025], method="nearest")
        return [float(max(0.0, mean - high * error)), float(mean - low * error)]

    def totals(self) -> np.ndarray:
        """[columns]: the means of all units."""
        total = self._table[self._used].sum(0)
        return total[:-1] / total[-1]

    def state(self) -> dict[str, Any]:
        used = np.flatnonzero(self._used)
        return {"used": used, "rows": self._table[used]}

    def restore(self, state: dict[str, Any]) -> None:
        self._used[state["used"]] = True
        self._table[state["used"]] = state["rows"]


def _mean_and_error(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ratio Σx / Σn and its standard error, of sums [..., 5] of x, n, x², xn, n²."""
    x, n, xx, xn, nn = np.moveaxis(sums, -1, 0)
    mean = x / n
    return mean, np.sqrt(np.maximum(xx - 2 * mean * xn + mean * mean * nn, 0.0)) / n


def two_sided_p(changes: np.ndarray) -> float:
    """p of no change, from resampled changes: twice the share on the rarer side of 0; at least 2 / (resamples + 1)."""
    if np.isnan(changes).any():
        return math.nan
    side = min(int((changes <= 0).sum()), int((changes >= 0).sum()))
    return float(min(1.0, 2 * (side + 1) / (len(changes) + 1)))


def detectable_change(changes: np.ndarray) -> float:
    """The smallest change of a value that is found at p < 0.05 with 80 % power: 2.8 standard errors of the resampled changes."""
    return float((_Z_ALPHA + _Z_POWER) * np.std(changes)) if np.isfinite(changes).all() else math.nan


def interval(values: np.ndarray) -> list[float]:
    """The 95 % percentile interval."""
    if np.isnan(values).any():
        return [math.nan, math.nan]
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]
