# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Distances against direct computations in higher precision."""
import math

import numpy as np
import pytest

from lowbit.eval.metrics import OutputDrift, kl_divergence, log_probabilities, log_softmax, looks_like_probabilities, row_distances


def direct_kl(a, b):
    """Term by term in longdouble."""
    a, b = np.asarray(a, np.longdouble), np.asarray(b, np.longdouble)
    la = a - a.max() - np.log(np.exp(a - a.max()).sum())
    lb = b - b.max() - np.log(np.exp(b - b.max()).sum())
    return float((np.exp(la) * (la - lb)).sum())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_kl_is_the_textbook_sum(scale):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 17)).astype(np.float32) * scale
    b = a + rng.normal(size=a.shape).astype(np.float32) * 0.1
    found = kl_divergence(log_softmax(a), log_softmax(b))
    assert found == pytest.approx([direct_kl(x, y) for x, y in zip(a, b)], rel=1e-7, abs=1e-16)


def test_kl_is_never_negative_and_zero_for_the_same():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(1000, 500)) * 5
    assert (kl_divergence(log_softmax(a), log_softmax(a)) == 0).all()
    assert (kl_divergence(log_softmax(a), log_softmax(a * (1 + 1e-12))) >= 0).all()


def test_huge_logits_do_not_overflow():
    a, b = np.array([[3000.0, 0.0]]), np.array([[0.0, 3000.0]])
    assert kl_divergence(log_softmax(a), log_softmax(b))[0] == pytest.approx(3000)
    assert np.exp(log_softmax(np.array([[1e30, 1e30]])))[0] == pytest.approx([0.5, 0.5])


def test_probabilities_may_be_zero():
    p, q = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert math.isfinite(kl_divergence(log_probabilities(p), log_probabilities(q))[0])
    assert looks_like_probabilities(p) and not looks_like_probabilities(np.array([[0.5, 0.2]])) and not looks_like_probabilities(-p)


def test_row_distances():
    a = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [2.0, 2.0]])
    b = np.array([[3.0, 4.5], [0.0, 1.0], [0.0, 0.0], [2.0, 2.0]])
    found = row_distances(a, b)
    assert found["max_abs"] == pytest.approx([0.5, 1, 0, 0])
    assert found["relative_error"] == pytest.approx([0.1, math.sqrt(2), 0, 0])
    assert found["cosine_distance"] == pytest.approx([1 - (9 + 18) / (5 * math.hypot(3, 4.5)), 1, 0, 0], abs=1e-15)


def test_cosine_distance_keeps_small_angles():
    a = np.array([[1.0, 0.0]])
    assert row_distances(a, np.array([[1.0, 1e-9]]))["cosine_distance"][0] == pytest.approx(0.5e-18, rel=1e-6)


def test_output_drift_streams_to_the_whole():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(30, 8)).astype(np.float32)
    b = a + rng.normal(size=a.shape).astype(np.float32) * 0.01
    drift = OutputDrift()
    for i in range(0, 30, 7):
        drift.add(a[i : i + 7], b[i : i + 7])
    a, b = a.astype(np.float64), b.astype(np.float64)
    found = drift.summary()
    assert found["sqnr_db"] == pytest.approx(10 * math.log10((a**2).sum() / ((a - b) ** 2).sum()))
    assert found["cosine"] == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    assert found["max_abs"] == np.abs(a - b).max()


def test_output_drift_of_equal_and_of_broken_outputs():
    same, broken = OutputDrift(), OutputDrift()
    same.add(np.array([1.0, -np.inf]), np.array([1.0, -np.inf]))
    assert same.summary()["sqnr_db"] == math.inf and same.summary()["cosine"] == 1.0 and same.summary()["max_abs"] == 0
    broken.add(np.ones(3), np.array([1.0, np.nan, np.inf]))
    assert broken.nonfinite == 2 and math.isnan(broken.summary()["sqnr_db"]) and math.isnan(broken.summary()["max_abs"])
