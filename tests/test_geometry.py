"""Polygons, run lengths and bounds against independent implementations."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from skimage.measure import points_in_poly

from blemish.errors import DataError
from blemish.geometry import (
    Polygon,
    decode_runs,
    encode_mask,
    mask_bounds,
    polygon_mask,
    runs_from_text,
    runs_to_text,
    shape_bounds,
    shape_mask,
)

HEIGHT, WIDTH = 14, 18


@st.composite
def runs(draw):
    rows = draw(st.lists(st.booleans(), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH).filter(any))
    return encode_mask(np.array(rows).reshape(HEIGHT, WIDTH), "pit", draw(st.booleans()))


@given(st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=9))
@settings(max_examples=200, deadline=None)
def test_outlines_fill_the_pixels_whose_centre_is_inside(ring):
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    expected = points_in_poly(centres, np.array(ring)).reshape(HEIGHT, WIDTH)
    edges = np.stack([np.array(ring), np.roll(np.array(ring), -1, axis=0)], axis=1)
    near = np.zeros(len(centres), bool)  # a centre on an edge may go to either side
    for a, b in edges:
        along = np.clip(((centres - a) @ (b - a)) / max(((b - a) ** 2).sum(), 1e-12), 0, 1)
        near |= np.linalg.norm(centres - a - along[:, None] * (b - a), axis=1) < 1e-6
    differ = polygon_mask(tuple(ring), HEIGHT, WIDTH) != expected
    assert not (differ & ~near.reshape(HEIGHT, WIDTH)).any()


@given(st.integers(0, 10), st.integers(0, 8), st.integers(1, 7), st.integers(1, 5))
def test_a_rectangle_fills_exactly_its_pixels_and_has_its_bounds(x, y, width, height):
    ring = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    filled = polygon_mask(ring, HEIGHT, WIDTH)
    assert filled.sum() == width * height
    assert filled[y : y + height, x : x + width].all()
    assert shape_bounds(Polygon((ring,), "a")) == mask_bounds(filled) == (x, y, x + width, y + height)


@given(runs())
@settings(max_examples=100, deadline=None)
def test_run_lengths_are_those_of_pycocotools(rle):
    mask = shape_mask(rle, (HEIGHT, WIDTH))
    reference = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = runs_to_text(rle.counts)
    assert text == reference["counts"].decode()
    assert runs_from_text(text) == rle.counts
    np.testing.assert_array_equal(decode_runs(rle.counts, (HEIGHT, WIDTH)), coco_mask.decode(reference) > 0)
    x, y, width, height = coco_mask.toBbox(reference)
    assert shape_bounds(rle) == (x, y, x + width, y + height)


@given(st.lists(st.integers(0, 100_000), max_size=30))
def test_short_run_lengths_of_any_size(counts):
    assert runs_from_text(runs_to_text(tuple(counts))) == tuple(counts)


@pytest.mark.parametrize("text", ["`", "0\n", "Ü"])
def test_damaged_run_lengths_are_refused(text):
    with pytest.raises(DataError):
        runs_from_text(text)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-10, 50), st.integers(-10, 40)), min_size=3, max_size=8))
def test_polygon_agrees_with_a_point_test_at_every_pixel(points):
    mask = polygon_mask(points, 30, 40)
    # A centre right on an edge may fall to either side.
    for y in range(30):
        for x in range(40):
            crossings = sum(
                (ya > y + 0.5) != (yb > y + 0.5) and x + 0.5 < xa + (y + 0.5 - ya) * (xb - xa) / (yb - ya)
                for (xa, ya), (xb, yb) in zip(points, [*points[1:], points[0]], strict=True)
            )
            near_edge = abs(cv2.pointPolygonTest(np.int32(points), (x + 0.5, y + 0.5), True)) < 1e-4
            assert near_edge or mask[y, x] == bool(crossings % 2)


def test_a_triangle_has_its_area():
    triangle = [(3.2, 4.1), (180.7, 12.9), (70.3, 95.5)]
    assert polygon_mask(triangle, 100, 200).sum() == pytest.approx(cv2.contourArea(np.float32(triangle)), rel=0.01)
