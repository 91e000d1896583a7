"""Equality, repr and reasons of an inspection."""

from dataclasses import replace

import numpy as np
import pytest

from blemish.inspection.result import Candidates, Inspection, Outputs, Reason, ReasonKind, Region, Verdict


def make_inspection(**changes):
    mask = np.eye(3, 4, dtype=bool)
    values = {
        "heat_map": np.full((64, 80), np.nan, np.float32),
        "valid": np.ones((64, 80), bool),
        "class_scores": {"good": 0.2, "pit": float("nan")},
        "candidates": Candidates(np.zeros((1, 4)), np.zeros(1, np.float32), ["pit"]),
        "timings_ms": {"read": 1.0},
        "source": "a.png",
    }
    region = Region("pit", 0.75, (1, 2, 5, 5), mask)
    return Inspection(Verdict.REJECT, "pit", float("nan"), [region], (64, 80), **values | changes)


def test_inspections_are_equal_by_value_whatever_their_timings():
    assert make_inspection() == make_inspection(timings_ms={})
    assert make_inspection() != "an inspection"


@pytest.mark.parametrize(
    "change",
    [
        {"heat_map": np.zeros((64, 80), np.float32)},
        {"heat_map": None},
        {"valid": np.zeros((64, 80), bool)},
        {"class_scores": {"good": 0.2, "pit": 0.8}},
        {"class_scores": {"good": 0.2}},
        {"candidates": Candidates(np.ones((1, 4)), np.zeros(1, np.float32), ["pit"])},
        {"source": "b.png"},
        {"reasons": [Reason(ReasonKind.NO_THRESHOLD, Verdict.REVIEW)]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_other_difference_makes_them_unequal(change):
    assert make_inspection() != make_inspection(**change)


def test_a_pixel_of_a_regions_mask_makes_it_another():
    region = make_inspection().regions[0]
    mask = region.mask.copy()
    mask[0, 3] = True
    assert region == replace(region, mask=region.mask.copy())
    assert region != replace(region, mask=mask)
    assert region != replace(region, mask=None)


def test_a_repr_gives_shapes_and_no_arrays():
    text = repr(make_inspection())
    assert "heat_map=<float32 64×80>" in text
    assert "mask=<bool 3×4>" in text
    assert "verdict='reject'" in text
    assert "array" not in text
    assert len(text) < 500
    outputs = Outputs(anomaly_map=np.zeros((8, 256, 256), np.float32))
    assert repr(outputs) == "Outputs(anomaly_map=<float32 8×256×256>)"
    assert outputs == Outputs(anomaly_map=np.zeros((8, 256, 256), np.float32))
    many = make_inspection()
    many.regions *= 50
    assert "... 47 more" in repr(many)


def test_a_reason_is_data_and_a_sentence():
    reason = Reason(ReasonKind.THRESHOLD, Verdict.REVIEW, None, 0.51234567, 0.5)
    assert str(reason) == "score 0.5123 is at or above the review threshold 0.5"
    assert str(replace(reason, label="pit")).startswith("pit score")
    assert str(Reason(ReasonKind.FAILED, Verdict.REVIEW, detail="{no} file")) == "could not be inspected: {no} file"
    assert hash(reason) == hash(replace(reason))


def test_a_reason_without_its_numbers_is_still_a_sentence() -> None:
    for kind in ReasonKind:
        assert str(Reason(kind, Verdict.REJECT))
    assert str(Reason(ReasonKind.THRESHOLD, Verdict.REJECT)) == "score nan is at or above the reject threshold nan"
