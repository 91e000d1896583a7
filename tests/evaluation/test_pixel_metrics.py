"""Metrics of pixels against scikit-learn, and against relabelling at every threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label as label_regions
from sklearn import metrics

from blemish.evaluation.mask_metrics import mask_metrics, measure_overlap
from blemish.evaluation.pixel_metrics import FPR_LIMIT, PixelScores, pixel_metrics, split_scores
from blemish.evaluation.region_overlap import SaturatedRegion
from blemish.inspection.result import Region


def brute_force_aupro(maps, masks, valid, limit=FPR_LIMIT):
    """As the definition says: at each threshold the mean overlap of regions and the false-positive rate."""
    regions = [
        (heat, labels == index)
        for heat, labels in zip(maps, (label_regions(m, connectivity=2) for m in masks), strict=True)
        for index in range(1, labels.max() + 1)
    ]
    good = np.concatenate([heat[~mask & counts] for heat, mask, counts in zip(maps, masks, valid, strict=True)])
    x, y = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([heat.ravel() for heat in maps]))[::-1]:
        x.append((good >= threshold).mean())
        y.append(np.mean([(heat[region] >= threshold).mean() for heat, region in regions]))
    area = 0.0
    for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False):
        if x0 >= limit:
            break
        if x1 > limit:
            y1, x1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0), limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def check(maps, masks, valid=None):
    counts = [np.ones(m.shape, bool) for m in masks] if valid is None else valid
    masks = [m & c for m, c in zip(masks, counts, strict=True)]
    given_valid = [None] * len(maps) if valid is None else valid
    scores = [split_scores(heat, m, c) for heat, m, c in zip(maps, masks, given_valid, strict=True)]
    measured = pixel_metrics(scores, threshold=0.5)
    annotated = np.concatenate([m[c] for m, c in zip(masks, counts, strict=True)])
    if annotated.all() or not annotated.any():
        assert measured is None
        return
    flat = np.concatenate([heat[c] for heat, c in zip(maps, counts, strict=True)])
    assert measured.auroc == pytest.approx(metrics.roc_auc_score(annotated, flat), abs=1e-9)
    assert measured.ap == pytest.approx(metrics.average_precision_score(annotated, flat), abs=1e-9)
    assert measured.aupro == pytest.approx(brute_force_aupro(maps, masks, counts), abs=1e-9)
    assert measured.iou == pytest.approx(metrics.jaccard_score(annotated, flat >= 0.5), abs=1e-12)
    every = [(annotated & (flat >= t)).sum() / (annotated | (flat >= t)).sum() for t in np.unique(flat)]
    assert measured.best_iou == pytest.approx(max(every), abs=1e-12)
    assert all(
        0 <= value <= 1 for value in (measured.auroc, measured.ap, measured.aupro, measured.iou, measured.best_iou)
    )


@pytest.mark.parametrize("levels", [3, 7, None])
@pytest.mark.parametrize("signal", [-0.3, 0.0, 0.4, 2.0])
@pytest.mark.parametrize("masked", [False, True])
def test_metrics_of_random_maps_agree_with_scikit_learn(levels, signal, masked):
    rng = np.random.default_rng([levels or 0, round(10 * (signal + 1)), masked])
    maps, masks, valid = [], [], []
    for _ in range(4):
        mask = np.zeros((12, 16), bool)
        for y, x, h, w in rng.integers([0, 0, 1, 1], [9, 12, 5, 5], (3, 4)):
            mask[y : y + h, x : x + w] = True
        heat = rng.random(mask.shape) + signal * mask
        maps.append((heat if levels is None else np.round(heat * levels) / levels).astype(np.float32))
        masks.append(mask)
        valid.append(rng.random(mask.shape) < 0.8)
    masks.append(np.zeros((5, 5), bool))  # a good image, of another size
    maps.append(rng.random((5, 5)).astype(np.float32))
    valid.append(np.ones((5, 5), bool))
    check(maps, masks, valid if masked else None)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_maps_of_any_scores(data):
    shape = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    levels = st.integers(0, 3).map(lambda v: np.float32(v / 3))
    maps = [data.draw(hnp.arrays(np.float32, shape, elements=levels)) for _ in range(2)]
    masks = [data.draw(hnp.arrays(bool, shape)) for _ in range(2)]
    check(maps, masks)


def test_touching_corners_are_one_region_and_each_region_weighs_the_same():
    mask = np.zeros((20, 20), bool)
    mask[0:2, 0:2] = mask[2:4, 2:4] = True  # one region of 8 pixels
    mask[10, 10] = True  # one of a single pixel
    scores = split_scores(mask.astype(np.float32), mask)
    assert sorted(len(region) for region in scores.regions) == [1, 8]
    heat = np.where(np.arange(20)[:, None] < 5, mask, 0).astype(np.float32)  # finds the large one alone
    measured = pixel_metrics([split_scores(heat, mask)])
    good = 400 - 9
    # Overlap 0.5 at once; the missed region comes with all good pixels, on the straight line to (1, 1).
    assert measured.aupro == pytest.approx(0.5 + 0.5 * FPR_LIMIT / 2)
    assert measured.auroc == pytest.approx((8 * good + 1 * good / 2) / (9 * good))
    assert measured.iou is None


def test_regions_as_they_ship_against_masks():
    mask = np.zeros((40, 40), bool)
    mask[5:15, 5:15] = mask[30:34, 30:34] = True
    half = Region("defect", 1.0, (5, 5, 10, 15), np.ones((10, 5), bool))
    beside = Region("defect", 1.0, (20, 0, 25, 4))  # no mask: its box
    measured = mask_metrics([measure_overlap([half, beside], mask), measure_overlap([], np.zeros((3, 3), bool))])
    assert measured.iou == pytest.approx(50 / (100 + 16 + 20))
    assert measured.dice == pytest.approx(2 * 50 / (116 + 70))
    assert (measured.defects_found.value, measured.defects_found.n, measured.images) == (0.5, 2, 2)
    valid = np.arange(40)[:, None] < np.full(40, 20)
    assert mask_metrics([measure_overlap([half], mask, valid)]).iou == pytest.approx(0.5)
    assert mask_metrics([measure_overlap([half], np.zeros_like(mask))]) is None


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_pixels_whose_score_is_no_number_have_no_rank_and_are_counted(odd):
    rng = np.random.default_rng(0)
    good, bad = (rng.random(40).astype(np.float32) for _ in range(2))
    other = rng.random(5).astype(np.float32)
    odds = np.full(3, odd, np.float32)

    def measure(extra, more):
        regions = [np.append(bad, extra[:2]), other, *([extra] if more and len(extra) else [])]
        images = [PixelScores(np.append(good, extra), []), PixelScores(good, regions, [SaturatedRegion(regions[0], 9)])]
        return pixel_metrics(images, 0.5)

    without, measured = measure(odds[:0], False), measure(odds, True)
    assert (without.unscored, measured.unscored) == (0, 3 + 2 + 3)
    for name in ("auroc", "ap", "aupro", "aupro_at_5_percent", "best_iou", "iou", "spro_at_5_percent", "aupimo"):
        assert getattr(measured, name) == getattr(without, name), name
