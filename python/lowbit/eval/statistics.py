# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Statistics of paired comparisons, in float64 and without scipy."""
from __future__ import annotations

import math

import numpy as np

# Quantiles of the normal distribution: two-sided 5 %, and 80 % power.
_Z_ALPHA, _Z_POWER = 1.959963984540054, 0.8416212335729143

_LEVELS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def _log_binomial(n: int, k: np.ndarray) -> np.ndarray:
    table = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1, dtype=np.float64)))))
    return table[n] - table[k] - table[n - k]


def binomial_tail(successes: int, trials: int, probability: float) -> float:
    """P(X ≥ successes) for X ~ Binomial(trials, probability), exactly."""
    if successes <= 0:
        return 1.0
    if probability <= 0:
        return 0.0
    if probability >= 1:
        return 1.0
    k = np.arange(successes, trials + 1)
    terms = _log_binomial(trials, k) + k * math.log(probability) + (trials - k) * math.log1p(-probability)
    return float(min(1.0, np.exp(terms).sum()))


def mcnemar_p(lost: int, won: int) -> float:
    """Two-sided exact McNemar test: `lost` pairs turned wrong, `won` turned right."""
    discordant = lost + won
    if lost == won:
        return 1.0
    return min(1.0, 2 * binomial_tail(max(lost, won), discordant, 0.5))


def detectable_drop(pairs: int, discordant: int) -> float:
    """The smallest drop (as a share) that `pairs` samples detect at p < 0.05 with 80 % power.

    The paired normal approximation with the observed share of discordant pairs, but never below
    6/pairs: five flips, all one way, still have an exact McNemar p of 0.0625.
    """
    if pairs <= 0:
        return 1.0
    share = discordant / pairs
    drop = 0.0
    for _ in range(50):  # d = (z_α √ψ + z_β √(ψ − d²)) / √n, by iteration; ψ is at least d
        spread = max(share, drop)
        drop = (_Z_ALPHA * math.sqrt(spread) + _Z_POWER * math.sqrt(max(spread - drop * drop, 0.0))) / math.sqrt(pairs)
        drop = min(drop, 1.0)
    if share == 0:
        drop = 0.0
    return float(min(1.0, max(drop, 6 / pairs)))


def tail(values: np.ndarray) -> dict[str, float]:
    """p50, p90, p99, p999 (linear interpolation), max, mean, and cvar1: the mean of the worst 1 % (at least one).

    NaN if any value is.
    """
    values = np.asarray(values, np.float64)
    if np.isnan(values).any():
        return {key: math.nan for key in (*_LEVELS, "max", "cvar1", "mean")}
    ordered = np.sort(values)
    with np.errstate(invalid="ignore"):  # ∞ − ∞ while interpolating
        result = {key: float(np.quantile(ordered, level)) for key, level in _LEVELS.items()}
    worst = max(1, math.ceil(len(ordered) * 0.01))
    result.update(max=float(ordered[-1]), cvar1=float(ordered[-worst:].mean()), mean=float(ordered.mean()))
    return result


class Bootstrap:
    """Resampled means of several columns at once, so that differences between them stay paired.

    clusters: for each value the number of the sample it came from; whole samples are drawn, because
    positions of one sequence are not independent.
    """

    def __init__(self, clusters: np.ndarray, seed: int, resamples: int = 2000) -> None:
        _, self._inverse = np.unique(clusters, return_inverse=True)
        self._count = int(self._inverse.max()) + 1
        self._sizes = np.bincount(self._inverse).astype(np.float64)
        self._seed, self._resamples = seed, resamples

    def means(self, columns: list[np.ndarray]) -> np.ndarray:
        """[resamples, columns]: means of resampled columns; every call draws the same resamples."""
        sums = np.stack([np.bincount(self._inverse, column) for column in columns], 1)
        table = np.concatenate([sums, self._sizes[:, None]], 1)
        rng = np.random.default_rng(self._seed)
        result = np.empty((self._resamples, len(columns)))
        for i in range(self._resamples):
            weights = np.bincount(rng.integers(0, self._count, self._count), minlength=self._count)
            total = weights @ table
            result[i] = total[:-1] / total[-1]
        return result


def interval(values: np.ndarray) -> list[float]:
    """The 95 % percentile interval."""
    if np.isnan(values).any():
        return [math.nan, math.nan]
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]
