"""Geometry of regions against defects of known geometry, and matching against an exhaustive search."""

import math
from itertools import permutations

import cv2
import numpy as np
import pytest

from blemish.dataset.ground_truth import Instance
from blemish.evaluation.geometry_metrics import geometry_metrics, match_geometry, match_pairs, measurement_error
from blemish.geometry import Box
from blemish.inspection.result import Measurements, Region

SIZE = (120, 160)


def rectangle(x0, y0, x1, y1):
    return (x0, y0, x1, y1), np.ones((y1 - y0, x1 - x0), bool)


def ellipse(center, axes, angle):
    whole = np.zeros(SIZE, np.uint8)
    cv2.ellipse(whole, center, axes, angle, 0, 360, 1, -1)
    rows, columns = np.nonzero(whole)
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return (int(x0), int(y0), int(x1), int(y1)), whole[y0:y1, x0:x1].astype(bool)


def region(box, mask, **measured):
    blank = dict.fromkeys(
        ("area_px", "perimeter_px", "length_px", "mean_width_px", "max_width_px", "feret_max_px", "feret_min_px",
         "rectangle_length_px", "rectangle_width_px", "centroid_x", "centroid_y", "orientation_deg", "circularity",
         "contrast"), 0.0)  # fmt: skip
    return Region("defect", 1.0, box, mask, Measurements(**{**blank, **measured}))


def test_a_rectangle_measured_too_wide_and_too_long():
    true, measured = rectangle(20, 30, 80, 40), rectangle(20, 25, 110, 45)  # 60 x 10 shown as 90 x 20
    image = match_geometry([region(*measured)], [Instance("pit", *true)], None, SIZE)
    (defect,) = image.defects
    assert defect.measured.length / defect.true.length == pytest.approx(1.5)
    assert defect.measured.mean_width / defect.true.mean_width == pytest.approx(2)
    assert defect.iou == image.iou == pytest.approx(600 / 1800)
    metrics = geometry_metrics([image])
    assert (metrics.area.bias, metrics.area.error) == (pytest.approx(2.0), pytest.approx(2.0))
    assert [(own.low, own.high, own.found) for own in metrics.sizes] == [(16.0, 32.0, 1)]  # its side is 24.5


def test_an_ellipse_of_twice_the_size():
    true, measured = ellipse((80, 60), (20, 8), 30), ellipse((80, 60), (40, 16), 30)
    (defect,) = match_geometry([region(*measured)], [Instance("stain", *true)], None, SIZE).defects
    assert defect.true.area == pytest.approx(math.pi * 20.5 * 8.5, rel=0.02)  # cv2 draws the border too
    assert defect.measured.length / defect.true.length == pytest.approx(2, rel=0.05)
    assert defect.measured.area / defect.true.area == pytest.approx(40.5 * 16.5 / (20.5 * 8.5), rel=0.02)


def test_a_missed_defect_counts_zero_and_fragments_count_once():
    line, pit = rectangle(10, 10, 70, 14), rectangle(100, 80, 110, 90)
    pieces = [region(*rectangle(10, 10, 30, 14)), region(*rectangle(34, 10, 70, 14))]
    image = match_geometry(pieces, [Instance("line", *line), Instance("pit", *pit)], None, SIZE)
    found, missed = image.defects
    assert found.measured.length == pytest.approx(36)  # the larger piece
    assert (missed.measured, missed.iou) == (None, 0.0)
    metrics = geometry_metrics([image])
    assert (metrics.defects, metrics.found) == (2, 1)
    assert metrics.defect_iou == pytest.approx(36 / 60 / 2)
    assert metrics.defect_iou_found == pytest.approx(36 / 60)
    assert image.iou == pytest.approx((20 + 36) * 4 / (60 * 4 + 100))


def test_invalid_pixels_belong_to_no_defect():
    valid = np.ones(SIZE, bool)
    valid[:, :40] = False
    true, hidden = rectangle(20, 30, 80, 40), rectangle(0, 60, 30, 90)
    image = match_geometry([], [Instance("a", *true), Instance("b", *hidden)], valid, SIZE)
    assert [defect.true.length for defect in image.defects] == [40]
    assert match_geometry([], [Instance("b", *hidden)], valid, SIZE) is None
    assert geometry_metrics([]) is None


def test_boxes_are_measured_as_rectangles():
    x0, y0, x1, y1 = 20, 30, 80, 40
    bent = region((x0, y0, x1 + 30, y1), np.eye(10, 90, dtype=bool))
    image = match_geometry([bent], [Box(x0 + 0.2, y0, x1 - 0.1, y1, "pit")], None, SIZE)
    (defect,) = image.defects
    assert (defect.true.length, defect.true.mean_width) == (60, 10)
    assert (defect.measured.length, defect.measured.mean_width) == (90, 10)
    assert defect.iou == pytest.approx(60 / 90)


def test_coverage_counts_only_known_uncertainties():
    true = Instance("pit", *rectangle(10, 10, 70, 14))
    images = [
        match_geometry([region(*rectangle(10, 10, 70 + extra, 14), length_px_u=u)], [true], None, SIZE)
        for extra, u in ((2, 3.0), (8, 3.0), (4, None), (3, 3.0))
    ]
    error = measurement_error([image.defects[0] for image in images], "length")
    assert error.n == 4
    assert (error.covered.n, error.covered.value) == (3, pytest.approx(2 / 3))
    assert measurement_error([image.defects[0] for image in images], "area").covered is None


def test_matching_takes_the_largest_shares_first_one_to_one():
    rng = np.random.default_rng(0)
    for _ in range(200):
        shared = rng.permutation(24)[: 3 * 4].reshape(3, 4) * (rng.random((3, 4)) < 0.7)  # distinct where not 0
        pairs = match_pairs(shared)
        assert all(shared[r, d] > 0 for d, r in pairs.items())
        assert len(set(pairs.values())) == len(pairs)
        # Of all one-to-one matchings it is the one whose sorted shares come last in the order of dictionaries.
        chosen = sorted((int(shared[r, d]) for d, r in pairs.items()), reverse=True)
        every = (
            sorted((int(s) for r, d in enumerate(order) if (s := shared[r, d]) > 0), reverse=True)
            for order in permutations(range(4), 3)
        )
        assert chosen == max(every)
