# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How far one output is from another, in float64."""
from __future__ import annotations

import math

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log softmax over the last axis, [..., C] → float64 [..., C]; exact shifts, no overflow."""
    x = np.asarray(logits, np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def log_probabilities(values: np.ndarray) -> np.ndarray:
    """log of probabilities [..., C], as float64; zero counts as the smallest float32, 1.4e-45."""
    return np.log(np.maximum(np.asarray(values, np.float64), 1.401298464324817e-45))


def looks_like_probabilities(values: np.ndarray) -> bool:
    """Whether all rows [..., C] are distributions: within 0 … 1 and summing to 1."""
    x = np.asarray(values, np.float64)
    return bool(x.size and x.min() >= 0 and x.max() <= 1 + 1e-6 and np.abs(x.sum(-1) - 1).max() < 1e-3)


def kl_divergence(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """KL(reference ‖ candidate) in nats of log probabilities [..., C] → [...].

    Summed as p·(log p − log q) − (p − q), whose terms are all ≥ 0, so that rounding cannot make a
    tiny divergence negative.
    """
    p, q = np.exp(reference), np.exp(candidate)
    with np.errstate(invalid="ignore"):
        difference = np.where(p > 0, reference - candidate, 0.0)
    return np.maximum((p * difference - p + q).sum(-1), 0.0)


def row_distances(reference: np.ndarray, candidate: np.ndarray) -> dict[str, np.ndarray]:
    """For each row [n, …]: max_abs, relative_error |c − r| / |r|, cosine_distance 1 − cos."""
    r = np.asarray(reference, np.float64).reshape(len(reference), -1)
    c = np.asarray(candidate, np.float64).reshape(len(reference), -1)
    error = np.abs(c - r)
    rr, cc, ee = (r * r).sum(1), (c * c).sum(1), (error * error).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(ee == 0, 0.0, np.sqrt(ee / rr))
        # From the difference of the unit vectors: 1 − cos itself would cancel.
        unit = r / np.sqrt(rr)[:, None] - c / np.sqrt(cc)[:, None]
        cosine = 0.5 * (unit * unit).sum(1)
    cosine = np.where((rr == 0) & (cc == 0), 0.0, np.where((rr == 0) != (cc == 0), 1.0, cosine))
    return {"max_abs": error.max(1) if r.shape[1] else np.zeros(len(r)), "relative_error": relative, "cosine_distance": cosine}


class OutputDrift:
    """Cosine, SQNR and largest absolute error of one output over all samples."""

    def __init__(self) -> None:
        self._rr = self._cc = self._rc = self._ee = self._max = 0.0
        self.nonfinite = 0

    def add(self, reference: np.ndarray, candidate: np.ndarray) -> None:
        r = np.asarray(reference, np.float64).ravel()
        c = np.asarray(candidate, np.float64).ravel()
        self.nonfinite += int(c.size - np.isfinite(c).sum())
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.where(c == r, 0.0, c - r)
            # Not as BLAS products, whose rounding depends on the number of threads.
            self._rr += float(np.square(r).sum())
            self._cc += float(np.square(c).sum())
            self._rc += float((r * c).sum())
            self._ee += float(np.square(error).sum())
            if error.size:
                self._max = float(np.fmax(self._max, np.abs(error).max())) if not np.isnan(error).any() else math.nan

    def summary(self) -> dict[str, float]:
        """`sqnr_db` is 10·log10(Σr² / Σ(c − r)²); infinite where nothing differs."""
        if self._ee == 0:
            sqnr, cosine = math.inf, 1.0
        else:
            sqnr = 10 * math.log10(self._rr / self._ee) if self._rr > 0 and math.isfinite(self._ee) else -math.inf
            sqnr = math.nan if math.isnan(self._ee) else sqnr
            norm = math.sqrt(self._rr) * math.sqrt(self._cc)
            cosine = self._rc / norm if norm > 0 else 0.0
        return {"cosine": cosine, "sqnr_db": sqnr, "max_abs": self._max}

    def state(self) -> list[float]:
        return [self._rr, self._cc, self._rc, self._ee, self._max, self.nonfinite]

    def restore(self, state: list[float]) -> None:
        self._rr, self._cc, self._rc, self._ee, self._max, self.nonfinite = state
