"""Uncertainty of measurements: coverage by simulation, the table's look-up, and warnings of rules."""

import math

import numpy as np
import pytest
from graphs import anomaly_bundle

from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, MeasurementUncertainty, Scale, SizeClassError
from blemish.inspection.measure import measure
from blemish.inspection.rules import MEASUREMENTS
from blemish.inspection.uncertainty import (
    MIN_DEFECTS,
    UNCERTAINTIES,
    conformal_quantile,
    size_class_errors,
    split_name,
    unreliable_rules,
    with_uncertainty,
)


def size_class(low, high, uncertainty):
    return SizeClassError(
        low=low, high=high, bias=0.0, ratio_low=0.9, ratio_high=1.1, uncertainty=uncertainty, defects=30
    )


LENGTHS = [size_class(8, 16, 0.7), size_class(16, 64, 0.1)]
KNOWN = MeasurementUncertainty(source="synthetic", defects=60, found=60, errors={"length": LENGTHS, "area": LENGTHS})


def test_the_quantile_covers_as_promised():
    rng = np.random.default_rng(1)
    for n in (20, 33, 90):
        errors = rng.gamma(1.5, size=(4000, n + 1))
        hits = [own[-1] <= conformal_quantile(own[:-1]) for own in errors]
        exact = math.ceil(0.9 * (n + 1)) / (n + 1)  # of exchangeable errors without ties
        assert np.mean(hits) == pytest.approx(exact, abs=0.015)


def test_errors_by_size_cover_new_defects_of_every_size():
    """A bias and a scatter that both fall with size: within every class new values are covered in 90 % of cases."""
    rng = np.random.default_rng(2)

    def draw(n):
        true = np.exp(rng.uniform(np.log(4), np.log(200), n))
        return true, true * (1 + 4 / true) * np.exp(rng.normal(0, 0.5 / np.sqrt(true)))

    classes = size_class_errors(*draw(3000))
    assert [(own.low, own.high) for own in classes][-2:] == [(64, 128), (128, 256)]
    assert classes[0].uncertainty > 3 * classes[-1].uncertainty
    true, measured = draw(30_000)
    for own in classes:
        inside = (measured >= own.low) & (measured < own.high)
        covered = (np.abs(true - measured) <= own.uncertainty * measured)[inside].mean()
        assert 0.86 < covered < 0.94, own
        assert own.bias == pytest.approx(np.median((measured / true)[inside]) - 1, abs=0.06)


def test_small_classes_are_joined_and_too_few_give_none():
    true = np.array([5.0] * 3 + [12.0] * 25 + [100.0] * 22)
    classes = size_class_errors(true, true * 1.1)
    assert [(own.low, own.high, own.defects) for own in classes] == [(4, 16, 28), (16, 128, 22)]
    assert classes[0].uncertainty == pytest.approx(0.1 / 1.1, abs=1e-3)
    assert size_class_errors(true[: MIN_DEFECTS - 1], true[: MIN_DEFECTS - 1]) == []


@pytest.mark.parametrize(
    ("length", "expected"),
    [(4, 0.7 * 8), (10, 7.0), (20, 2.0), (63, 6.3), (80, None)],  # as at 8 px below it; nothing known above 64
)
def test_uncertainty_by_measured_size(length, expected):
    measured = with_uncertainty(measure(np.ones((3, length), bool)), KNOWN)
    assert measured.length_px == length
    assert measured.length_px_u == (None if expected is None else pytest.approx(expected))
    assert measured.mean_width_px_u is None


def test_the_scale_adds_its_own_in_quadrature():
    scale = Scale(x=10, y=10, uncertainty=0.1)
    measured = with_uncertainty(measure(np.ones((1, 30), bool), scale=scale), KNOWN, scale)
    assert measured.length_px_u == pytest.approx(3.0)
    assert measured.length_mm_u == pytest.approx(3.0 * math.hypot(0.1, 0.1))
    assert measured.area_mm2_u == pytest.approx(0.3 * math.hypot(0.1, 0.2))
    assert with_uncertainty(measured, None) is measured


