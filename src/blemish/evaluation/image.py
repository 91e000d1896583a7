"""Figures of whole images: how well the raw scores rank them, and what the verdicts let through or stop for nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.intervals import Estimate, Proof, auroc_interval, prove, share
from blemish.inspection.result import Verdict

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RATES = (0.05, 0.01, 0.001)  # escape rates that a line may have to prove


@dataclass(frozen=True)
class ImageFigures:
    """`escape_rate`: defective parts that passed. `overkill_rate`: good parts rejected. Reviews are neither."""

    auroc: Estimate | None
    ap: float | None
    f1: float | None  # defective is positive; review and reject count as found
    best_f1: float | None  # at the best threshold on these very images: an upper limit, not a promise
    escape_rate: Estimate | None
    overkill_rate: Estimate | None
    review_rate: Estimate
    proof: Proof | None  # what the defective images prove of the escape rate


def image_figures(scores: Floats, defective: Bools, verdicts: list[Verdict]) -> ImageFigures:
    """Figures of N images; those that need both kinds of image are None where one is missing."""
    passed = np.array([v == Verdict.PASS for v in verdicts])
    rejected = np.array([v == Verdict.REJECT for v in verdicts])
    good_count, defect_count = int((~defective).sum()), int(defective.sum())
    both = good_count > 0 and defect_count > 0
    area = None
    if both:
        low, high = auroc_interval(scores[~defective], scores[defective])
        area = Estimate(auroc(scores, defective), low, high, len(scores))
    found = ~passed
    hits = int((found & defective).sum())
    return ImageFigures(
        auroc=area,
        ap=average_precision(scores, defective) if both else None,
        f1=2 * hits / (int(found.sum()) + defect_count) if defect_count else None,
        best_f1=best_f1(scores, defective)[0] if both else None,
        escape_rate=share(int((passed & defective).sum()), defect_count) if defect_count else None,
        overkill_rate=share(int((rejected & ~defective).sum()), good_count) if good_count else None,
        review_rate=share(int((~passed & ~rejected).sum()), len(scores)),
        proof=prove(int((passed & defective).sum()), defect_count, RATES) if defect_count else None,
    )


def auroc(scores: Floats, defective: Bools) -> float:
    """Share of (good, defective) pairs in the right order, ties counting half."""
    good, bad = np.sort(scores[~defective]), scores[defective]
    below = np.searchsorted(good, bad, "left").sum() + np.searchsorted(good, bad, "right").sum()
    return float(below / (2 * len(good) * len(bad)))


def curve(scores: Floats, defective: Bools) -> tuple[Floats, Floats, Floats]:
    """(thresholds, defective, good) at or above each distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    hits = np.cumsum(defective[order])[last]
    return ordered[last], hits.astype(np.float64), (last + 1 - hits).astype(np.float64)


def average_precision(scores: Floats, defective: Bools) -> float:
    """Precision averaged over the steps of recall, one step a distinct score."""
    _, hits, alarms = curve(scores, defective)
    return float((np.diff(hits, prepend=0) * hits / (hits + alarms)).sum() / hits[-1])


def best_f1(scores: Floats, defective: Bools) -> tuple[float, float]:
    """The highest F1 and the threshold that gives it."""
    thresholds, hits, alarms = curve(scores, defective)
    values = 2 * hits / (hits + alarms + hits[-1])
    best = int(values.argmax())
    return float(values[best]), float(thresholds[best])
