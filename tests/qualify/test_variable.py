"""Gauge R&R, type-1 and linearity: published examples to their printed digits, SciPy, statsmodels, simulation."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as formulas
from statsmodels.stats.anova import anova_lm
from worked_examples import AIAG_GRR, AIAG_LINEARITY, ISO_11095, ISO_22514_7

from blemish.errors import DataError
from blemish.qualify.bias import study_linearity, study_type_one
from blemish.qualify.variable import analyse_variation


def rows(found):
    return {row.source: row for row in found.anova}


def test_aiag_example_as_printed():
    found = analyse_variation(AIAG_GRR)
    squares = {name: round(row.squares, 4) for name, row in rows(found).items()}
    assert squares == {
        "appraiser": 3.1673, "part": 88.3619, "interaction": 0.3590, "repeatability": 2.7589, "total": 94.6471,
    }  # fmt: skip
    assert [row.degrees for row in found.anova] == [2, 9, 18, 60, 89]
    assert found.pooled
    printed = {"EV": 0.199933, "AV": 0.226838, "INT": 0, "GRR": 0.302373, "PV": 1.042327}
    # to one unit in the last digit, as the source goes on with rounded figures
    assert {one: found.component(one).sigma for one in printed} == pytest.approx(printed, abs=2e-6)
    assert [round(100 * found.component(one).of_total, 1) for one in ("EV", "AV", "GRR", "PV")] == [
        18.4, 20.9, 27.9, 96.0,
    ]  # fmt: skip
    assert (found.ndc, found.grade) == (4, "marginal")


def test_iso_22514_7_example_as_printed():
    """Tables A.5, A.6 and B.2; the printed figures are rounded on the way, hence the tolerances."""
    found = analyse_variation(ISO_22514_7)
    table = rows(found)
    assert table["interaction"].f == pytest.approx(1.193, abs=1e-3)
    assert found.component("AV").sigma == pytest.approx(0.08683, abs=1e-4)
    assert found.component("EV").sigma == pytest.approx(0.1827, abs=1e-4)
    assert found.component("PV").sigma ** 2 == pytest.approx(6.501, abs=2e-3)
    kept = analyse_variation(ISO_22514_7, alpha=0.4)  # an alpha at which the interaction counts
    assert not kept.pooled
    assert kept.component("AV").sigma == pytest.approx(0.08591, abs=1e-4)
    assert kept.component("INT").sigma == pytest.approx(0.04528, abs=1e-4)


def test_the_table_is_that_of_statsmodels():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 1, 1)) + 0.3 * rng.normal(size=(6, 3, 1)) + 0.2 * rng.normal(size=(6, 3, 4))
    part, appraiser, _ = np.indices(values.shape)
    frame = pd.DataFrame({"y": values.ravel(), "p": part.ravel(), "a": appraiser.ravel()})
    reference = anova_lm(formulas.ols("y ~ C(p) * C(a)", frame).fit())
    found = rows(analyse_variation(values))
    for name, other in (("part", "C(p)"), ("appraiser", "C(a)"), ("interaction", "C(p):C(a)")):
        assert found[name].squares == pytest.approx(reference.loc[other, "sum_sq"])
        assert found[name].degrees == reference.loc[other, "df"]
    assert found["interaction"].p == pytest.approx(reference.loc["C(p):C(a)", "PR(>F)"])


def test_simulated_studies_are_estimated_without_bias_and_intervals_hold_the_truth():
    """EV 1, AV 0.5, PV 3 and no interaction; 200 studies of 10 parts, 4 appraisers and 3 repeats."""
    rng, grr, inside = np.random.default_rng(1), [], 0
    truth = np.sqrt(1.25 / 10.25)
    for seed in range(200):
        values = 3 * rng.normal(size=(10, 1, 1)) + 0.5 * rng.normal(size=(1, 4, 1)) + rng.normal(size=(10, 4, 3))
        found = analyse_variation(values, seed=seed).component("GRR")
        grr.append(found.sigma**2)
        inside += found.low <= truth <= found.high
    assert np.mean(grr) == pytest.approx(1.25, rel=0.06)
    assert 0.9 < inside / 200 <= 1


def test_precision_to_tolerance_and_one_appraiser():
    found = analyse_variation(AIAG_GRR, tolerance=8.0)
    assert found.component("GRR").of_tolerance == pytest.approx(6 * 0.302373 / 8, rel=1e-5)
    alone = analyse_variation(AIAG_GRR[:, :1])
    assert alone.component("AV").sigma == 0
    assert any("reproducibility" in line for line in alone.warnings)
    part, _, _ = np.indices((10, 1, 3))
    reference = anova_lm(
        formulas.ols("y ~ C(p)", pd.DataFrame({"y": AIAG_GRR[:, :1].ravel(), "p": part.ravel()})).fit()
    )
    assert rows(alone)["part"].p == pytest.approx(reference.loc["C(p)", "PR(>F)"])


def test_studies_that_say_nothing_are_refused():
    with pytest.raises(DataError, match="two repeats"):
        analyse_variation(AIAG_GRR[:, :, :1])
    with pytest.raises(DataError, match="do not differ"):
        analyse_variation(np.repeat(AIAG_GRR[:, :1, :1], 3, axis=2))


def test_linearity_example_as_printed_by_aiag():
    reference, values = AIAG_LINEARITY
    found = study_linearity(values, reference)
    assert (round(found.intercept.value, 5), round(found.slope.value, 5)) == (0.73667, -0.13167)
    assert (round(found.slope.t, 3), round(found.intercept.t, 3)) == (-12.043, 10.158)
    assert (round(found.sigma, 5), round(100 * found.r_squared, 1)) == (0.23954, 71.4)
    assert not found.linear


def test_linearity_example_as_printed_by_iso():
    reference, values = ISO_11095
    found = study_linearity(values, reference)
    assert found.intercept.value == pytest.approx(0.2358, abs=1e-4)
    assert 1 + found.slope.value == pytest.approx(0.9870, abs=1e-4)
    assert found.lack_of_fit == pytest.approx(scipy.stats.f.sf(0.6918, 8, 30), abs=1e-4)


def test_the_line_is_that_of_scipy():
    reference, values = AIAG_LINEARITY
    found = study_linearity(values, reference)
    line = scipy.stats.linregress(np.repeat(reference, 12), (values - reference[:, None]).ravel())
    assert (found.slope.value, found.slope.error, found.slope.p) == pytest.approx(
        (line.slope, line.stderr, line.pvalue)
    )
    assert found.intercept.error == pytest.approx(line.intercept_stderr)


def test_type_one_by_its_formulas_and_by_simulation():
    """No printed example could be looked up. The formulas are those of the R package qualityTools' page on `cg`
    (facCg 0.2, facCgk 0.1, 6 sigma); the values are checked on a simulated gauge whose true ones are known."""
    rng = np.random.default_rng(2)
    readings = rng.normal(10.003, 0.002, 200_000)
    found = study_type_one(readings, 10.0, tolerance=0.1)
    assert found.cg == pytest.approx(0.2 * 0.1 / (6 * 0.002), rel=0.01)
    assert found.cgk == pytest.approx((0.1 * 0.1 - 0.003) / (3 * 0.002), rel=0.01)
    assert found.capable is False
    held = [study_type_one(rng.normal(5, 1, 25), 5.0) for _ in range(400)]
    assert 0.92 < np.mean([one.bias_low <= 0 <= one.bias_high for one in held]) < 0.98
    assert 0.92 < np.mean([one.sigma_low <= 1 <= one.sigma_high for one in held]) < 0.98


def test_the_bias_is_tested_as_by_scipy():
    readings = np.array([5.8, 5.7, 5.9, 5.9, 6.0, 6.1, 6.0, 6.1, 6.4, 6.3, 6.0, 6.1, 6.2, 5.6, 6.0])
    found = study_type_one(readings, 6.0)
    reference = scipy.stats.ttest_1samp(readings, 6.0)
    assert (found.t, found.p) == pytest.approx((reference.statistic, reference.pvalue))
    assert (found.bias_low, found.bias_high) == pytest.approx(tuple(np.array(reference.confidence_interval()) - 6))
    assert found.cg is None
    with pytest.raises(DataError, match="10 readings or more"):
        study_type_one(readings[:5], 6.0)
    with pytest.raises(DataError, match="resolution"):
        study_type_one(np.full(20, 6.0), 6.0)
