"""Metrics of pixels: exact, from one sort of all pixel scores, without labelling regions again for each threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, FloatMap, Mask
from blemish.evaluation.ranking import auroc_of_sorted, precision_by_steps

FPR_LIMIT = 0.3


@dataclass(frozen=True)
class PixelMetrics:
    auroc: float
    ap: float
    aupro: float  # Bergmann et al. 2020: per-region overlap, averaged, up to a false-positive rate of 0.3
    iou: float | None  # of the pixels at or above the decision's threshold of the map
    best_iou: float  # at the best threshold on these very images: an upper limit, not a promise
    images: int


@dataclass(frozen=True)
class PixelScores:
    """Raw scores of valid pixels: of good ones, and of those of each annotated region."""

    good: FloatArray
    regions: list[FloatArray]


def split_scores(heat: FloatMap, mask: Mask, valid: Mask | None = None) -> PixelScores:
    """The scores of a map (H, W) by the annotated mask (H, W); regions of the annotation are 8-connected."""
    inside = mask if valid is None else mask & valid
    good = heat[~mask if valid is None else ~mask & valid]
    if not inside.any():
        return PixelScores(good, [])
    count, components = cv2.connectedComponents(np.ascontiguousarray(inside).view(np.uint8), connectivity=8)
    labels = components[inside]
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=count)[1:])[:-1]
    return PixelScores(good, np.split(heat[inside][order], ends))


def pixel_metrics(images: Sequence[PixelScores], threshold: float | None = None) -> PixelMetrics | None:
    """Metrics of several images; None where good or defect pixels are missing."""
    regions = [region for image in images for region in image.regions]
    good, defect = _sorted([image.good for image in images]), _sorted(regions)
    if not len(good) or not len(defect):
        return None
    levels = np.unique(defect)[::-1]  # thresholds, from the highest down; between them nothing is gained
    hits, alarms = _at_or_above(defect, levels), _at_or_above(good, levels)
    ious = hits / (len(defect) + alarms)
    iou = None
    if threshold is not None:
        level = np.array([threshold], np.float32)
        iou = float((_at_or_above(defect, level) / (len(defect) + _at_or_above(good, level)))[0])
    return PixelMetrics(
        auroc=auroc_of_sorted(good, defect),
        ap=min(1.0, precision_by_steps(hits, alarms)),
        aupro=_aupro(good, regions),
        iou=iou,
        best_iou=float(ious.max()),
        images=len(images),
    )


def _aupro(good: FloatArray, regions: list[FloatArray], limit: float = FPR_LIMIT) -> float:
    """Area under the mean overlap of regions against the false-positive rate, up to `limit`, as a share of it.

    Lowering the threshold over a pixel of a region of n pixels raises that region's overlap by 1 / n, at the
    false-positive rate of that threshold. So the curve follows from one sort of the defect pixels, and no threshold
    needs the regions again.
    """
    pixels = np.concatenate(regions)
    weights = np.repeat([1 / len(r) / len(regions) for r in regions], [len(r) for r in regions])
    order = np.argsort(pixels)[::-1]
    pixels, overlap = pixels[order], np.cumsum(weights[order])
    last = np.append(np.flatnonzero(np.diff(pixels)), len(pixels) - 1)  # of each distinct score, from the highest down
    levels, overlap = pixels[last], overlap[last]
    # Two points of the curve for each score: just above it, where only the false-positive rate has moved since the
    # last one, and at it. Ties of good and defect pixels lie on the straight line between the two.
    above = (len(good) - np.searchsorted(good, levels, "right")) / len(good)
    at = _at_or_above(good, levels) / len(good)
    fpr = np.concatenate([[0.0], np.stack([above, at], axis=1).ravel(), [1.0]])
    pro = np.concatenate([[0.0], np.stack([np.append(0.0, overlap[:-1]), overlap], axis=1).ravel(), [1.0]])
    inside = int(np.searchsorted(fpr, limit, "right"))
    if inside < len(fpr):
        start, end = fpr[inside - 1], fpr[inside]
        share = (limit - start) / (end - start)
        fpr = np.append(fpr[:inside], limit)
        pro = np.append(pro[:inside], pro[inside - 1] + share * (pro[inside] - pro[inside - 1]))
    return float(np.clip(np.trapezoid(pro, fpr) / limit, 0, 1))


def _at_or_above(ordered: FloatArray, levels: FloatArray) -> NDArray[np.int64]:
    """The number of sorted values at or above each level."""
    return np.asarray(len(ordered) - np.searchsorted(ordered, levels, "left"), np.int64)


def _sorted(values: Sequence[FloatArray]) -> FloatArray:
    """All scores in one sorted array, in which a threshold's counts are a search."""
    joined = np.concatenate([np.empty(0, np.float32), *values])
    joined.sort()
    return joined
