"""Metrics of pixels: exact, from one sort of all pixel scores, without labelling regions again for each threshold."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, FloatMap, Mask
from blemish.evaluation.per_image_overlap import per_image_overlap
from blemish.evaluation.ranking import auroc_of_sorted, is_ranked, precision_by_steps
from blemish.evaluation.region_overlap import SaturatedRegion, overlap_area, saturated_overlap_area

FPR_LIMIT = 0.3
LOW_FPR_LIMIT = 0.05


@dataclass(frozen=True)
class PixelMetrics:
    auroc: float
    ap: float
    aupro: float  # Bergmann et al. 2020: per-region overlap, averaged, up to a false-positive rate of 0.3
    iou: float | None  # of the pixels at or above the decision's threshold of the map
    best_iou: float  # at the best threshold on these very images: an upper limit, not a promise
    images: int
    best_f1: float | None = None  # likewise
    aupro_at_5_percent: float | None = None  # AUPRO up to a false-positive rate of 0.05
    aupimo: float | None = None  # Bertoldo et al. 2024: mean over the defective images
    spro_at_5_percent: float | None = None  # Bergmann et al. 2022, of defects with a saturation
    unscored: int = 0  # pixels whose score is no number: they have no rank and count in no metric


@dataclass(frozen=True)
class PixelScores:
    """Raw scores of valid pixels: of good ones, and of those of each annotated region."""

    good: FloatArray
    regions: list[FloatArray]
    saturated: list[SaturatedRegion] = field(default_factory=list)  # defects whose saturation is known


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
    unscored = sum(count_unscored(image) for image in images)
    images = [_without_unscored(image) for image in images] if unscored else images
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
    saturated = [region for image in images for region in image.saturated]
    best = float(ious.max())
    return PixelMetrics(
        auroc=auroc_of_sorted(good, defect),
        ap=min(1.0, precision_by_steps(hits, alarms)),
        aupro=overlap_area(good, regions, FPR_LIMIT),
        iou=iou,
        best_iou=best,
        images=len(images),
        best_f1=2 * best / (1 + best),  # both are highest at the same threshold
        aupro_at_5_percent=overlap_area(good, regions, LOW_FPR_LIMIT),
        aupimo=mean_per_image_overlap(images),
        spro_at_5_percent=saturated_overlap_area(good, saturated, LOW_FPR_LIMIT) if saturated else None,
        unscored=unscored,
    )


def count_unscored(image: PixelScores) -> int:
    """Pixels whose score is no number."""
    return sum(int((~is_ranked(own)).sum()) for own in (image.good, *image.regions))


def _without_unscored(image: PixelScores) -> PixelScores:
    kept = [own[is_ranked(own)] for own in image.regions]
    saturated = [replace(own, scores=own.scores[is_ranked(own.scores)]) for own in image.saturated]
    return PixelScores(
        image.good[is_ranked(image.good)],
        [own for own in kept if len(own)],
        [own for own in saturated if len(own.scores)],
    )


def mean_per_image_overlap(images: Sequence[PixelScores]) -> float | None:
    """AUPIMO, mean over the images with defects; those without are the good ones. None without both."""
    defective = [np.concatenate(image.regions) for image in images if image.regions]
    values = per_image_overlap([image.good for image in images if not image.regions], defective) if defective else None
    return None if values is None else float(values.mean())


def _at_or_above(ordered: FloatArray, levels: FloatArray) -> NDArray[np.int64]:
    """The number of sorted values at or above each level."""
    return np.asarray(len(ordered) - np.searchsorted(ordered, levels, "left"), np.int64)


def _sorted(values: Sequence[FloatArray]) -> FloatArray:
    """All scores in one sorted array, in which a threshold's counts are a search."""
    joined = np.concatenate([np.empty(0, np.float32), *values])
    joined.sort()
    return joined
