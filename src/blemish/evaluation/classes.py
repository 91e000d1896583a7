"""Figures of the classes that a bundle names."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.intervals import Estimate, share


@dataclass(frozen=True)
class ClassFigures:
    classes: list[str]
    accuracy: Estimate
    balanced_accuracy: float  # mean recall of the classes that occur
    macro_f1: float  # of the classes that occur or are predicted
    precision: dict[str, Estimate | None]
    recall: dict[str, Estimate | None]
    confusion: list[list[int]]  # [truth][prediction]


def class_figures(truth: list[str], predicted: list[str]) -> ClassFigures:
    """Figures of N images from their true and predicted class names."""
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
        precision=_shares(names, hits, called),
        recall=_shares(names, hits, actual),
        confusion=confusion.tolist(),
    )


def _shares(names: list[str], hits: NDArray[np.int64], totals: NDArray[np.int64]) -> dict[str, Estimate | None]:
    return {
        name: share(int(hit), int(total)) if total else None
        for name, hit, total in zip(names, hits, totals, strict=True)
    }
