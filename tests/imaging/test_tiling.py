"""Tiles cover every pixel, and stitching what was cut gives the image back."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blemish.imaging.tiling import MapStitcher, tile_boxes, tile_starts

shapes = st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.89))


@settings(max_examples=150, deadline=None)
@given(shapes)
def test_every_pixel_is_covered_by_tiles_of_one_size_within_the_image(shape):
    height, width, tile_height, tile_width, _ = shape
    covered = np.zeros((height, width), int)
    boxes = tile_boxes(*shape)
    for x0, y0, x1, y1 in boxes:
        assert (y1 - y0, x1 - x0) == (min(tile_height, height), min(tile_width, width))
        assert x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height  # noqa: PT018
        covered[y0:y1, x0:x1] += 1
    assert covered.all()
    assert len(set(boxes)) == len(boxes)


@given(st.integers(1, 3000), st.integers(1, 600), st.floats(0, 0.89))
def test_neighbours_overlap_by_at_least_the_share(length, tile, overlap):
    starts = tile_starts(length, tile, overlap)
    steps = np.diff(starts)
    assert (steps > 0).all()
    if len(starts) > 1 and int(tile * (1 - overlap)) >= 1:
        assert tile - steps.max() >= int(tile * overlap)
    assert starts[-1] == max(0, length - tile)


@settings(max_examples=100, deadline=None)
@given(shapes, st.sampled_from([(), (1,), (3,)]))
@example((31, 42, 15, 15, 0.875), ())  # 64 tiles on a pixel
def test_stitching_the_cut_image_gives_the_image(shape, leading):
    height, width = shape[:2]
    image = np.random.default_rng(0).random((*leading, height, width)).astype(np.float32)
    stitcher = MapStitcher(*shape, leading=leading)
    tiles = np.zeros((height, width), int)  # on each pixel
    for x0, y0, x1, y1 in tile_boxes(*shape):
        stitcher.add((x0, y0, x1, y1), image[..., y0:y1, x0:x1])
        tiles[y0:y1, x0:x1] += 1
    # As many sums in float32 round.
    bound = np.maximum(2e-6, np.finfo(np.float32).eps * tiles)
    assert (abs(stitcher.result() - image) <= bound).all()


def test_tiles_that_disagree_are_blended_from_one_to_the_other():
    stitcher = MapStitcher(1, 12, 1, 8, 0.5)
    boxes = tile_boxes(1, 12, 1, 8, 0.5)
    assert boxes == [(0, 0, 8, 1), (4, 0, 12, 1)]
    stitcher.add(boxes[0], np.zeros((1, 8), np.float32))
    stitcher.add(boxes[1], np.ones((1, 8), np.float32))
    row = stitcher.result()[0]
    assert (row[:4] == 0).all()
    assert row[8:] == pytest.approx(1)
    assert (np.diff(row[3:9]) > 0).all()
    assert row[4:8] == pytest.approx(1 - row[4:8][::-1])
