"""Which defects are detected, by their size, and which regions are on none of them."""

import numpy as np

from blemish.dataset.ground_truth import Instance
from blemish.evaluation.defect_recall import match_regions_to_boxes, match_regions_to_masks, recall_by_size
from blemish.geometry import Box
from blemish.inspection.result import Region

SIZE = (100, 120)


def region(x0, y0, x1, y1, score=1.0, mask=None):
    return Region("pit", score, (x0, y0, x1, y1), mask)


def test_boxes_detect_what_they_mostly_cover():
    annotated = [Box(0, 0, 10, 10, "pit"), Box(50, 50, 90, 90, "dent"), Box(100, 0, 120, 20, "pit")]
    regions = [region(0, 0, 10, 6, 0.9), region(50, 50, 90, 69, 0.8), region(20, 60, 40, 80, 0.7)]
    actual = match_regions_to_boxes(regions, annotated, None)
    assert actual.sides == [10, 40, 20]
    assert actual.detected == [True, False, False]  # the second box covers 0.475 of its defect: neither found nor false
    assert actual.false_scores == [0.7]
    valid = np.ones(SIZE, bool)
    valid[:, 95:] = False
    assert match_regions_to_boxes(regions, annotated, valid).sides == [10, 40]
    assert match_regions_to_boxes([], annotated, None).detected == [False] * 3
    assert match_regions_to_boxes(regions, [], None).false_scores == [0.9, 0.8, 0.7]


def test_masks_detect_what_they_touch_on_valid_pixels():
    line = np.zeros((4, 9), bool)
    line[0] = True
    annotated = [Instance("pit", (10, 10, 19, 14), line), Instance("pit", (60, 60, 76, 76), np.ones((16, 16), bool))]
    beside = region(10, 12, 19, 14, 0.6)  # in the box of the line, but not on it
    actual = match_regions_to_masks([beside, region(70, 70, 90, 90, 0.9)], annotated, None, SIZE)
    assert (actual.sides, actual.detected, actual.false_scores) == ([3, 16], [False, True], [0.6])
    valid = np.ones(SIZE, bool)
    valid[:, 70:] = False
    actual = match_regions_to_masks([beside, region(70, 70, 90, 90, 0.9)], annotated, valid, SIZE)
    assert actual.detected == [False, False]
    assert actual.false_scores == [0.6, 0.9]


def test_recall_by_doubling_sizes():
    annotated = [Box(0, 0, side, side, "pit") for side in (3, 4, 7.9, 8, 40)]
    outcomes = [
        match_regions_to_boxes([region(0, 0, round(b.x1), round(b.y1))] if b.x1 > 5 else [], [b], None)
        for b in annotated
    ]
    shares = [(s.low, s.high, s.found.value, s.found.n) for s in recall_by_size(outcomes)]
    assert shares == [(2, 4, 0, 1), (4, 8, 0.5, 2), (8, 16, 1, 1), (32, 64, 1, 1)]
    assert recall_by_size([]) == []
