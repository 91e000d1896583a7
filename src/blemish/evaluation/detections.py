"""Matching of detections, boxes or masks, to the true defects, and their average precision by COCO's definition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Flags, Scores
from blemish.evaluation.ranking import interpolated_precision

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
IOU_50 = np.array([0.5])
MAX_DETECTIONS = 100  # of a class in an image, the best first


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections of one image (D,), its true defects (G,), and the intersection over union (D, G) of all pairs."""

    scores: Scores
    labels: list[str]
    true_labels: list[str]
    iou: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RankedDetections:
    """Detections of one class in all images, by falling score."""

    scores: Scores
    hits: NDArray[np.bool_]  # (T, D), whether each matches a defect at each threshold of IoU
    positives: int  # true defects


def rank_detections(images: Sequence[Detections], label: str, thresholds: Scores = IOU_THRESHOLDS) -> RankedDetections:
    """Match the detections of a class to its defects in each image, the best first, each defect once."""
    scores, hits, positives = [np.empty(0)], [np.empty((len(thresholds), 0), np.bool_)], 0
    for image in images:
        detected, true = (np.array([n == label for n in own], np.bool_) for own in (image.labels, image.true_labels))
        order = np.flatnonzero(detected)
        order = order[np.argsort(-image.scores[order], kind="stable")][:MAX_DETECTIONS]
        scores.append(image.scores[order])
        hits.append(_match(image.iou[np.ix_(order, np.flatnonzero(true))], thresholds))
        positives += int(true.sum())
    joined = np.concatenate(scores)
    order = np.argsort(-joined, kind="stable")
    return RankedDetections(joined[order], np.concatenate(hits, axis=1)[:, order], positives)


def detection_precision(ranked: RankedDetections) -> Scores | None:
    """Average precision (T,) at each threshold of IoU, read at 101 recalls; None without a true defect."""
    if not ranked.positives:
        return None
    return np.array([interpolated_precision(*curve) for curve in zip(*precision_recall(ranked), strict=True)])


def precision_recall(ranked: RankedDetections) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision, each (T, D), after each detection."""
    hits = np.cumsum(ranked.hits, axis=1)
    return hits / max(ranked.positives, 1), hits / np.arange(1, hits.shape[1] + 1)


def recall_at(images: Sequence[Detections], labels: Sequence[str], alarms: float) -> float | None:
    """Share of all defects detected (IoU 0.5) at the lowest score with at most `alarms` false detections an image.

    None without a defect.
    """
    classes = [rank_detections(images, label, IOU_50) for label in labels]
    positives = sum(c.positives for c in classes)
    if not positives:
        return None
    scores = np.concatenate([c.scores for c in classes])
    order = np.argsort(-scores, kind="stable")
    hits, scores = np.concatenate([c.hits[0] for c in classes])[order], scores[order]
    ends = np.flatnonzero(np.diff(scores, append=-np.inf))  # a threshold takes all detections of one score
    right = np.cumsum(hits)[ends]
    allowed = ends + 1 - right <= alarms * len(images)
    return float(right[allowed].max(initial=0) / positives)


def _match(iou: NDArray[np.float64], thresholds: Scores) -> Flags:
    """Which detections (D, in order) get a defect (G) of their own at each threshold: (T, D).

    Each takes, of the defects still free, the one it covers best; of equal ones the last, as COCO's own code does.
    """
    detections, defects = iou.shape
    hits = np.zeros((len(thresholds), detections), np.bool_)
    if not defects:
        return hits
    required = np.minimum(thresholds, 1 - 1e-10)
    free = np.ones((len(thresholds), defects), np.bool_)
    for d in np.flatnonzero(iou.max(axis=1) >= required.min()):
        covered = np.where(free & (iou[d] >= required[:, None]), iou[d], -1.0)
        best = defects - 1 - covered[:, ::-1].argmax(axis=1)
        hit = covered[np.arange(len(required)), best] >= 0
        hits[hit, d] = True
        free[hit, best[hit]] = False
    return hits
