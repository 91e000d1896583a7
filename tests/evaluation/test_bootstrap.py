"""Paired differences against all resamples there are, known distributions, and what pairing and groups must do."""

from itertools import product

import numpy as np
import pytest

from blemish.evaluation.bootstrap import draw_resamples, expanded_confidence, paired_difference


def mean_of(values):
    return lambda sampled: float(values[sampled].mean())


def test_against_every_resample_there_is():
    """Five images have 5^5 resamples: the bootstrap's quantiles are those of all of them, but for the draws' chance."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=5), rng.normal(size=5)
    exact = np.array([(a - b)[list(chosen)].mean() for chosen in product(range(5), repeat=5)])
    actual = paired_difference(mean_of(a), mean_of(b), draw_resamples([0] * 5, draws=20_000), 5)
    assert actual.value == pytest.approx((a - b).mean())
    assert [actual.low, actual.high] == pytest.approx(np.quantile(exact, [0.025, 0.975]), abs=0.05)
    assert actual.better == pytest.approx((exact > 0).mean(), abs=0.02)


def test_strata_against_every_resample_there_is():
    values, strata = np.array([0.0, 1.0, 5.0, 9.0]), ["good", "good", "bad", "bad"]
    exact = sorted({(values[i] + values[j] + values[k] + values[m]) / 4
                    for i, j in product((0, 1), repeat=2) for k, m in product((2, 3), repeat=2)})  # fmt: skip
    sampled = {float(values[one].mean()) for one in draw_resamples(strata, draws=500)}
    assert sorted(sampled) == pytest.approx(exact)


def test_the_normal_interval_of_a_mean():
    rng = np.random.default_rng(1)
    difference = rng.normal(0.3, 1, 400)
    actual = paired_difference(mean_of(difference), lambda _: 0.0, draw_resamples([0] * 400), 400)
    half = 1.96 * difference.std() / 20
    assert [actual.low, actual.high] == pytest.approx([difference.mean() - half, difference.mean() + half], abs=0.012)
    assert actual.significant


def test_intervals_cover_as_often_as_promised():
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        noise = rng.normal(size=60)
        a, b = noise + rng.normal(0.2, 0.5, 60), noise
        actual = paired_difference(mean_of(a), mean_of(b), draw_resamples([0] * 60, draws=300, seed=trial), 60)
        held += actual.low <= 0.2 <= actual.high
    assert 0.89 <= held / 200 <= 0.99


def test_pairing_cancels_what_both_find_hard():
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 5, 100)
    a, b = hard + rng.normal(0.2, 0.1, 100), hard + rng.normal(0, 0.1, 100)
    actual = paired_difference(mean_of(a), mean_of(b), draw_resamples([0] * 100), 100)
    assert actual.high - actual.low < 0.1
    assert actual.significant
    same = paired_difference(mean_of(a), mean_of(a), draw_resamples([0] * 100), 100)
    assert (same.value, same.low, same.high, same.better) == (0, 0, 0, 0.5)
    assert not same.significant


def test_groups_are_drawn_whole_and_widen_the_interval():
    groups = [f"part{i // 10}" for i in range(100)]
    values = np.repeat(np.random.default_rng(4).normal(size=10), 10)
    for sampled in draw_resamples([0] * 100, groups, draws=20):
        assert len(sampled) == 100
        counts = np.bincount(sampled, minlength=100).reshape(10, 10)
        assert (counts == counts[:, :1]).all()
    alone = paired_difference(mean_of(values), lambda _: 0.0, draw_resamples([0] * 100), 100)
    together = paired_difference(mean_of(values), lambda _: 0.0, draw_resamples([0] * 100, groups), 100)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_draws_without_a_metric_are_left_out():
    values = np.array([np.nan, 1.0, 2.0, 3.0])
    actual = paired_difference(lambda d: float(values[d].mean()), lambda _: 0.0, draw_resamples([0] * 4), 4)
    assert 1 <= actual.low <= actual.high <= 3


@pytest.mark.parametrize(("units", "least"), [(5, 0.85), (8, 0.9)])
def test_expanded_intervals_of_few_units_cover_more_nearly_as_often_as_promised(units, least):
    rng, held, plain = np.random.default_rng(5), 0, 0
    for trial in range(200):
        values = rng.normal(size=units)
        drawn = draw_resamples([0] * units, draws=500, seed=trial)
        wide, narrow = (
            paired_difference(mean_of(values), lambda _: 0.0, drawn, units, confidence)
            for confidence in (expanded_confidence(units), 0.95)
        )
        held += wide.low <= 0 <= wide.high
        plain += narrow.low <= 0 <= narrow.high
    assert held / 200 > least
    assert (held - plain) / 200 > 0.03


def test_many_units_expand_an_interval_by_nothing():
    assert expanded_confidence(100_000) == pytest.approx(0.95, abs=1e-4)


def test_without_draws_there_is_no_interval_and_nothing_is_significant():
    actual = paired_difference(lambda _: 1.0, lambda _: 0.0, [], 4)
    assert (actual.value, actual.low, actual.high, actual.better) == (1, None, None, None)
    assert not actual.significant
