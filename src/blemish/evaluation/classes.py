"""Figures of the classes that a bundle names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.intervals import Estimate, share

BINS = 15  # of probability, for the calibration error


@dataclass(frozen=True)
class ClassFigures:
    """What good against defective scores is in `ImageFigures.auroc`: there the score is 1 - P(good)."""

    classes: list[str]
    accuracy: Estimate
    balanced_accuracy: float  # mean recall of the classes that occur
    macro_f1: float  # of the classes that occur or are predicted
    precision: dict[str, Estimate | None]
    recall: dict[str, Estimate | None]
    confusion: list[list[int]]  # [truth][prediction]
    ece: float | None = None  # expected calibration error: how far the stated probabilities are from the shares right


def class_figures(truth: list[str], predicted: list[str], probabilities: Sequence[float] | None = None) -> ClassFigures:
    """Figures of N images from their true and predicted class names, and the probabilities of the predicted ones."""
    names = sorted({*truth, *predicted}, key=lambda name: (name != "good", name))
    place = {name: i for i, name in enumerate(names)}
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, ([place[t] for t in truth], [place[p] for p in predicted]), 1)
    hits, actual, called = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = actual > 0
    return ClassFigures(
        classes=names,
        accuracy=share(int(hits.sum()), len(truth)),
        balanced_accuracy=float((hits[occurs] / actual[occurs]).mean()),
        macro_f1=float((2 * hits / (actual + called)).mean()),
        precision=shares_of(names, hits, called),
        recall=shares_of(names, hits, actual),
        confusion=confusion.tolist(),
        ece=None if probabilities is None else calibration_error(probabilities, [*map(str.__eq__, truth, predicted)]),
    )


def calibration_error(probabilities: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error (Guo et al. 2017) of N predictions: 15 equal bins of probability.

    The mean, over all predictions, of the distance between mean probability and share of right ones in their bin.
    """
    stated, hits = np.asarray(probabilities, np.float64), np.asarray(right, np.float64)
    bins = np.clip(np.ceil(stated * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, stated, BINS) - np.bincount(bins, hits, BINS)
    return float(np.abs(gaps).sum() / len(stated))


def shares_of(names: list[str], hits: NDArray[np.int64], totals: NDArray[np.int64]) -> dict[str, Estimate | None]:
    """By class hits over totals, with their intervals; None where the total is 0."""
    return {
        name: share(int(hit), int(total)) if total else None
        for name, hit, total in zip(names, hits, totals, strict=True)
    }
