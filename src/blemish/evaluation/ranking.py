"""Ranking metrics of scores: the package's only AUROC, average precision and best F1."""

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Flags, Scores

RECALLS = np.linspace(0, 1, 101)  # at which COCO reads precision


def is_ranked(scores: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which scores have a rank: a value that is no number, or infinite, is neither high nor low."""
    return np.asarray(np.isfinite(scores), np.bool_)


def auroc(scores: Scores, positive: Flags) -> float:
    """Area under the ROC curve of N scores: the share of (negative, positive) pairs in order, ties counting half."""
    return auroc_of_sorted(np.sort(scores[~positive]), scores[positive])


def auroc_of_sorted(negatives: NDArray[np.floating], positives: NDArray[np.floating]) -> float:
    """The AUROC from the scores of each side, where those of the negatives are sorted already."""
    ranks = (np.searchsorted(negatives, positives, side).sum(dtype=np.int64) for side in ("left", "right"))
    return sum(map(int, ranks)) / (2 * len(negatives) * len(positives))


def threshold_counts(scores: Scores, positive: Flags) -> tuple[Scores, Scores, Scores]:
    """Each distinct score as a threshold, from the highest down, with the true and false positives at or above it."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    hits = np.cumsum(positive[order])[last]
    return ordered[last], hits.astype(np.float64), (last + 1 - hits).astype(np.float64)


def average_precision(scores: Scores, positive: Flags) -> float:
    """Precision averaged over the steps of recall, one step a distinct score."""
    _, hits, alarms = threshold_counts(scores, positive)
    return precision_by_steps(hits, alarms)


def precision_by_steps(hits: NDArray[np.number], alarms: NDArray[np.number]) -> float:
    """Average precision from the true and false positives at falling thresholds, the last of which takes everything."""
    return float((np.diff(hits, prepend=0) * (hits / (hits + alarms))).sum() / hits[-1])


def interpolated_precision(recall: Scores, precision: Scores) -> float:
    """COCO's average precision of a curve in order of falling score: the best precision at each of 101 recalls."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.append(envelope, 0.0)[np.searchsorted(recall, RECALLS)].mean())


def f1(hits: NDArray[np.number], called: NDArray[np.number], positives: float) -> Scores:
    """F1 by threshold: `hits` of `called` items are positive, of `positives` in all."""
    return np.asarray(2 * hits / (called + positives), np.float64)


def best_f1(scores: Scores, positive: Flags, positives: int | None = None) -> tuple[float, float, float | None]:
    """The highest F1, the threshold that gives it, and the next lower score (None where there is none).

    `positives` is the number of positives in all, where some have no score; by default those among the scores.
    """
    thresholds, hits, alarms = threshold_counts(scores, positive)
    values = f1(hits, hits + alarms, hits[-1] if positives is None else positives)
    best = int(values.argmax())
    following = float(thresholds[best + 1]) if best + 1 < len(thresholds) else None
    return float(values[best]), float(thresholds[best]), following


def best_f1_threshold(scores: Scores, positive: Flags, positives: int | None = None) -> float:
    """The threshold of the highest F1: the middle between the lowest positive score and the next lower one (or 0)."""
    _, threshold, following = best_f1(scores, positive, positives)
    return (threshold + (following or 0.0)) / 2
