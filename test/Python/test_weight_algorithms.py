# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""GPTQ and AWQ against references in float64, written here from the papers; and what each algorithm is for."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from conftest import require_compiler

native = require_compiler()


@dataclass(frozen=True)
class Scheme:
    bits: int
    signed: bool
    symmetric: bool
    group: int | None = None

    @property
    def low(self) -> int:
        return -(1 << self.bits - 1) if self.signed else 0

    @property
    def high(self) -> int:
        return self.low + (1 << self.bits) - 1

    def arguments(self) -> dict:
        return {"type": f"{'iu'[not self.signed]}{self.bits}", "symmetric": self.symmetric, "group": self.group}

    def parameters(self, low: float, high: float) -> tuple[float, int]:
        """(Q3) and (Q4) of docs/quantization.md."""
        low, high = min(float(np.float32(low)), 0.0), max(float(np.float32(high)), 0.0)
        half = 1 << self.bits - 1
        if low == high == 0:
            return 1.0, half if self.symmetric and not self.signed else 0
        if self.symmetric:
            return float(np.float32(max(-low, high) / (half - 1))), 0 if self.signed else half
        scale = float(np.float32((high - low) / (self.high - self.low)))
        return scale, int(np.clip(np.rint(self.low - low / scale), self.low, self.high))

    def real(self, w, scale: float, zero: int):
        q = np.clip(np.rint(w / scale) + zero, self.low, self.high)
        return np.asarray(np.float32(q - zero) * np.float32(scale), np.float64)


