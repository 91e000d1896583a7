"""Figures of pixels: exact, from one sort of all pixel scores, without labelling anything again for each threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

FPR_LIMIT = 0.3


@dataclass(frozen=True)
class PixelFigures:
    auroc: float
    ap: float
    aupro: float  # Bergmann et al. 2020: per-region overlap, averaged, up to a false-positive rate of 0.3
    iou: float | None  # of the pixels at or above the decision's threshold of the map
    best_iou: float  # at the best threshold on these very images
    images: int


@dataclass(frozen=True)
class PixelScores:
    """All scores, sorted: of good pixels, of defect pixels, and of the pixels of each region of the truth."""

    good: Floats
    defect: Floats
    regions: list[Floats]


def collect(maps: Sequence[Floats], masks: Sequence[Bools], valid: Sequence[Bools | None]) -> PixelScores:
    """Sort the scores of N maps (H, W) by the truth of their pixels; regions of the truth are 8-connected."""
    good, defect, regions = [], [], []
    for heat, mask, counts in zip(maps, masks, valid, strict=True):
        inside = mask if counts is None else mask & counts
        good.append(heat[~mask if counts is None else ~mask & counts])
        if inside.any():
            defect.append(heat[inside])
            count, labels = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)
            regions += [np.sort(heat[labels == index]) for index in range(1, count)]
    return PixelScores(_sorted(good), _sorted(defect), regions)


def pixel_figures(scores: PixelScores, threshold: float | None, images: int) -> PixelFigures | None:
    """Figures from sorted scores; None where good or defect pixels are missing."""
    good, defect = scores.good, scores.defect
    if not len(good) or not len(defect):
        return None
    levels = np.unique(defect)[::-1]  # thresholds from the highest down
    hits = len(defect) - np.searchsorted(defect, levels, "left")
    alarms = len(good) - np.searchsorted(good, levels, "left")
    iou = hits / (len(defect) + alarms)
    return PixelFigures(
        auroc=pixel_auroc(scores),
        ap=float((np.diff(hits, prepend=0) * (hits / (hits + alarms))).sum() / len(defect)),
        aupro=aupro(scores),
        iou=None if threshold is None else _iou_at(scores, threshold),
        best_iou=float(iou.max()),
        images=images,
    )


def pixel_auroc(scores: PixelScores) -> float:
    """Share of (good, defect) pixel pairs in the right order, ties counting half."""
    below = np.searchsorted(scores.good, scores.defect, "left").sum(dtype=np.float64)
    not_above = np.searchsorted(scores.good, scores.defect, "right").sum(dtype=np.float64)
    return float((below + not_above) / 2 / len(scores.good) / len(scores.defect))


def aupro(scores: PixelScores, limit: float = FPR_LIMIT) -> float:
    """Area under the mean overlap of regions against the false-positive rate, up to `limit`, in parts of it.

    Lowering the threshold over a pixel of a region of n pixels raises that region's overlap by 1 / n at the
    false-positive rate of that threshold. So the area is a sum over the defect pixels, and no threshold needs the
    regions again; between two thresholds the curve is straight (trapezium), which splits ties evenly.
    """
    total = len(scores.good)
    pixels = np.concatenate(scores.regions)
    weights = np.concatenate([np.full(len(r), 1 / len(r) / len(scores.regions)) for r in scores.regions])
    # The curve as points, one a distinct score of a defect pixel, and one just above each: there only the
    # false-positive rate moves, since no defect pixel lies between.
    levels, place = np.unique(pixels, return_inverse=True)
    gain = np.bincount(place, weights=weights, minlength=len(levels))[::-1]
    levels = levels[::-1]
    before = (total - np.searchsorted(scores.good, levels, "right")) / total
    after = (total - np.searchsorted(scores.good, levels, "left")) / total
    overlap = np.cumsum(gain)
    fpr = np.concatenate([[0.0], np.stack([before, after], axis=1).ravel(), [1.0]])
    pro = np.concatenate([[0.0], np.stack([overlap - gain, overlap], axis=1).ravel(), [1.0]])
    inside = int(np.searchsorted(fpr, limit, "right"))
    at_limit = (
        np.interp(limit, fpr[inside - 1 : inside + 1], pro[inside - 1 : inside + 1]) if inside < len(fpr) else 1.0
    )
    x, y = np.append(fpr[:inside], limit), np.append(pro[:inside], at_limit)
    return float(np.clip(np.trapezoid(y, x) / limit, 0, 1))


def _iou_at(scores: PixelScores, threshold: float) -> float:
    hits = len(scores.defect) - int(np.searchsorted(scores.defect, threshold, "left"))
    alarms = len(scores.good) - int(np.searchsorted(scores.good, threshold, "left"))
    return hits / (len(scores.defect) + alarms)


def _sorted(parts: list[Floats]) -> Floats:
    if not parts:
        return np.empty(0, np.float32)
    values = np.concatenate(parts)
    values.sort()
    return values
