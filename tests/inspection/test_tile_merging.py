"""Boxes of known defects, cut by tiles, come back as one box a defect."""

import numpy as np
import pytest

from blemish.imaging.tiling import tile_boxes
from blemish.inspection.tile_merging import DetectedBoxes, merge_tile_detections

AREA = (0, 0, 300, 200)
TILE = 64


def seen(true, tile, rng):
    """The output of a perfect detector in a tile, each box with a score of its own."""
    corners = np.hstack([np.maximum(true[:, :2], tile[:2]), np.minimum(true[:, 2:], tile[2:])])
    there = ((corners[:, 2:] - corners[:, :2]) > 0).all(axis=1)
    scores = rng.uniform(0.6, 1.0, there.sum()).astype(np.float32)
    return DetectedBoxes(corners[there], scores, np.zeros(there.sum(), np.int64))


def strewn(rng):
    """Boxes in cells of a grid, of any size up to the cell, so that none touches another."""
    cells = np.array([(x, y) for x in range(0, 300, 150) for y in range(0, 200, 50)], float)
    low = cells + rng.uniform(2, 20, cells.shape)
    return np.hstack([low, low + rng.uniform(4, (125, 26), cells.shape)])


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_each_defect_is_found_once_and_whole(overlap, seed):
    rng = np.random.default_rng(seed)
    true = strewn(rng)
    tiles = tile_boxes(200, 300, TILE, TILE, overlap)
    found = merge_tile_detections([seen(true, tile, rng) for tile in tiles], tiles, AREA)
    assert len(found.scores) == len(true)
    order = np.lexsort(found.corners.T)
    np.testing.assert_allclose(found.corners[order], true[np.lexsort(true.T)])
    assert (np.diff(found.scores) <= 0).all()


def boxes(*rows, masks=None):
    corners = np.array([row[:4] for row in rows], float).reshape(-1, 4)
    labels = np.array([row[5] if len(row) > 5 else 0 for row in rows], np.int64)
    return DetectedBoxes(corners, np.array([row[4] for row in rows], np.float32), labels, masks)


LEFT, RIGHT, BOTH = (0, 0, 60, 60), (40, 0, 100, 60), (0, 0, 100, 60)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([(5, 5, 35, 35, 0.8), (10, 10, 20, 20, 0.9)], [], 2),  # one inside the other, separated by their tile
        ([(42, 5, 55, 20, 0.8)], [(43, 5, 56, 20, 0.9)], 1),  # in both tiles
        ([(42, 5, 55, 20, 0.8)], [(43, 5, 56, 20, 0.9, 1)], 2),  # of two classes
        ([(42, 5, 55, 20, 0.8)], [(42, 30, 55, 45, 0.9)], 2),
        ([(10, 5, 60, 20, 0.9)], [(40, 5, 99, 20, 0.1)], 2),  # too unlikely to be the rest of it
        ([(10, 5, 60, 20, 0.9)], [(40, 5, 90, 20, 0.7)], 1),
        ([(10, 5, 50, 20, 0.9)], [(40, 5, 50, 20, 0.95)], 1),  # a piece and the whole
        (
            [(10, 5, 60, 20, 0.8), (44, 7, 52, 18, 0.6)],
            [(40, 5, 90, 20, 0.9)],
            1,
        ),  # with a fragment
    ],
)
def test_which_boxes_are_one_defect(left, right, expected):
    assert len(merge_tile_detections([boxes(*left), boxes(*right)], [LEFT, RIGHT], BOTH).scores) == expected


def test_a_whole_box_is_better_than_a_likelier_piece():
    parts = [boxes((10, 5, 50, 20, 0.8)), boxes((40, 5, 50, 20, 0.95))]
    found = merge_tile_detections(parts, [LEFT, RIGHT], BOTH)
    assert found.corners.tolist() == [[10, 5, 50, 20]]
    assert found.scores.tolist() == pytest.approx([0.95])


def test_masks_of_pieces_are_merged():
    halves = np.zeros((2, 1, 28, 28), np.float32)
    halves[:, 0, :14] = 1  # the upper half of either piece
    parts = [boxes((0, 8, 60, 36, 0.9), masks=halves[0]), boxes((40, 8, 100, 36, 0.8), masks=halves[1])]
    found = merge_tile_detections(parts, [LEFT, RIGHT], BOTH)
    assert found.corners.tolist() == [[0, 8, 100, 36]]
    assert found.masks.shape == (1, 28, 28)
    assert (found.masks[0, 1:13, 1:-1] > 0.99).all()
    assert (found.masks[0, 15:] == 0).all()


def test_no_boxes_in_any_tile():
    assert len(merge_tile_detections([boxes(), boxes()], [LEFT, RIGHT], BOTH).scores) == 0


def test_a_fragment_does_not_replace_the_whole():
    parts = [boxes((10, 5, 60, 20, 0.8), (44, 7, 52, 18, 0.6)), boxes((40, 5, 90, 20, 0.9))]
    assert merge_tile_detections(parts, [LEFT, RIGHT], BOTH).corners.tolist() == [[10, 5, 90, 20]]
