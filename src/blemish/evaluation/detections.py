"""Average precision of detections, boxes or masks alike, by COCO's definition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the intersection over union
RECALLS = np.linspace(0, 1, 101)
MOST = 100  # detections of a class in an image, the best first


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections of one image (D,), its true defects (G,), and the intersection over union (D, G) of all pairs."""

    scores: Floats
    labels: list[str]
    truth: list[str]
    iou: Floats


@dataclass(frozen=True, slots=True)
class Ranked:
    """Detections of one class in all images, by falling score."""

    scores: Floats
    hits: Bools  # (T, D), whether each finds a defect at each threshold
    truths: int


def rank(images: Sequence[Detections], label: str, thresholds: Floats = THRESHOLDS) -> Ranked:
    """Match the detections of a class to its defects in each image, the best first, each defect once."""
    scores, hits, truths = [np.empty(0)], [np.empty((len(thresholds), 0), np.bool_)], 0
    for image in images:
        own = np.array([name == label for name in image.labels], np.bool_)
        true = np.array([name == label for name in image.truth], np.bool_)
        order = np.flatnonzero(own)
        order = order[np.argsort(-image.scores[order], kind="stable")][:MOST]
        scores.append(image.scores[order])
        hits.append(_match(image.iou[np.ix_(order, np.flatnonzero(true))], thresholds))
        truths += int(true.sum())
    joined = np.concatenate(scores)
    order = np.argsort(-joined, kind="stable")
    return Ranked(joined[order], np.concatenate(hits, axis=1)[:, order], truths)


def average_precision(found: Ranked) -> Floats | None:
    """Precision (T,), made to fall with recall and averaged over 101 recalls; None without a true defect."""
    if not found.truths:
        return None
    recall, precision = curve(found)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.pad(precision, ((0, 0), (0, 1)))  # beyond the highest recall
    return np.array([row[np.searchsorted(r, RECALLS)].mean() for r, row in zip(recall, padded, strict=True)])


def curve(found: Ranked) -> tuple[Floats, Floats]:
    """Recall and precision, each (T, D), after each detection."""
    hits = np.cumsum(found.hits, axis=1)
    recall: Floats = hits / max(found.truths, 1)
    precision: Floats = hits / np.arange(1, hits.shape[1] + 1)
    return recall, precision


def recall_at(images: Sequence[Detections], labels: Sequence[str], alarms: float, iou: float = 0.5) -> float | None:
    """Share of all defects found at the lowest score with at most `alarms` false ones an image; None without any."""
    classes = [rank(images, label, np.array([iou])) for label in labels]
    truths = sum(c.truths for c in classes)
    if not truths:
        return None
    scores = np.concatenate([c.scores for c in classes])
    hits = np.concatenate([c.hits[0] for c in classes])
    order = np.argsort(-scores, kind="stable")
    hits, scores = hits[order], scores[order]
    ends = np.flatnonzero(np.diff(scores, append=-np.inf))  # a threshold takes all detections of one score
    right = np.cumsum(hits)[ends]
    allowed = ends + 1 - right <= alarms * len(images)
    return float(right[allowed].max(initial=0) / truths)


def _match(iou: Floats, thresholds: Floats) -> Bools:
    """Which detections (D, in order) get a defect (G) of their own at each threshold: (T, D).

    Each takes, of the defects still free, the one it covers best; of equal ones the last, as COCO's own code does.
    """
    detections, truths = iou.shape
    hits = np.zeros((len(thresholds), detections), np.bool_)
    if not truths:
        return hits
    least = np.minimum(thresholds, 1 - 1e-10)
    free = np.ones((len(thresholds), truths), np.bool_)
    for d in np.flatnonzero(iou.max(axis=1) >= least.min()):
        covered = np.where(free & (iou[d] >= least[:, None]), iou[d], -1.0)
        best = truths - 1 - covered[:, ::-1].argmax(axis=1)
        hit = covered[np.arange(len(least)), best] >= 0
        hits[hit, d] = True
        free[hit, best[hit]] = False
    return hits
