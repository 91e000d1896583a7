"""Metrics of the classes that a bundle predicts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Counts
from blemish.evaluation.intervals import RateEstimate, estimate_rate

BINS = 15  # of probability, for the calibration error


@dataclass(frozen=True)
class ClassMetrics:
    """Classification metrics; the ranking of good and defective images is in `ImageMetrics.auroc`, by 1 - P(good)."""

    classes: list[str]
    accuracy: RateEstimate
    balanced_accuracy: float  # mean recall of the classes that occur
    macro_f1: float  # of the classes that occur or are predicted
    precision: dict[str, RateEstimate | None]
    recall: dict[str, RateEstimate | None]
    confusion: list[list[int]]  # [true class][predicted class]
    ece: float | None = None  # expected calibration error: predicted probabilities against the share that is right


def class_metrics(
    annotated: list[str], predicted: list[str], probabilities: Sequence[float] | None = None
) -> ClassMetrics:
    """Metrics of N images from their true and predicted classes, and the probabilities of the predicted ones."""
    names = sorted({*annotated, *predicted}, key=lambda name: (name != "good", name))
    index = {name: i for i, name in enumerate(names)}
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, ([index[t] for t in annotated], [index[p] for p in predicted]), 1)
    hits, actual, called = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = actual > 0
    return ClassMetrics(
        classes=names,
        accuracy=estimate_rate(int(hits.sum()), len(annotated)),
        balanced_accuracy=float((hits[occurs] / actual[occurs]).mean()),
        macro_f1=float((2 * hits / (actual + called)).mean()),
        precision=rates_by_class(names, hits, called),
        recall=rates_by_class(names, hits, actual),
        confusion=confusion.tolist(),
        ece=None
        if probabilities is None
        else calibration_error(probabilities, [*map(str.__eq__, annotated, predicted)]),
    )


def calibration_error(probabilities: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error (Guo et al. 2017) of N predictions: 15 equal bins of probability.

    The mean, over all predictions, of the distance between mean probability and share of right ones in their bin.
    """
    stated, hits = np.asarray(probabilities, np.float64), np.asarray(right, np.float64)
    bins = np.clip(np.ceil(stated * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, stated, BINS) - np.bincount(bins, hits, BINS)
    return float(np.abs(gaps).sum() / len(stated))


def rates_by_class(names: list[str], hits: Counts, totals: Counts) -> dict[str, RateEstimate | None]:
    """Hits over totals of each class with their intervals; None where the total is 0."""
    return {
        name: estimate_rate(int(hit), int(total)) if total else None
        for name, hit, total in zip(names, hits, totals, strict=True)
    }
