"""Measurements of shapes of known geometry, within 1 px or 2 %, and against scikit-image where definitions agree."""

import math
from itertools import pairwise

import numpy as np
import pytest
from skimage.measure import perimeter_crofton, regionprops

from blemish.inspection.manifest import Scale
from blemish.inspection.measure import _extend, contrast, measure, measure_geometry, perimeter

SIDE = 300
Y, X = np.mgrid[0:SIDE, 0:SIDE].astype(float)


def stroke(points, width):
    """All pixels within half the width of a polyline."""
    distance = np.full((SIDE, SIDE), np.inf)
    for (x0, y0), (x1, y1) in pairwise(points):
        squared = (x1 - x0) ** 2 + (y1 - y0) ** 2
        t = np.clip(((X - x0) * (x1 - x0) + (Y - y0) * (y1 - y0)) / squared, 0, 1)
        distance = np.minimum(distance, np.hypot(X - x0 - t * (x1 - x0), Y - y0 - t * (y1 - y0)))
    return distance <= width / 2


def polar(radius, degrees, center=(150.3, 149.6)):
    return center[0] + radius * math.cos(math.radians(degrees)), center[1] + radius * math.sin(math.radians(degrees))


def bar(length, width, degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = (X - 150.3) * c + (Y - 149.6) * s, -(X - 150.3) * s + (Y - 149.6) * c
    return (abs(along) <= length / 2) & (abs(across) <= width / 2)


def near(expected):
    return pytest.approx(expected, abs=max(1.0, 0.02 * expected))


@pytest.mark.parametrize("degrees", range(0, 180, 17))
@pytest.mark.parametrize("width", [3, 8, 15])
@pytest.mark.parametrize("length", [60, 220])
def test_straight_scratch(length, width, degrees):
    found = measure_geometry(bar(length, width, degrees))
    assert found.length == near(length)
    assert found.rectangle_length == near(length)
    assert (found.mean_width, found.max_width, found.feret_min, found.rectangle_width) == (near(width),) * 4
    assert found.feret_max == near(math.hypot(length, width))


@pytest.mark.parametrize(("span", "start"), [(60, 0), (130, 37), (250, 71)])
@pytest.mark.parametrize("width", [3, 6, 12])
@pytest.mark.parametrize("radius", [60, 100])
def test_bent_scratch(radius, width, span, start):
    mask = stroke([polar(radius, a) for a in np.linspace(start, start + span, 200)], width)
    arc = radius * math.radians(span)
    found = measure_geometry(mask)
    assert found.length == near(arc + width)
    assert found.mean_width == near((arc * width + math.pi * width**2 / 4) / (arc + width))
    assert found.max_width == near(width)


@pytest.mark.parametrize("degrees", range(0, 360, 31))
@pytest.mark.parametrize("width", [3, 6, 10])
def test_branched_scratch_is_as_long_as_its_longest_path(degrees, width):
    arms = [(100, degrees), (80, degrees + 150), (50, degrees + 240)]
    mask = np.any([stroke([polar(r, a), polar(0, 0)], width) for r, a in arms], axis=0)
    found = measure_geometry(mask)
    assert found.length == near(180 + width)
    assert found.mean_width == near(width)


@pytest.mark.parametrize("radius", [5, 12, 40, 100])
def test_disc(radius):
    found = measure_geometry(np.hypot(X - 150.2, Y - 149.7) <= radius)
    assert (found.length, found.max_width, found.feret_max, found.feret_min) == (near(2 * radius),) * 4
    assert found.perimeter == near(2 * math.pi * radius)
    assert found.area == pytest.approx(math.pi * radius**2, rel=0.03)


@pytest.mark.parametrize(("radius", "width"), [(20, 5), (50, 8), (100, 20), (60, 30)])
def test_ring_is_as_long_as_its_centre_line(radius, width):
    found = measure_geometry(abs(np.hypot(X - 150.2, Y - 149.7) - radius) <= width / 2)
    assert found.length == near(2 * math.pi * radius)
    assert (found.mean_width, found.max_width) == (near(width),) * 2


def test_a_pinhole_does_not_make_a_scratch_a_ring():
    mask = stroke([polar(100, a) for a in range(20, 140, 2)], 9)
    whole = measure_geometry(mask)
    x, y = (round(v) for v in polar(100, 80))
    mask[y, x] = False
    assert measure_geometry(mask).length == near(whole.length)


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_scikit_image(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(80, 220, (4, 2)).tolist()
    mask = stroke(points, rng.uniform(5, 25))
    props = regionprops(mask.astype(int))[0]
    y0, x0, y1, x1 = props.bbox
    found = measure(mask[y0:y1, x0:x1], (x0, y0))
    assert found.area_px == props.area
    assert (found.centroid_y, found.centroid_x) == pytest.approx(props.centroid)
    assert found.perimeter_px == pytest.approx(perimeter_crofton(mask, 4))
    # scikit-image turns the other way, from the rows' axis.
    expected = math.degrees(props.orientation) + 90
    assert (found.orientation_deg - expected + 90) % 180 - 90 == pytest.approx(0, abs=0.01)
    assert found.feret_max_px == pytest.approx(props.feret_diameter_max, abs=1.5)


def test_millimetres_follow_a_scale_that_differs_in_x_and_y():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[100:110, 50:250] = True  # 200 x 10 px, so 20 x 2 mm
    found = measure(mask, scale=Scale(x=10, y=5))
    assert found.length_px == near(200)
    assert found.length_mm == pytest.approx(20, rel=0.02)
    assert found.mean_width_mm == pytest.approx(2, rel=0.05)
    assert found.area_mm2 == pytest.approx(40)
    turned = measure(mask.T, scale=Scale(x=5, y=10))
    assert turned.length_mm == pytest.approx(found.length_mm)
    slanted = bar(160, 12, 30)
    stretched = measure(slanted, scale=Scale(x=10, y=5))
    ends = 160 * math.cos(math.radians(30)) / 10, 160 * math.sin(math.radians(30)) / 5
    assert stretched.length_mm == pytest.approx(math.hypot(*ends), rel=0.06)
    assert stretched.perimeter_mm > stretched.length_mm * 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2), (3, 2)])
