# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Correlations that need all values at once."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .statistics import RESAMPLES


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + last - 1) / 2)[inverse]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation; NaN where one side is constant."""
    return pearson(ranks(a), ranks(b))


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; NaN where one side is constant."""
    x, y = a - a.mean(), b - b.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / norm) if norm > 0 else float("nan")


def resampled_ranks(values: Sequence[np.ndarray], truth: np.ndarray, seed: int,
                    correlation: Callable[[np.ndarray, np.ndarray], float] = spearman) -> np.ndarray:
    """[resamples, len(values)] correlations of each of `values` with `truth`, the same resamples for all."""
    rng = np.random.default_rng(seed)
    result = np.empty((RESAMPLES, len(values)))
    for i in range(RESAMPLES):
        pick = rng.integers(0, len(truth), len(truth))
        result[i] = [correlation(v[pick], truth[pick]) for v in values]
    return result
