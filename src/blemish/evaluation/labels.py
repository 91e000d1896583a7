"""Figures of images that may show several defects at once: each class is a yes or no of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.evaluation.classes import calibration_error, shares_of
from blemish.evaluation.image import average_precision
from blemish.evaluation.intervals import Estimate, share

PROBABLE = 0.5  # threshold of a class that the decision gives none


@dataclass(frozen=True)
class LabelFigures:
    """Of defect classes alone: an image that shows none of them is good."""

    classes: list[str]  # that occur in the truth, or that the bundle knows
    exact: Estimate  # images of which every class is right
    micro_f1: float  # of all yes and no together
    macro_f1: float  # mean over the classes that occur or are called
    macro_ap: float  # mean over the classes that occur
    ap: dict[str, float | None]
    precision: dict[str, Estimate | None]
    recall: dict[str, Estimate | None]
    ece: float  # mean over the classes: how far the stated probabilities are from the shares of images that show it


def label_figures(
    truth: Sequence[frozenset[str]], scores: Sequence[Mapping[str, float]], thresholds: Mapping[str, float]
) -> LabelFigures | None:
    """Figures of N images from the defect classes that each shows and the probability of each defect class.

    A class is called from its threshold on, else from 0.5. None where no image shows any class.
    """
    names = sorted({name for own in truth for name in own} | {name for own in scores for name in own})
    actual = np.array([[name in own for name in names] for own in truth], np.bool_)
    if not actual.any():
        return None
    given = np.array([[own.get(name, 0.0) for name in names] for own in scores], np.float64)
    called = given >= np.array([thresholds.get(name, PROBABLE) for name in names])
    called &= np.array([[name in own for name in names] for own in scores])
    hits, shown, said = (actual & called).sum(axis=0), actual.sum(axis=0), called.sum(axis=0)
    counted = shown + said > 0
    ap = [average_precision(given[:, i], actual[:, i]) if shown[i] else None for i in range(len(names))]
    return LabelFigures(
        classes=names,
        exact=share(int((actual == called).all(axis=1).sum()), len(truth)),
        micro_f1=float(2 * hits.sum() / (shown.sum() + said.sum())),
        macro_f1=float((2 * hits[counted] / (shown + said)[counted]).mean()),
        macro_ap=float(np.mean([value for value in ap if value is not None])),
        ap=dict(zip(names, ap, strict=True)),
        precision=shares_of(names, hits, said),
        recall=shares_of(names, hits, shown),
        ece=float(np.mean([calibration_error(given[:, i].tolist(), actual[:, i].tolist()) for i in range(len(names))])),
    )
