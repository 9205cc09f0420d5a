# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Statistics against exact figures worked out by hand or by brute force."""
import math

import numpy as np
import pytest

from lowbit.eval.sketch import KEEP, Distribution
from lowbit.eval.statistics import Buckets, binomial_tail, detectable_drop, holm, interval, mcnemar_p, two_sided_p


@pytest.mark.parametrize("lost, won, expected", [
    (0, 0, 1.0), (5, 5, 1.0), (1, 0, 0.5), (6, 0, 1 / 64), (0, 6, 1 / 64),
    (10, 2, (2 * (1 + 12 + 66) - 66) / 4096),
    (5, 1, (2 * 7 - 6) / 64),
])
def test_mcnemar_is_the_mid_p_of_the_binomial(lost, won, expected):
    assert mcnemar_p(lost, won) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("trials, successes, probability", [(20, 7, 0.3), (50, 1, 0.02), (9, 9, 0.9), (5, 0, 0.1)])
def test_binomial_tail_sums_the_terms(trials, successes, probability):
    expected = sum(math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k) for k in range(successes, trials + 1))
    assert binomial_tail(successes, trials, probability) == pytest.approx(expected, rel=1e-10)


def test_large_counts_do_not_overflow():
    assert mcnemar_p(2661, 182) == 0.0 or mcnemar_p(2661, 182) < 1e-300
    assert 0.4 < binomial_tail(50_000, 100_000, 0.5) < 0.6


def test_mcnemar_is_right_about_equal_models():
    """Two models that are wrong equally often differ "significantly" in 5 % of experiments."""
    rng = np.random.default_rng(11)
    discordant = np.repeat([100, 137, 200, 391], 10_000)
    lost = rng.binomial(discordant, 0.5)
    p = {(n, b): mcnemar_p(b, n - b) for n, b in set(zip(discordant.tolist(), lost.tolist()))}
    assert np.mean([p[pair] < 0.05 for pair in zip(discordant.tolist(), lost.tolist())]) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("pairs, discordant", [(1000, 60), (2000, 0), (300, 150), (10_000, 20), (100_000, 95), (100_000, 105), (100_000, 900)])
def test_the_detectable_drop_is_found_in_four_of_five_experiments(pairs, discordant):
    drop = detectable_drop(pairs, discordant)
    share = max(discordant / pairs, drop)
    draws = np.random.default_rng(1).multinomial(pairs, [(share + drop) / 2, (share - drop) / 2, 1 - share], size=3000)
    assert np.mean([mcnemar_p(int(b), int(c)) < 0.05 for b, c, _ in draws]) == pytest.approx(0.8, abs=0.05)


def test_few_pairs_detect_nothing():
    assert detectable_drop(4, 0) == 1.0 and detectable_drop(0, 0) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02]) == [0.02] and holm([0.9, 0.8])[0] == 1.0
    adjusted = holm([math.nan, 0.02, 0.03])
    assert math.isnan(adjusted[0]) and adjusted[1:] == pytest.approx([0.04, 0.04])


def reference_tail(values):
    ordered = np.sort(values)
    worst = math.ceil(len(values) / 100)
    return {"p50": np.quantile(values, 0.5), "p90": np.quantile(values, 0.9), "p99": np.quantile(values, 0.99), "p999": np.quantile(values, 0.999),
            "max": ordered[-1], "cvar1": ordered[-worst:].mean(), "mean": values.mean()}


def distribution(values, parts=7):
    result = Distribution()
    for part in np.array_split(values, parts):
        result.add(part)
    return result


@pytest.mark.parametrize("count", [1, 3, 3217, KEEP])
def test_figures_of_few_values_are_exact(count):
    values = np.random.default_rng(0).lognormal(size=count)
    assert distribution(values, min(count, 7)).tail() == pytest.approx(reference_tail(values), rel=1e-14)


def test_a_million_values():
    """Quantiles within 1e-3, the tail exact, the mean within 1e-9; whatever the batches."""
    values = np.random.default_rng(0).lognormal(-6, 2, 1_000_000)
    found, expected = distribution(values, 5000).tail(), reference_tail(values)
    assert found == pytest.approx(expected, rel=1e-3)
    for key in ("p99", "p999", "max", "cvar1", "mean"):
        assert found[key] == pytest.approx(expected[key], rel=1e-9)


