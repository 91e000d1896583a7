"""Shapes of defects: rasterised lines by brute force, stated lengths and widths against measurements of the mask."""

import numpy as np
import pytest

from blemish.inspection.measure import measure_geometry
from blemish.synthesis.shapes import IRREGULAR_SHAPES, LINES, fill_outline, line_coverage, line_depth


def distance_to_segment(point, start, end):
    way = end - start
    t = np.clip((point - start) @ way / (way @ way), 0, 1)
    return np.hypot(*(point - start - t * way)), t


def test_lines_by_brute_force():
    rng = np.random.default_rng(0)
    points, widths = rng.uniform(-3, 33, (5, 2)), rng.uniform(1, 6, 5)
    coverage = line_coverage(line_depth([(points, widths)], (24, 30)))
    for row in range(24):
        for column in range(30):
            depth = -np.inf
            for i in range(4):
                distance, t = distance_to_segment(np.array([column, row]), points[i], points[i + 1])
                depth = max(depth, (widths[i] + t * (widths[i + 1] - widths[i])) / 2 - distance)
            assert coverage[row, column] == pytest.approx(np.clip(depth + 0.5, 0, 1), abs=1e-6)


def test_a_rectangle_covers_its_area():
    outline = np.array([(4.5, 3.5), (14.5, 3.5), (14.5, 9.0), (4.5, 9.0)])  # at pixel centres, 10 by 5.5 px
    coverage = fill_outline(outline, (16, 20))
    assert coverage.sum() == pytest.approx((10 + 1 / 8) * (5.5 + 1 / 8), rel=1e-3)  # one subpixel wider and higher
    np.testing.assert_array_equal(np.argwhere(coverage > 0.9).min(axis=0), (4, 5))


@pytest.mark.parametrize("kind", sorted(IRREGULAR_SHAPES))
def test_stated_length_and_width_are_those_of_the_mask(kind):
    lengths, widths = [], []
    for seed in range(12):
        shape = IRREGULAR_SHAPES[kind](np.random.default_rng(seed), 90.0, 6.0 if kind in LINES else 50.0)
        measured = measure_geometry(shape.mask)
        extent = measured.length if kind in LINES else measured.feret_max
        lengths.append(extent / shape.length)
        width = measured.mean_width if kind in LINES else measured.area / measured.feret_max
        widths.append(width / shape.width)
    assert np.median(lengths) == pytest.approx(1, abs=0.12)
    assert np.median(widths) == pytest.approx(1, abs=0.15)