def test_the_smallest_regions_have_finite_measurements(shape):
    found = measure(np.ones(shape, bool), (0, 0), np.zeros((40, 40, 3), np.uint8), Scale(x=3, y=4))
    values = [getattr(found, name) for name in found.__slots__ if not name.endswith("_u")]  # not known here
    assert all(math.isfinite(v) for v in values)
    assert found.length_px == pytest.approx(max(shape), abs=1)
    assert found.area_px == shape[0] * shape[1]
    assert found.circularity <= 1


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_contrast_is_the_step_as_a_share_of_full_scale(dtype, full):
    image = np.full((60, 60, 3), 0.6 * full).astype(dtype)
    image[20:30, 20:40] = np.asarray(0.2 * full).astype(dtype)
    assert contrast(np.ones((10, 20), bool), (20, 20), image) == pytest.approx(-0.4, abs=0.01)
    assert contrast(np.ones((60, 60), bool), (0, 0), image) == 0


def test_perimeter_counts_holes():
    mask = abs(np.hypot(X - 150, Y - 150) - 60) <= 10
    assert perimeter(mask) == pytest.approx(2 * math.pi * (70 + 50), rel=0.02)


def test_centre_line_may_touch_the_edge():
    line = np.array([[0.0, 0.0], [1.2, 1.3], [2.4, 3.6]])  # the last rounds to a row beyond the mask
    assert np.isfinite(_extend(line, np.ones((4, 4), bool))).all()


@pytest.mark.parametrize("cells", [2, 3, 5])
def test_a_net_of_cracks_is_as_wide_as_its_lines(cells):
    side = 40
    mask = np.zeros((cells * side + 4,) * 2, bool)
    for at in range(0, cells * side + 1, side):
        mask[at : at + 4] = mask[:, at : at + 4] = True
    found = measure_geometry(mask)
    assert 3.8 < found.mean_width < 4.6
    assert found.mean_width <= found.max_width


def test_a_hole_too_small_for_a_ring_does_not_make_the_region_narrower_than_its_mean():
    mask = np.hypot(X - 150, Y - 150) <= 100
    mask &= np.hypot(X - 150, Y - 150) > 10
    found = measure_geometry(mask)
    assert found.length == near(200)
    assert found.max_width == near(200)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_the_smallest_rectangles(shape):
    found = measure_geometry(np.ones(shape, bool))
    assert (found.length, found.mean_width) == (pytest.approx(max(shape)), pytest.approx(min(shape)))
    assert (found.rectangle_length, found.rectangle_width) == (pytest.approx(max(shape)), pytest.approx(min(shape)))


@pytest.mark.parametrize(("width", "across"), [(1, 7.0), (2, 8.0), (2, 7.5), (3, 4.0)])
def test_a_thin_scratch_at_two_scales_is_as_wide_as_its_area_says(width, across):
    mask = np.ones((width, 100), bool)
    found = measure(mask, scale=Scale(x=10, y=across))
    assert found.mean_width_mm == pytest.approx(width / across, rel=0.03)
    assert found.length_mm == pytest.approx(10, rel=0.02)
    assert found.area_mm2 / found.length_mm == pytest.approx(found.mean_width_mm, rel=0.03)


def test_the_angle_at_two_scales_is_that_on_the_part():
    scratch = abs((X - 150) / 2 + (Y - 150)) <= 3
    assert measure(scratch, scale=Scale(x=20, y=10)).orientation_deg == pytest.approx(45, abs=1)
