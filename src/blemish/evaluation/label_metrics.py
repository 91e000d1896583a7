"""Metrics of images that may have several defect classes at once (multi-label): each class is present or absent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.evaluation.class_metrics import calibration_error, rates_by_class
from blemish.evaluation.intervals import RateEstimate
from blemish.evaluation.ranking import average_precision
from blemish.evaluation.units import Units, estimate_share

DEFAULT_THRESHOLD = 0.5  # of a class for which the decision has none


@dataclass(frozen=True)
class LabelMetrics:
    """Over defect classes only: an image that has none of them is good."""

    classes: list[str]  # that occur in the annotations, or that the bundle knows
    exact: RateEstimate  # images with every class right
    micro_f1: float  # of all classes of all images pooled
    macro_f1: float  # mean over the classes that occur or are predicted
    macro_ap: float  # mean over the classes that occur
    ap: dict[str, float | None]
    precision: dict[str, RateEstimate | None]
    recall: dict[str, RateEstimate | None]
    ece: float  # mean over the classes: stated probabilities against the share of images that have the class


def label_metrics(
    annotated: Sequence[frozenset[str]],
    scores: Sequence[Mapping[str, float]],
    thresholds: Mapping[str, float],
    units: Units | None = None,
) -> LabelMetrics | None:
    """Metrics of N images from the defect classes that each has and the probability of each defect class.

    A class is predicted from its threshold on, by default 0.5. None where no image has any class. Rates with intervals
    are of independent units, see `blemish.evaluation.units`.
    """
    names = sorted({name for own in annotated for name in own} | {name for own in scores for name in own})
    actual = np.array([[name in own for name in names] for own in annotated], np.bool_)
    if not actual.any():
        return None
    given = np.array([[own.get(name, 0.0) for name in names] for own in scores], np.float64)
    predicted = given >= np.array([thresholds.get(name, DEFAULT_THRESHOLD) for name in names])
    predicted &= np.array([[name in own for name in names] for own in scores])
    hits, present, called = (actual & predicted).sum(axis=0), actual.sum(axis=0), predicted.sum(axis=0)
    counted = present + called > 0
    ap = [average_precision(given[:, i], actual[:, i]) if present[i] else None for i in range(len(names))]
    return LabelMetrics(
        classes=names,
        exact=estimate_share((actual == predicted).all(axis=1), units),
        micro_f1=float(2 * hits.sum() / (present.sum() + called.sum())),
        macro_f1=float((2 * hits[counted] / (present + called)[counted]).mean()),
        macro_ap=float(np.mean([value for value in ap if value is not None])),
        ap=dict(zip(names, ap, strict=True)),
        precision=rates_by_class(names, actual, predicted, units),
        recall=rates_by_class(names, predicted, actual, units),
        ece=float(np.mean([calibration_error(given[:, i].tolist(), actual[:, i].tolist()) for i in range(len(names))])),
    )
