"""Kappa against published tables, statsmodels and scikit-learn; the intervals against simulation."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats import inter_rater
from worked_examples import AIAG_CROSS, FLEISS_1971

from blemish.qualify.kappa import cohen_interval, cohen_kappa, fleiss_interval, fleiss_kappa


@pytest.mark.parametrize("name", AIAG_CROSS)
def test_cohen_as_printed_by_aiag(name):
    table, printed = AIAG_CROSS[name]
    first, second = np.indices((2, 2)).reshape(2, -1)
    first, second = (np.repeat(one, np.ravel(table)) for one in (first, second))
    assert cohen_kappa(first, second) == pytest.approx(printed, abs=0.005)


def test_cohen_as_others_compute_it():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first = rng.integers(0, 4, 60)
        second = np.where(rng.random(60) < 0.6, first, rng.integers(0, 4, 60))
        assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_fleiss_as_printed_in_1971():
    assert round(fleiss_kappa(FLEISS_1971), 3) == 0.430
    # of each diagnosis against all others, as printed by R's irr: kappam.fleiss(diagnoses, detail = TRUE)
    alone = [fleiss_kappa(np.stack([own, 6 - own], axis=1)) for own in FLEISS_1971.T]
    assert np.round(alone, 3).tolist() == [0.245, 0.245, 0.520, 0.471, 0.566]


def test_fleiss_as_statsmodels_computes_it():
    rng = np.random.default_rng(1)
    for _ in range(10):
        counts = rng.multinomial(5, rng.dirichlet(np.ones(3)), 25)
        assert fleiss_kappa(counts) == pytest.approx(inter_rater.fleiss_kappa(counts))


def test_the_interval_of_independent_parts_is_that_of_the_formula():
    rng = np.random.default_rng(2)
    first = rng.integers(0, 2, 400)
    second = np.where(rng.random(400) < 0.85, first, 1 - first)
    table = np.zeros((2, 2))
    np.add.at(table, (first, second), 1)
    reference = inter_rater.cohens_kappa(table)
    found = cohen_interval(first[:, None], second[:, None])
    assert found.value == pytest.approx(reference.kappa)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * reference.std_kappa, rel=0.03)


def test_the_interval_holds_the_true_kappa_though_repeats_depend_on_their_part():
    """Three repeats that are all the same: an interval that counts decisions would hold it in about 75 % of studies."""
    rng, inside = np.random.default_rng(3), 0
    for _ in range(300):
        first = rng.integers(0, 2, (60, 1))
        second = np.where(rng.random((60, 1)) < 0.85, first, 1 - first)
        found = cohen_interval(np.repeat(first, 3, axis=1), np.repeat(second, 3, axis=1))
        inside += found.low <= 0.7 <= found.high
    assert inside / 300 > 0.9


def test_agreement_without_exception_and_without_meaning():
    same = np.tile([[0], [1]], (10, 2))
    found = cohen_interval(same, same)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(2 * 0.8316 - 1, abs=1e-4)  # Clopper and Pearson: 20 of 20
    assert fleiss_interval(same).value == 1.0
    assert cohen_interval(np.zeros((5, 2), int), np.zeros((5, 2), int)).value is None
