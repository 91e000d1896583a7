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
    best_iou: float  # at the best threshold on these very images: an upper limit, not a promise
    images: int


@dataclass(frozen=True)
class PixelScores:
    """Raw scores of the pixels that count: of good ones, and of those of each region of the truth."""

    good: Floats
    regions: list[Floats]


def split_scores(heat: Floats, mask: Bools, valid: Bools | None = None) -> PixelScores:
    """The scores of a map (H, W) by the truth (H, W) of its pixels; regions of the truth are 8-connected."""
    inside = mask if valid is None else mask & valid
    good = heat[~mask if valid is None else ~mask & valid]
    if not inside.any():
        return PixelScores(good, [])
    count, labels = cv2.connectedComponents(np.ascontiguousarray(inside).view(np.uint8), connectivity=8)
    found = labels[inside]
    order = np.argsort(found, kind="stable")
    ends = np.cumsum(np.bincount(found, minlength=count)[1:])[:-1]
    return PixelScores(good, np.split(heat[inside][order], ends))


def pixel_figures(images: Sequence[PixelScores], threshold: float | None = None) -> PixelFigures | None:
    """Figures of several images; None where good or defect pixels are missing."""
    regions = [region for image in images for region in image.regions]
    good = _sorted([image.good for image in images])
    defect = _sorted(regions)
    if not len(good) or not len(defect):
        return None
    levels = np.unique(defect)[::-1]  # thresholds, from the highest down; between them nothing is gained
    hits = len(defect) - np.searchsorted(defect, levels, "left")
    alarms = len(good) - np.searchsorted(good, levels, "left")
    return PixelFigures(
        auroc=_auroc(good, defect),
        ap=min(1.0, float((np.diff(hits, prepend=0) * (hits / (hits + alarms))).sum() / len(defect))),
        aupro=_aupro(good, regions),
        iou=None if threshold is None else _iou_at(good, defect, threshold),
        best_iou=float((hits / (len(defect) + alarms)).max()),
        images=len(images),
    )


def _auroc(good: Floats, defect: Floats) -> float:
    """Share of (good, defect) pixel pairs in the right order, ties counting half."""
    below = np.searchsorted(good, defect, "left").sum(dtype=np.int64)
    not_above = np.searchsorted(good, defect, "right").sum(dtype=np.int64)
    return (int(below) + int(not_above)) / (2 * len(good) * len(defect))


def _aupro(good: Floats, regions: list[Floats], limit: float = FPR_LIMIT) -> float:
    """Area under the mean overlap of regions against the false-positive rate, up to `limit`, in parts of it.

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
    at = (len(good) - np.searchsorted(good, levels, "left")) / len(good)
    fpr = np.concatenate([[0.0], np.stack([above, at], axis=1).ravel(), [1.0]])
    pro = np.concatenate([[0.0], np.stack([np.append(0.0, overlap[:-1]), overlap], axis=1).ravel(), [1.0]])
    inside = int(np.searchsorted(fpr, limit, "right"))
    if inside < len(fpr):
        start, end = fpr[inside - 1], fpr[inside]
        share = (limit - start) / (end - start)
        fpr = np.append(fpr[:inside], limit)
        pro = np.append(pro[:inside], pro[inside - 1] + share * (pro[inside] - pro[inside - 1]))
    return float(np.clip(np.trapezoid(pro, fpr) / limit, 0, 1))


def _iou_at(good: Floats, defect: Floats, threshold: float) -> float:
    hits = len(defect) - int(np.searchsorted(defect, np.float32(threshold), "left"))
    alarms = len(good) - int(np.searchsorted(good, np.float32(threshold), "left"))
    return hits / (len(defect) + alarms)


def _sorted(parts: Sequence[Floats]) -> Floats:
    """All scores in one array, sorted: what each threshold finds is then a search."""
    if not parts:
        return np.empty(0, np.float32)
    values = np.concatenate(parts)
    values.sort()
    return values
