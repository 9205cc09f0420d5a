# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Statistics against exact figures worked out by hand or by brute force."""
import math

import numpy as np
import pytest

from lowbit.eval.statistics import Bootstrap, binomial_tail, detectable_drop, interval, mcnemar_p, tail


@pytest.mark.parametrize("lost, won, expected", [
    (0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0), (6, 0, 2 / 64), (0, 6, 2 / 64),
    (10, 2, 2 * (1 + 12 + 66) / 4096),
    (5, 1, 2 * 7 / 64),
])
def test_mcnemar_is_the_exact_binomial(lost, won, expected):
    assert mcnemar_p(lost, won) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("trials, successes, probability", [(20, 7, 0.3), (50, 1, 0.02), (9, 9, 0.9), (5, 0, 0.1)])
def test_binomial_tail_sums_the_terms(trials, successes, probability):
    expected = sum(math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k) for k in range(successes, trials + 1))
    assert binomial_tail(successes, trials, probability) == pytest.approx(expected, rel=1e-10)


def test_large_counts_do_not_overflow():
    assert mcnemar_p(2661, 182) == 0.0 or mcnemar_p(2661, 182) < 1e-300
    assert 0.4 < binomial_tail(50_000, 100_000, 0.5) < 0.6


def test_detectable_drop_has_the_power_it_claims():
    """Simulated: 80 % of experiments with that drop are significant, give or take what the approximation costs."""
    pairs, discordant = 1000, 60
    drop = detectable_drop(pairs, discordant)
    rng = np.random.default_rng(1)
    share = discordant / pairs
    lost, won = (share + drop) / 2, (share - drop) / 2
    draws = rng.multinomial(pairs, [lost, won, 1 - lost - won], size=500)
    power = np.mean([mcnemar_p(int(b), int(c)) < 0.05 for b, c, _ in draws])
    assert 0.7 < power < 0.9


def test_detectable_drop_is_at_least_six_flips():
    assert detectable_drop(2000, 0) == 6 / 2000
    assert detectable_drop(4, 0) == 1.0


def test_tail_matches_numpy():
    values = np.random.default_rng(0).lognormal(size=3217)
    found = tail(values)
    ordered = np.sort(values)
    assert found["p50"] == np.quantile(values, 0.5)
    assert found["p999"] == np.quantile(values, 0.999)
    assert found["max"] == values.max()
    assert found["cvar1"] == pytest.approx(ordered[-33:].mean(), rel=1e-15)  # ⌈3217 / 100⌉ = 33


def test_tail_of_few_values_takes_at_least_one():
    assert tail(np.array([1.0, 2.0, 7.0]))["cvar1"] == 7.0


def test_tail_with_nan_is_nan():
    assert all(math.isnan(v) for v in tail(np.array([1.0, np.nan])).values())


def test_bootstrap_covers_the_standard_error():
    rng = np.random.default_rng(3)
    values = rng.normal(5, 2, 400)
    low, high = interval(Bootstrap(np.arange(400), seed=0).means([values])[:, 0])
    error = values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_bootstrap_draws_whole_clusters():
    """40 copies of each of 25 values know no more than the 25 values."""
    rng = np.random.default_rng(4)
    values = rng.normal(size=25)
    clustered = interval(Bootstrap(np.repeat(np.arange(25), 40), seed=0).means([np.repeat(values, 40)])[:, 0])
    plain = interval(Bootstrap(np.arange(25), seed=0).means([values])[:, 0])
    assert clustered == pytest.approx(plain, rel=1e-9)


def test_bootstrap_is_paired_and_seeded():
    values = np.random.default_rng(5).normal(size=100)
    first = Bootstrap(np.arange(100), seed=7).means([values, values + 1])
    assert np.allclose(first[:, 1] - first[:, 0], 1)
    assert np.array_equal(first, Bootstrap(np.arange(100), seed=7).means([values, values + 1]))
    assert not np.array_equal(first, Bootstrap(np.arange(100), seed=8).means([values, values + 1]))
