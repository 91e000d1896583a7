"""The uncertainty budget: by hand, and by drawing its components (JCGM 101); and the plots of a dossier."""

import math

import numpy as np
import pytest
from graphs import anomaly_bundle

from blemish.errors import OptionError
from blemish.evaluation.intervals import estimate_rate
from blemish.evaluation.pod import fit_pod
from blemish.evaluation.pod_result import PodCurve
from blemish.inspection.bundle import open_bundle
from blemish.inspection.manifest import MeasurementUncertainty, Scale, SizeClassError
from blemish.qualify.dossier import render_dossier
from blemish.qualify.evidence_plots import pod_plots, robustness_plots
from blemish.qualify.evidence_tables import robustness_tables
from blemish.qualify.uncertainty_budget import make_budgets
from blemish.translation import translator

COMPONENTS = ("EV", "AV", "INT", "GRR")
GAUGE = {
    "variable": {
        "components": [{"name": n, "sigma": s} for n, s in zip(COMPONENTS, (0.03, 0.04, 0.0, 0.05), strict=True)],
        "appraisers": 3,
        "tolerance": 2.0,
    },
    "type_1": {"bias": -0.06, "sigma": 0.02, "tolerance": None},
}


def size_class(low, high, uncertainty):
    return SizeClassError(
        low=low, high=high, bias=0, ratio_low=0.9, ratio_high=1.1, uncertainty=uncertainty, defects=40
    )  # fmt: skip


@pytest.fixture
def bundle(tmp_path):
    errors = {"length": [size_class(25, 100, 0.1), size_class(100, 400, 0.04)], "area": [size_class(50, 200, 0.2)]}
    known = MeasurementUncertainty(source="synthetic", defects=100, found=90, errors=errors)
    return anomaly_bundle(
        tmp_path / "grey.blemish", scale=Scale(x=10, y=10, uncertainty=0.02), measurement_uncertainty=known
    )


def test_a_budget_by_hand(bundle):
    length, area = make_budgets(open_bundle(bundle).manifest, GAUGE)
    first, second = length.lines
    assert (first.low, first.high, first.size, length.unit) == (2.5, 10, 5, "mm")
    own = {"scale": 0.02 / 1.645, "border": 0.1 / 1.645, "repeatability": 0.03 / 5, "reproducibility": 0.04 / 5,
           "bias": 0.06 / math.sqrt(3) / 5}  # fmt: skip
    assert first.components == pytest.approx(own)
    assert list(first.components) == list(own)
    assert first.combined == pytest.approx(math.sqrt(sum(share**2 for share in own.values())))
    assert first.expanded == 2 * first.combined
    assert second.components["repeatability"] == pytest.approx(0.03 / 20)
    assert length.of_tolerance(first) == pytest.approx(2 * first.expanded * 5 / 2.0)
    assert (area.unit, area.lines[0].size, area.tolerance) == ("mm²", 1.0, None)
    assert area.lines[0].components == pytest.approx({"scale": 2 * 0.02 / 1.645, "border": 0.2 / 1.645})
    assert (length.missing, area.missing) == ([], ["repeatability", "reproducibility", "bias"])


def test_the_expanded_uncertainty_holds_95_of_100_drawn_errors(bundle):
    budgets = make_budgets(open_bundle(bundle).manifest, GAUGE)
    rng = np.random.default_rng(4)
    line, number = budgets[0].lines[1], 100_000
    draws = {name: rng.normal(0, share, number) for name, share in line.components.items() if name != "bias"}
    half = math.sqrt(3) * line.components["bias"]
    error = sum(draws.values()) + rng.uniform(-half, half, number)
    assert np.mean(np.abs(error) <= line.expanded) == pytest.approx(0.954, abs=0.006)


def test_a_length_without_direction_covers_both_scales(tmp_path, bundle):
    manifest = open_bundle(bundle).manifest
    wide = manifest.model_copy(update={"scale": Scale(x=20, y=5, uncertainty=0.02)})
    fine, coarse = (
        make_budgets(manifest.model_copy(update={"scale": Scale(x=own, y=own, uncertainty=0.02)}), GAUGE)
        for own in (20, 5)
    )
    found = make_budgets(wide, GAUGE)
    for mixed, least, most in zip(found[0].lines, fine[0].lines, coarse[0].lines, strict=True):
        assert (mixed.low, mixed.high, mixed.size) == (least.low, most.high, most.size)
        assert mixed.components == least.components  # the same mm are the largest share of the shortest length
        assert mixed.combined >= most.combined
    area = next(own for own in found if own.quantity == "area").lines[0]
    assert area == next(own for own in make_budgets(manifest, GAUGE) if own.quantity == "area").lines[0]  # 100 px/mm²


def test_what_is_not_known_is_named(tmp_path, bundle):
    bare = anomaly_bundle(tmp_path / "bare.blemish")
    assert make_budgets(open_bundle(bare).manifest, GAUGE) == []
    scaled = anomaly_bundle(tmp_path / "scaled.blemish", scale=Scale(x=10, y=10, uncertainty=0.012))
    page = render_dossier(open_bundle(scaled), {})
    assert "± 1.2\u00a0%" in page
    assert "nothing is combined" in page
    assert '<td>measurement uncertainty</td><td><span class="wrong">open' in page
    of_area = make_budgets(open_bundle(bundle).manifest, GAUGE, "area")
    assert of_area[0].missing == ["repeatability", "reproducibility", "bias"]
    assert of_area[1].missing == []
    with pytest.raises(OptionError, match="unknown quantity"):
        make_budgets(open_bundle(bundle).manifest, {}, "lenght")
    page = render_dossier(open_bundle(bundle), {})
    assert "length: without repeatability, reproducibility, bias, of which nothing is known" in page
    assert "U (k = 2)" in page


def test_plots_and_the_table_by_size():
    t = translator("zh")
    rng = np.random.default_rng(1)
    sizes = np.exp(rng.uniform(1, 4, 200))
    fit = fit_pod(sizes, rng.random(200) < 1 / (1 + (12 / sizes) ** 4))
    from blemish.evaluation.pod_result import PodResult

    curve = PodCurve("scratch", 0.3, 0.2, fit, None, 0)
    result = PodResult(**{**{name: None for name in PodResult.__dataclass_fields__}, "curves": [curve], "trials": [],
                          "warnings": [], "false_alarms": estimate_rate(0, 9)})  # fmt: skip
    (plot,) = pod_plots(result.to_dict(), t)
    assert "<svg" in plot
    rate = {"value": 0.0, "low": 0.0, "high": 0.2, "n": 10}
    levels = [
        {"level": level, "stopped": rate, "missed": rate | {"value": missed},
         "missed_by_size": {"16 to 32": rate, "8 to 16": rate | {"value": missed}}, "quality": {}}
        for level, missed in ((1.0, 0.0), (2.0, 0.5))
    ]  # fmt: skip
    sweep = {
        "name": "blur",
        "unit": "σ in px",
        "levels": levels,
        "limit": 1.0,
        "first_stopped": None,
        "first_missed": 2.0,
    }
    (plot,) = robustness_plots({"sweeps": [sweep]}, t)
    assert "data:image/png;base64," in plot
    by_size = robustness_tables({"sweeps": [sweep]}, t)[0][1]
    assert (by_size.header[1:], by_size.rows[0][1:]) == (("8 to 16", "16 to 32"), ("2", "–"))
