"""Metrics of the classes that a bundle predicts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Mask
from blemish.evaluation.intervals import RateEstimate
from blemish.evaluation.units import Units, estimate_share, select_units

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
    annotated: list[str],
    predicted: list[str],
    probabilities: Sequence[float] | None = None,
    units: Units | None = None,
) -> ClassMetrics:
    """Metrics of N images from their true and predicted classes, and the probabilities of the predicted ones.

    Rates with intervals are of independent units, see `blemish.evaluation.units`, all others of images.
    """
    names = sorted({*annotated, *predicted}, key=lambda name: (name != "good", name))
    index = {name: i for i, name in enumerate(names)}
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, ([index[t] for t in annotated], [index[p] for p in predicted]), 1)
    hits, actual, called = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = actual > 0
    is_true, is_called = (np.array(labels)[:, None] == np.array(names) for labels in (annotated, predicted))
    return ClassMetrics(
        classes=names,
        accuracy=estimate_share((is_true & is_called).any(axis=1), units),
        balanced_accuracy=float((hits[occurs] / actual[occurs]).mean()),
        macro_f1=float((2 * hits / (actual + called)).mean()),
        precision=rates_by_class(names, is_true, is_called, units),
        recall=rates_by_class(names, is_called, is_true, units),
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


def rates_by_class(
    names: Sequence[str], hits: Mask, among: Mask, units: Units | None = None
) -> dict[str, RateEstimate | None]:
    """For each class the rate of hits (N, classes) among its images (N, classes); None without any."""
    units = [None] * len(among) if units is None else units
    return {
        name: estimate_share(hits[own, i], select_units(units, own)) if (own := among[:, i]).any() else None
        for i, name in enumerate(names)
    }
