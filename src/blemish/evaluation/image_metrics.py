"""Metrics of whole images: ranking by the raw scores, and escapes and overkill of the verdicts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Flags, Scores
from blemish.evaluation.intervals import ROUNDING, Proof, RateEstimate, auroc_interval, prove_escape_rate
from blemish.evaluation.ranking import auroc, average_precision, best_f1, is_ranked
from blemish.evaluation.units import Units, count_hits, count_units, estimate_share, select_units, unit_weights
from blemish.inspection.result import Verdict

RATES = (0.05, 0.01, 0.001)  # escape rates that a line may have to prove
FALSE_ALARMS = (0.01, 0.05)  # false-alarm rates at which escapes are stated


@dataclass(frozen=True)
class ImageMetrics:
    """`escape_rate`: defective parts that passed. `overkill_rate`: good parts rejected. Reviews are neither.

    `escape_at_1_percent` and `escape_at_5_percent` are read off the ROC of these very images, see `escape_at`.
    Rates, intervals, proof and the numbers behind them are of independent units, see `blemish.evaluation.units`.
    """

    auroc: RateEstimate | None
    ap: float | None
    f1: float | None  # defective is positive; review and reject count as detected
    best_f1: float | None  # at the best threshold on these very images: an upper limit, not a promise
    escape_rate: RateEstimate | None
    overkill_rate: RateEstimate | None
    review_rate: RateEstimate
    escape_at_1_percent: RateEstimate | None
    escape_at_5_percent: RateEstimate | None
    proof: Proof | None  # what the defective images prove of the escape rate


def image_metrics(
    scores: Scores, defective: Flags, verdicts: Sequence[Verdict], units: Units | None = None
) -> ImageMetrics:
    """Metrics of N images; those that need both kinds of image are None where one is missing.

    Scores that are no numbers have no rank: their images count among the verdicts only.
    """
    units = [None] * len(scores) if units is None else units
    passed = np.array([verdict == Verdict.PASS for verdict in verdicts], np.bool_)
    rejected = np.array([verdict == Verdict.REJECT for verdict in verdicts], np.bool_)
    hits, defect_count = int((~passed & defective).sum()), int(defective.sum())
    bad_units, good_units = select_units(units, defective), select_units(units, ~defective)
    known = is_ranked(scores)
    ranks, bad, ranked_units = scores[known], defective[known], select_units(units, known)
    both = 0 < int(bad.sum()) < len(bad)
    return ImageMetrics(
        auroc=estimate_auroc(ranks, bad, ranked_units) if both else None,
        ap=average_precision(ranks, bad) if both else None,
        f1=2 * hits / (int((~passed).sum()) + defect_count) if defect_count else None,
        best_f1=best_f1(ranks, bad)[0] if both else None,
        escape_rate=estimate_share(passed[defective], bad_units) if bad_units else None,
        overkill_rate=estimate_share(rejected[~defective], good_units) if good_units else None,
        review_rate=estimate_share(~passed & ~rejected, units),
        escape_at_1_percent=escape_at(ranks, bad, FALSE_ALARMS[0], ranked_units) if both else None,
        escape_at_5_percent=escape_at(ranks, bad, FALSE_ALARMS[1], ranked_units) if both else None,
        proof=_prove(passed[defective], bad_units) if bad_units else None,
    )


def estimate_auroc(scores: Scores, defective: Flags, units: Units) -> RateEstimate:
    """The AUROC over all images, and its interval for their units."""
    sides = select_units(units, ~defective), select_units(units, defective)
    low, high = auroc_interval(scores[~defective], scores[defective], good_units=sides[0], defective_units=sides[1])
    return RateEstimate(auroc(scores, defective), low, high, count_units(units))


def escape_at(scores: Scores, defective: Flags, false_alarm: float, units: Units) -> RateEstimate:
    """Share of the defective scores that pass at the lowest threshold that rejects at most this share of the good ones.

    With its exact interval. With fewer than 1 / `false_alarm` good scores no false alarm is allowed at all.
    """
    good, good_units = scores[~defective], select_units(units, ~defective)
    order = np.argsort(-good, kind="stable")
    rejected = np.cumsum(unit_weights(good_units)[order])  # at a threshold just below each good score, falling
    allowed = int(np.searchsorted(rejected, false_alarm * count_units(good_units) + ROUNDING, "right"))
    passed = scores[defective] <= (good[order[allowed]] if allowed < len(good) else -np.inf)
    return estimate_share(passed, select_units(units, defective))


def _prove(passed: Flags, units: Units) -> Proof:
    """The proof by defective images; a unit of which a share passed counts among the escapes with that share."""
    return prove_escape_rate(math.ceil(count_hits(passed, units) - ROUNDING), count_units(units), RATES)
