"""Metrics of whole images: ranking by the raw scores, and escapes and overkill of the verdicts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Flags, Scores
from blemish.evaluation.intervals import Proof, RateEstimate, auroc_interval, estimate_rate, prove_escape_rate
from blemish.evaluation.ranking import auroc, average_precision, best_f1
from blemish.inspection.result import Verdict

RATES = (0.05, 0.01, 0.001)  # escape rates that a line may have to prove
FALSE_ALARMS = (0.01, 0.05)  # false-alarm rates at which escapes are stated


@dataclass(frozen=True)
class ImageMetrics:
    """`escape_rate`: defective parts that passed. `overkill_rate`: good parts rejected. Reviews are neither.

    `escape_at_1_percent` and `escape_at_5_percent` are read off the ROC of these very images, see `escape_at`.
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


def image_metrics(scores: Scores, defective: Flags, verdicts: Sequence[Verdict]) -> ImageMetrics:
    """Metrics of N images; those that need both kinds of image are None where one is missing.

    Scores that are no numbers have no rank: their images count among the verdicts only.
    """
    passed, rejected = (np.array([v == verdict for v in verdicts]) for verdict in (Verdict.PASS, Verdict.REJECT))
    good_count, defect_count = int((~defective).sum()), int(defective.sum())
    escapes, hits = int((passed & defective).sum()), int((~passed & defective).sum())
    known = np.isfinite(scores)
    ranks, bad = scores[known], defective[known]
    both = 0 < int(bad.sum()) < len(bad)
    return ImageMetrics(
        auroc=RateEstimate(auroc(ranks, bad), *auroc_interval(ranks[~bad], ranks[bad]), len(ranks)) if both else None,
        ap=average_precision(ranks, bad) if both else None,
        f1=2 * hits / (int((~passed).sum()) + defect_count) if defect_count else None,
        best_f1=best_f1(ranks, bad)[0] if both else None,
        escape_rate=estimate_rate(escapes, defect_count) if defect_count else None,
        overkill_rate=estimate_rate(int((rejected & ~defective).sum()), good_count) if good_count else None,
        review_rate=estimate_rate(int((~passed & ~rejected).sum()), len(scores)),
        escape_at_1_percent=escape_at(ranks, bad, FALSE_ALARMS[0]) if both else None,
        escape_at_5_percent=escape_at(ranks, bad, FALSE_ALARMS[1]) if both else None,
        proof=prove_escape_rate(escapes, defect_count, RATES) if defect_count else None,
    )


def escape_at(scores: Scores, defective: Flags, false_alarm: float) -> RateEstimate:
    """Share of the defective scores that pass at the lowest threshold that rejects at most this share of the good ones.

    With its exact interval. With fewer than 1 / `false_alarm` good scores no false alarm is allowed at all.
    """
    good = np.sort(scores[~defective])[::-1]
    allowed = math.floor(false_alarm * len(good) + 1e-9)  # 100 * 0.29 is not quite 29
    passed = int((scores[defective] <= good[allowed]).sum()) if allowed < len(good) else 0
    return estimate_rate(passed, int(defective.sum()))