def correlated_layer(rows: int, cols: int, count: int, seed: int):
    """Weights [rows, cols] and inputs [count, cols] that are mixtures of fewer sources, of unequal sizes."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(rows, cols)) * np.exp(0.3 * rng.normal(size=(rows, 1)))
    mixture = rng.normal(size=(max(cols // 2, 1), cols)) * np.exp(0.5 * rng.normal(size=cols))
    x = rng.normal(size=(count, mixture.shape[0])) @ mixture + 0.3 * rng.normal(size=(count, cols))
    return w.astype(np.float32), x.astype(np.float32)


def output_error(w, real, x) -> float:
    w, real, x = (np.asarray(a, np.float64) for a in (w, real, x))
    return float((((w - real) @ x.T) ** 2).sum() / ((w @ x.T) ** 2).sum())


def gptq(w, x, scheme: Scheme, act_order: bool, damping: float = 0.01):
    """Algorithm 1 of arXiv:2210.17323 one column at a time, with the authors' act order (and static groups)."""
    w, x = w.astype(np.float64), x.astype(np.float64)
    rows, cols = w.shape
    h = x.T @ x
    diagonal = np.diag(h).copy()
    h[np.diag_indices(cols)] += damping * diagonal.mean()
    order = np.lexsort((np.arange(cols), -diagonal)) if act_order else np.arange(cols)
    upper = np.linalg.cholesky(np.linalg.inv(h[np.ix_(order, order)])).T
    size = scheme.group or cols
    parameters = {(r, g): scheme.parameters(w[r, g * size:(g + 1) * size].min(), w[r, g * size:(g + 1) * size].max())
                  for r in range(rows) for g in range(-(-cols // size))}
    left, result = w[:, order].copy(), np.zeros_like(w)
    for k in range(cols):
        column = order[k]
        for r in range(rows):
            if scheme.group and not act_order and column % size == 0:
                parameters[r, column // size] = scheme.parameters(left[r, k:k + size].min(), left[r, k:k + size].max())
            result[r, column] = scheme.real(left[r, k], *parameters[r, column // size])
        left[:, k + 1:] -= np.outer((left[:, k] - result[:, column]) / upper[k, k], upper[k, k + 1:])
    return result


SCHEMES = [Scheme(4, False, False, 32), Scheme(4, True, True), Scheme(3, False, False, 16), Scheme(3, True, True, 48),
           Scheme(8, True, True), Scheme(8, False, False, 128), Scheme(4, False, True, 256)]


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_gptq_is_the_reference(scheme, act_order):
    for seed, cols in enumerate((33, 172, 300)):
        w, x = correlated_layer(8, cols, 3 * cols, seed)
        found = native.round_weights(w, algorithm="gptq", inputs=x, range="minmax", act_order=act_order, sweeps=0, refit=False, fall_back=False,
                                     **scheme.arguments())
        reference = gptq(w, x, scheme, act_order)
        assert np.abs(found["real"] - reference).max() <= 1e-5 * np.abs(w).max()
        assert found["output_error"] == pytest.approx(output_error(w, reference, x), rel=1e-5)


def plain(w, scheme: Scheme):
    result = np.zeros(w.shape)
    size = scheme.group or w.shape[1]
    for r in range(w.shape[0]):
        for c in range(0, w.shape[1], size):
            part = w[r, c:c + size]
            result[r, c:c + size] = scheme.real(part.astype(np.float64), *scheme.parameters(part.min(), part.max()))
    return result


def awq_scales(weights, x, scheme: Scheme, steps: int = 20):
    """The search of arXiv:2306.00978, section 3.2: s = mean|x|^alpha, normalized as in the authors' code."""
    x = x.astype(np.float64)
    size = np.maximum(np.abs(x).mean(0), 1e-4)
    best = None
    for alpha in np.arange(steps) / steps:
        power = np.maximum(size ** alpha, 1e-4)
        scales = (power / np.sqrt(power.max() * power.min())).astype(np.float32) if alpha else np.ones(len(size), np.float32)
        loss = sum((((w - plain(w * scales, scheme) / scales) @ x.T) ** 2).sum() for w in weights)
        if best is None or loss < best[0]:
            best = loss, alpha, scales
    energy = sum(((w.astype(np.float64) @ x.T) ** 2).sum() for w in weights)
    return best[1], best[2], best[0] / energy


@pytest.mark.parametrize("scheme", [Scheme(4, False, False, 32), Scheme(4, True, True), Scheme(3, False, False, 64)], ids=str)
def test_awq_scales_are_the_reference(scheme):
    for seed in range(3):
        w, x = correlated_layer(24, 96, 300, seed)
        x[:, seed::29] *= 12
        weights = [w[:8], w[8:]]
        found = native.awq_scales(weights, x, **scheme.arguments())
        alpha, scales, error = awq_scales(weights, x, scheme)
        assert found["alpha"] == pytest.approx(alpha)
        np.testing.assert_allclose(found["scales"], scales, rtol=1e-5)
        assert found["error"] == pytest.approx(error, rel=1e-5)
        assert found["error"] < 0.9 * found["plain_error"]


def clip_cost(w, h, scheme: Scheme):
    """The least output error of one range over the ranges shrunk to 100, 99, … 30 %."""
    least = np.inf
    for i in range(71):
        keep = np.float32(1) - np.float32(i) / np.float32(100)
        e = w - scheme.real(w.astype(np.float64), *scheme.parameters(w.min() * keep, w.max() * keep))
        least = min(least, e @ h @ e)
    return least


@pytest.mark.parametrize("scheme", [Scheme(4, False, False, 32), Scheme(4, True, True, 64), Scheme(3, True, True)], ids=str)
def test_awq_clipping_is_no_worse_than_the_search_over_shrunk_ranges(scheme):
    w, x = correlated_layer(12, 96, 300, 5)
    h = x.astype(np.float64).T @ x
    found = native.round_weights(w, algorithm="awq", inputs=x, sweeps=0, **scheme.arguments())
    size = scheme.group or 96
    for r in range(12):
        for c in range(0, 96, size):
            block = h[c:c + size, c:c + size]
            e = w[r, c:c + size] - found["real"][r, c:c + size].astype(np.float64)
            assert e @ block @ e <= clip_cost(w[r, c:c + size], block, scheme) * (1 + 1e-5)


@pytest.mark.parametrize("options", [{"algorithm": "gptq"}, {"algorithm": "gptq", "sweeps": 0, "refit": False, "range": "minmax"},
                                     {"algorithm": "gptq", "act_order": False, "range": "mse"}, {"algorithm": "awq", "sweeps": 0}], ids=str)
def test_better_than_nearest_on_correlated_inputs(options):
    better = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        scheme = SCHEMES[seed % len(SCHEMES)]
        w, x = correlated_layer(int(rng.integers(4, 40)), int(rng.integers(16, 200)), 800, seed)
        found = native.round_weights(w, inputs=x[:400], held_out=x[400:], fall_back=False, **options, **scheme.arguments())
        better += found["held_out_error"] < found["rtn_held_out_error"]
    assert better >= 95


def test_gptq_on_scaled_weights():
    """x' = x / s, W' = W s: the same layer, and GPTQ's error on it is measured with the moments of x'."""
    w, x = correlated_layer(32, 128, 600, 3)
    x[:, 5] *= 30
    scheme = {"type": "u4", "group": 32, "symmetric": False}
    scales = native.awq_scales([w], x, **scheme)["scales"]
    found = native.round_weights(w * scales, algorithm="gptq", inputs=x / scales, **scheme)
    assert not found["fell_back"]
    assert found["output_error"] == pytest.approx(output_error(w, found["real"] / scales, x), rel=1e-3)
    assert found["output_error"] < native.round_weights(w, algorithm="rtn", inputs=x, **scheme)["output_error"]


def test_float_targets_are_the_reference():
    w, x = correlated_layer(16, 80, 500, 4)
    seen = x + 0.05 * np.random.default_rng(4).normal(size=x.shape).astype(np.float32) * np.abs(x).mean(0)
    seen = (seen * np.float32(0.95)).astype(np.float32)
    found = native.round_weights(w, type="i8", algorithm="mse", inputs=seen, float_inputs=x, fall_back=False)
    s, f = seen.astype(np.float64), x.astype(np.float64)
    h, c = s.T @ s, s.T @ (f - s)
    target = w + 0.5 * np.linalg.solve(h + 0.1 * np.diag(h).mean() * np.eye(80), c @ w.T.astype(np.float64)).T
    error = ((((target - found["real"]) @ s.T) ** 2).sum()) / ((w @ s.T) ** 2).sum()
    assert found["output_error"] == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("algorithm", ["mse", "hqq", "awq", "gptq"])
def test_same_bytes_for_any_number_of_threads(algorithm):
    w, x = correlated_layer(50, 300, 700, 6)
    results = [native.round_weights(w, type="u4", group=32, symmetric=False, algorithm=algorithm, inputs=x, threads=t) for t in (1, 2, 3)]
    for other in results[1:]:
        for key in ("q", "scales", "zeros"):
            assert results[0][key].tobytes() == other[key].tobytes()
        assert results[0]["output_error"] == other["output_error"]


def test_hqq_is_no_worse_than_nearest_in_the_weights():
    w, _ = correlated_layer(40, 172, 10, 7)
    for scheme in SCHEMES:
        near, fitted = (native.round_weights(w, algorithm=a, **scheme.arguments())["relative_error"] for a in ("rtn", "hqq"))
        assert fitted <= near


def test_refuses():
    w, x = correlated_layer(4, 16, 20, 8)
    with pytest.raises(ValueError, match="GPTQ needs the second moments"):
        native.round_weights(w, algorithm="gptq")
    with pytest.raises(ValueError, match="the moments are of 15 inputs, expected 16"):
        native.round_weights(w, algorithm="gptq", inputs=x[:, :15].copy())
    with pytest.raises(ValueError, match="algorithm 'best' is none of rtn, mse"):
        native.round_weights(w, algorithm="best")
    x[3, 3] = np.inf
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        native.round_weights(w, algorithm="gptq", inputs=x)
    w[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"weight \[1, 2\] is NaN"):
        native.round_weights(w)
