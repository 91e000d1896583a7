"""Intervals against SciPy's exact ones and against simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest, norm, t

from blemish.evaluation.intervals import (
    auroc_interval,
    binomial_cdf,
    clopper_pearson,
    prove_escape_rate,
    required_parts,
    student_quantile,
)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_clopper_pearson_agrees_with_scipy(counts, confidence):
    hits, total = counts
    expected = binomtest(hits, total).proportion_ci(confidence, method="exact")
    assert clopper_pearson(hits, total, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("hits", "total"), [(3, 20_000), (19_990, 20_000), (10_000, 20_000)])
def test_clopper_pearson_of_many(hits, total):
    expected = beta.ppf(0.025, hits, total - hits + 1), beta.ppf(0.975, hits + 1, total - hits)
    assert clopper_pearson(hits, total) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.01, 0.5, 0.999, 1.0])
@pytest.mark.parametrize(("hits", "total"), [(0, 1), (0, 300), (7, 300), (299, 300), (300, 300)])
def test_binomial_cdf_agrees_with_scipy(hits, total, rate):
    assert binomial_cdf(hits, total, rate) == pytest.approx(binom.cdf(hits, total, rate), abs=1e-10)


@pytest.mark.parametrize("rate", [0.05, 0.01, 0.001])
@pytest.mark.parametrize("escapes", [0, 1, 5])
def test_required_parts_is_the_first_number_that_proves(rate, escapes):
    parts = required_parts(rate, escapes)
    assert binom.cdf(escapes, parts, rate) <= 0.05 < binom.cdf(escapes, parts - 1, rate)


def test_rule_of_three_and_what_is_still_missing():
    proof = prove_escape_rate(0, 63, (0.001, 0.05, 0.01))
    assert proof.needed == [
        {"rate": 0.05, "parts": 59, "more": 0},
        {"rate": 0.01, "parts": 299, "more": 236},
        {"rate": 0.001, "parts": 2995, "more": 2932},
    ]
    assert proof.proven == pytest.approx(1 - 0.05 ** (1 / 63))
    assert prove_escape_rate(3, 3, (0.5,)).proven == 1


def test_auroc_interval_covers_the_true_area_as_often_as_promised():
    rng = np.random.default_rng(0)
    true, held, trials = 0.9214, 0, 400  # of two normal distributions two deviations apart
    for _ in range(trials):
        low, high = auroc_interval(rng.normal(0, 1, 40), rng.normal(2, 1, 30))
        held += low <= true <= high
    assert 0.92 <= held / trials <= 0.98


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
)
def test_auroc_interval_contains_its_estimate_and_stays_in_range(good, defective):
    good, defective = np.array(good, float), np.array(defective, float)
    area = ((defective[:, None] > good) + 0.5 * (defective[:, None] == good)).mean()
    low, high = auroc_interval(good, defective)
    assert 0 <= low <= area + 1e-12
    assert area - 1e-12 <= high <= 1


def test_a_perfect_auroc_of_few_parts_promises_little():
    low, high = auroc_interval(np.zeros(5), np.ones(60))
    assert high == 1
    assert low < 0.6


@pytest.mark.parametrize(("good", "defective"), [(1, 100), (100, 1), (2, 100), (3, 100), (4, 100), (3, 3)])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_auroc_interval_of_very_few_parts_of_a_kind_is_wide_enough(good, defective, shift):
    rng, held = np.random.default_rng(2), 0
    true = norm.cdf(shift / np.sqrt(2))
    for _ in range(100):
        low, high = auroc_interval(rng.normal(0, 1, good), rng.normal(shift, 1, defective))
        held += low <= true <= high
    assert held / 100 >= 0.95


@pytest.mark.parametrize(("good", "defective"), [(5, 100), (8, 100), (10, 30), (30, 6)])
def test_auroc_interval_of_few_parts_of_a_kind_covers_about_as_often_as_promised(good, defective):
    rng, held = np.random.default_rng(3), 0
    for _ in range(300):
        low, high = auroc_interval(rng.normal(0, 1, good), rng.normal(1, 1, defective))
        held += low <= norm.cdf(1 / np.sqrt(2)) <= high
    assert held / 300 >= 0.9


def test_auroc_interval_of_shots_of_parts_covers_the_area_of_new_parts():
    """Ten shots of each of 12 good and 12 defective parts, which look alike; and of lots that hold both kinds."""
    rng, held, shared, alone = np.random.default_rng(4), 0, 0, 0
    units = np.repeat(np.arange(12), 10).tolist()
    for _ in range(200):
        good, defective = (rng.normal(m, 1, 12).repeat(10) + rng.normal(0, 0.1, 120) for m in (0, 1))
        low, high = auroc_interval(good, defective, good_units=units, defective_units=[u + 100 for u in units])
        held += low <= norm.cdf(1 / np.sqrt(2)) <= high
        low, high = auroc_interval(good, defective, good_units=units, defective_units=units)
        shared += low <= norm.cdf(1 / np.sqrt(2)) <= high
        low, high = auroc_interval(good, defective)
        alone += low <= norm.cdf(1 / np.sqrt(2)) <= high
    assert held / 200 >= 0.92
    assert shared / 200 >= 0.92
    assert alone / 200 < 0.7


@pytest.mark.parametrize("degrees", [4, 5.5, 9, 30, 400])
@pytest.mark.parametrize("probability", [0.95, 0.975])
def test_quantile_of_student_agrees_with_scipy(degrees, probability):
    assert student_quantile(probability, degrees) == pytest.approx(t.ppf(probability, degrees), rel=0.01)
