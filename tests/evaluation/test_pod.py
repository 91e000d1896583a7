"""The hit/miss model against statsmodels, the definition of the likelihood ratio, and curves that are known."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from blemish.errors import OptionError
from blemish.evaluation.pod import (
    PodProblem,
    fit_logistic,
    fit_pod,
    likelihood_root,
    log_likelihood,
    pod_interval,
    size_bound,
)

SIZES = np.geomspace(1, 64, 60)


def draw_hits(rng, sizes, a50, slope):
    return rng.random(len(sizes)) < 1 / (1 + (a50 / sizes) ** slope)


@pytest.mark.parametrize("seed", range(5))
def test_curve_is_that_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    hits = draw_hits(rng, SIZES, 8, 2.5)
    other = sm.Logit(hits.astype(float), sm.add_constant(np.log(SIZES))).fit(disp=0)
    actual = fit_pod(SIZES, hits)
    assert (actual.intercept, actual.slope) == pytest.approx(tuple(other.params), rel=1e-5)
    assert actual.a50 == pytest.approx(np.exp(-other.params[0] / other.params[1]), rel=1e-5)
    assert actual.a90 == pytest.approx(np.exp((np.log(9) - other.params[0]) / other.params[1]), rel=1e-5)
    expected = other.predict(sm.add_constant(np.log([point.size for point in actual.curve])))
    assert [point.pod for point in actual.curve] == pytest.approx(expected, rel=1e-5)


def test_root_is_the_signed_root_of_the_likelihood_ratio_with_its_correction():
    x, hits = np.log(SIZES), draw_hits(np.random.default_rng(1), SIZES, 8, 2.0)
    model, at, logit = fit_logistic(x, hits), np.log(20.0), 1.0
    through = minimize_scalar(
        lambda slope: -log_likelihood(logit + slope * (x - at), hits), bracket=(0, 3), method="brent", tol=1e-12
    )
    root = np.sqrt(2 * (model.best + through.fun))
    design = np.stack([np.ones(len(x)), x - at], axis=1)

    def information(logits):
        p = 1 / (1 + np.exp(-logits))
        return design.T @ (design * (p * (1 - p))[:, None])

    free = information(model.intercept + model.slope * x)
    fixed = information(logit + through.x * (x - at))[1, 1]
    above = model.intercept + model.slope * at - logit
    corrected = root + np.log(above * np.sqrt(np.linalg.det(free) / fixed) / root) / root
    assert above > 0
    assert likelihood_root(model, at, logit) == pytest.approx(corrected, abs=1e-5)


def test_bounds_are_where_the_root_is_the_quantile():
    model = fit_logistic(np.log(SIZES), draw_hits(np.random.default_rng(2), SIZES, 8, 3.0))
    quantile = norm.ppf(0.95)
    bound = size_bound(model, 0.9)
    assert likelihood_root(model, bound, np.log(9)) == pytest.approx(quantile, abs=1e-5)
    low, high = pod_interval(model, np.log(8))
    assert likelihood_root(model, np.log(8), np.log(low / (1 - low))) == pytest.approx(quantile, abs=0.01)
    assert likelihood_root(model, np.log(8), np.log(high / (1 - high))) == pytest.approx(-quantile, abs=0.01)
    # The lower bound of the curve reaches 90 % where a90/95 is.
    assert pod_interval(model, bound)[0] == pytest.approx(0.9, abs=1e-3)


def test_bounds_cover_a_known_curve_as_often_as_they_say():
    """a90/95 is at or above the true a90 in 95 % of studies; 600 of them tell that from 92 % and from 98 %."""
    rng, a50, slope = np.random.default_rng(3), 8.0, 2.5
    true = np.log(a50) + np.log(9) / slope
    models = [fit_logistic(np.log(SIZES), draw_hits(rng, SIZES, a50, slope)) for _ in range(600)]
    # The root falls from the estimate on, so the bound is above the true size where the root there is below 1.645.
    covered = [likelihood_root(model, true, np.log(9)) <= norm.ppf(0.95) for model in models]
    assert 0.93 <= np.mean(covered) <= 0.975
    upper = [likelihood_root(model, true, np.log(9)) >= -norm.ppf(0.95) for model in models]
    assert 0.93 <= np.mean(upper) <= 0.975


def test_a_larger_unit_only_scales_the_sizes():
    hits = draw_hits(np.random.default_rng(4), SIZES, 8, 4.0)
    small, large = fit_pod(SIZES, hits), fit_pod(1000 * SIZES, hits)
    assert large.slope == pytest.approx(small.slope, rel=1e-6)
    assert large.a90_95 == pytest.approx(1000 * small.a90_95, rel=1e-5)


@pytest.mark.parametrize(
    ("hits", "problem"),
    [
        (SIZES > 0, PodProblem.ALL_FOUND),
        (SIZES < 0, PodProblem.NONE_FOUND),
        (SIZES > 8, PodProblem.SEPARATED),
        (SIZES < 8, PodProblem.NOT_RISING),
        (draw_hits(np.random.default_rng(5), SIZES, 8, -2.0), PodProblem.NOT_RISING),
        (np.arange(60) % 2 == 0, PodProblem.NOT_RISING),
    ],
)
def test_data_that_bear_no_curve_give_none(hits, problem):
    actual = fit_pod(SIZES, hits)
    assert actual.problems == (problem,)
    assert (actual.a50, actual.a90, actual.a90_95, actual.curve) == (None, None, None, ())
    assert sum(group.hits for group in actual.groups) == actual.hits == hits.sum()


def test_one_size_alone_gives_no_curve():
    assert fit_pod(np.full(20, 5.0), np.arange(20) < 10).problems == (PodProblem.SEPARATED,)


def test_few_trials_are_refused_and_fewer_than_advised_are_said():
    hits = draw_hits(np.random.default_rng(6), SIZES, 8, 3.0)
    assert fit_pod(SIZES[:9], hits[:9]).problems == (PodProblem.TOO_FEW,)
    assert PodProblem.FEW in fit_pod(SIZES[::2], hits[::2]).problems
    assert PodProblem.FEW not in fit_pod(SIZES, hits).problems


def test_sizes_beyond_those_tried_are_not_given():
    hits = draw_hits(np.random.default_rng(7), SIZES, 40, 2.0)
    actual = fit_pod(SIZES, hits)
    assert np.exp((np.log(9) - actual.intercept) / actual.slope) > SIZES.max()
    assert {PodProblem.A90_OUTSIDE, PodProblem.A90_95_OUTSIDE} <= set(actual.problems)
    assert (actual.a90, actual.a90_95) == (None, None)
    assert actual.a50 is not None


def test_a_curve_that_the_rates_contradict_is_said():
    """Found from 4 px on, but never more than in two thirds of the cases: no logit that rises to 1."""
    sizes = np.geomspace(1, 4096, 600)
    hits = (sizes > 4) & (np.random.default_rng(8).random(600) < 0.66)
    assert PodProblem.POOR_FIT in fit_pod(sizes, hits).problems
    true = draw_hits(np.random.default_rng(9), sizes, 64, 1.5)
    assert PodProblem.POOR_FIT not in fit_pod(sizes, true).problems


@pytest.mark.parametrize("sizes", [[0.0, 1.0], [1.0, np.nan], [1.0, np.inf], [], [1.0, 2.0, 3.0]])
def test_sizes_must_be_positive_numbers(sizes):
    with pytest.raises(OptionError, match="sizes"):
        fit_pod(np.array(sizes), np.array([True, False][: len(sizes)]))