def test_signs_zeros_and_infinity():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=60_000), np.zeros(30_000), -rng.lognormal(size=50_000)])
    rng.shuffle(values)
    found = distribution(values)
    for level in (0.01, 0.2, 0.45, 0.6, 0.75, 0.95):
        assert found.quantile(level) == pytest.approx(np.quantile(values, level), rel=2e-3)
    assert found.upper_mean(0.3) == pytest.approx(np.sort(values)[-42_000:].mean(), rel=1e-3)
    ranks = np.linspace(0, len(values) - 1, 4096).astype(int)
    assert distribution(values).representative() == pytest.approx(np.sort(values)[ranks], rel=1e-3)
    value, share = distribution(values).survival()[-1]
    assert value == pytest.approx(values.min(), rel=1e-3) and share == 1
    assert distribution(np.append(values, np.inf)).tail()["max"] == math.inf
    assert distribution(np.zeros(50_000)).tail() == {"p50": 0, "p90": 0, "p99": 0, "p999": 0, "max": 0, "cvar1": 0, "mean": 0}
    assert all(math.isnan(v) for v in distribution(np.append(values, np.nan)).tail().values())


def test_parts_merge_to_the_whole():
    values = np.random.default_rng(2).lognormal(size=100_000)
    whole, merged, other = distribution(values), distribution(values[:30_000]), distribution(values[30_000:])
    merged.merge(other)
    a, b = whole.tail(), merged.tail()
    assert b.pop("mean") == pytest.approx(a.pop("mean"), rel=1e-12) and a == pytest.approx(b, rel=1e-12)
    assert a["p50"] == b["p50"]
    assert Distribution.restored(whole.state()).tail() == whole.tail()


def bootstrap(values, clusters=None, seed=0, columns=None):
    buckets = Buckets(1 if columns is None else columns.shape[1])
    buckets.add(np.arange(len(values)) if clusters is None else clusters, values[:, None] if columns is None else columns)
    return buckets.means(seed)


def test_bootstrap_covers_the_standard_error():
    values = np.random.default_rng(3).normal(5, 2, 400)
    low, high = interval(bootstrap(values)[:, 0])
    error = values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


@pytest.mark.parametrize("kind, count", [("accuracy", 500), ("kl", 1000), ("kl in buckets", 10_000)])
def test_intervals_hold_the_truth_in_nineteen_of_twenty_experiments(kind, count):
    rng = np.random.default_rng(8)
    experiments, inside = 600, 0
    truth = 0.8 if kind == "accuracy" else math.exp(-4 + 0.5)
    for _ in range(experiments):
        values = (rng.random(count) < truth).astype(float) if kind == "accuracy" else rng.lognormal(-4, 1, count)
        buckets = small_buckets(values) if count > 1000 else Buckets(1)
        if count <= 1000:
            buckets.add(np.arange(count), values[:, None])
        low, high = interval(buckets.means(0, 400)[:, 0]) if kind == "accuracy" else buckets.studentized(0, 0, 250)
        inside += low <= truth <= high
    assert inside / experiments == pytest.approx(0.95, abs=0.02)


def test_the_bootstrap_t_interval_of_a_constant_is_a_point():
    buckets = Buckets(1)
    buckets.add(np.arange(10), np.full((10, 1), 0.5))
    assert buckets.studentized(0, 0) == [0.5, 0.5]


def small_buckets(values):
    class Small(Buckets):
        LIMIT = 512

    result = Small(1)
    result.add(np.arange(len(values)), values[:, None])
    return result


def test_buckets_do_not_keep_a_period():
    """Samples that alternate with a period of a power of two: buckets must mix them."""
    values = (np.arange(40_000) % 64 < 8).astype(float)
    spread = small_buckets(values).means(0).std()
    assert spread == pytest.approx(values.std() / math.sqrt(len(values)), rel=0.15)


def test_bootstrap_draws_whole_clusters():
    """40 copies of each of 25 values know no more than the 25 values."""
    values = np.random.default_rng(4).normal(size=25)
    clustered = interval(bootstrap(np.repeat(values, 40), np.repeat(np.arange(25), 40))[:, 0])
    assert clustered == pytest.approx(interval(bootstrap(values)[:, 0]), rel=1e-9)


def test_bootstrap_is_paired_and_seeded():
    values = np.random.default_rng(5).normal(size=100)
    both = np.stack([values, values + 1], 1)
    first = bootstrap(values, seed=7, columns=both)
    assert np.allclose(first[:, 1] - first[:, 0], 1)
    assert np.array_equal(first, bootstrap(values, seed=7, columns=both))
    assert not np.array_equal(first, bootstrap(values, seed=8, columns=both))


def test_p_of_resampled_changes():
    assert two_sided_p(np.ones(1999)) == 2 / 2000
    assert two_sided_p(np.array([-1.0, 1.0] * 1000)) == 1.0