def test_what_is_not_known_of_the_scale_is_not_known_of_mm():
    scale = Scale(x=10, y=10)
    measured = with_uncertainty(measure(np.ones((1, 30), bool), scale=scale), KNOWN, scale)
    assert measured.length_px_u == pytest.approx(3.0)
    assert (measured.length_mm, measured.length_mm_u, measured.area_mm2_u) == (3.0, None, None)
    (line,) = unreliable_rules(Decision(rules=["reject if length_mm > 2"]), Bundle(KNOWN, scale))
    assert "how exact the scale is, and with it length_mm, is not known" in line
    assert unreliable_rules(Decision(rules=["reject if length_px > 20"]), Bundle(KNOWN, scale)) == []


def test_a_mask_of_pixels_is_never_sure():
    sure = MeasurementUncertainty(
        source="validation", defects=30, found=30, errors={"length": [size_class(16, 64, 0.0)]}
    )
    assert with_uncertainty(measure(np.ones((1, 30), bool)), sure).length_px_u == 0.5


def test_rules_know_measurements_and_not_uncertainties():
    assert "length_mm" in MEASUREMENTS
    assert not set(UNCERTAINTIES) & set(MEASUREMENTS)
    assert [split_name(name) for name in ("mean_width_mm", "area_mm2", "area_px", "contrast")] == [
        ("mean_width", "mm"), ("area", "mm2"), ("area", "px"), ("contrast", ""),
    ]  # fmt: skip


class Bundle:
    def __init__(self, known, scale=None):
        self.measurement_uncertainty, self.scale = known, scale


@pytest.mark.parametrize(
    ("rule", "known", "doubt"),
    [
        ("reject if length_px > 20", KNOWN, None),
        ("reject if 12 < length_px", KNOWN, "length_px at 12 is uncertain by ± 70%"),
        ("reject if length_px > 100", KNOWN, "at 100 is not known"),
        ("reject if length_mm > 2", KNOWN, None),  # 20 px
        ("reject if length_mm > 1", KNOWN, "length_mm at 1 is uncertain by ± 70%"),
        ("reject if score > 3 or count > 2", None, None),
        ("reject if contrast > 0.2", None, None),
        ("reject if mean_width_px > 3", KNOWN, "mean_width_px is not known"),
        ("reject if length_px > 20", None, "length_px is not known"),
        ("reject if sum(length_px) > 20", KNOWN, None),
        ("review if score > 3 and max(pit.length_px) > 9", KNOWN, "length_px at 9"),
    ],
)
def test_rules_on_what_is_not_measured_reliably_are_named(rule, known, doubt):
    lines = unreliable_rules(Decision(rules=[rule]), Bundle(known, Scale(x=10, y=10, uncertainty=0.01)))
    assert len(lines) == (doubt is not None)
    assert all(rule in line and doubt in line for line in lines)


def test_a_scale_that_is_given_is_of_unknown_uncertainty_unless_it_is_that_of_the_bundle(tmp_path):
    path = anomaly_bundle(tmp_path / "a.blemish", scale=Scale(x=10, y=10, uncertainty=0.2),
                          measurement_uncertainty=KNOWN)  # fmt: skip
    image = np.zeros((64, 64), np.uint8)
    image[12:18, 5:45] = 255
    scales = (None, 10.0, (10, 10), 20.0)
    found = [Inspector.open(path, px_per_mm=own).inspect(image).regions[0].measurements for own in scales]
    assert [own.length_mm_u for own in found[:3]] == [found[0].length_mm_u] * 3
    assert found[0].length_mm_u == pytest.approx(found[0].length_mm * math.hypot(0.1, 0.2))
    assert (found[3].length_mm, found[3].length_mm_u) == (pytest.approx(found[0].length_mm / 2), None)
    assert found[3].length_px_u == pytest.approx(found[3].length_px * 0.1)
