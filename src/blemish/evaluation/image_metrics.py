"""Metrics of whole images: ranking by the raw scores, and escapes and overkill of the verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Flags, Scores
from blemish.evaluation.intervals import Proof, RateEstimate, auroc_interval, estimate_rate, prove_escape_rate
from blemish.evaluation.ranking import auroc, average_precision, best_f1
from blemish.inspection.result import Verdict

RATES = (0.05, 0.01, 0.001)  # escape rates that a line may have to prove


@dataclass(frozen=True)
class ImageMetrics:
    """`escape_rate`: defective parts that passed. `overkill_rate`: good parts rejected. Reviews are neither."""

    auroc: RateEstimate | None
    ap: float | None
    f1: float | None  # defective is positive; review and reject count as detected
    best_f1: float | None  # at the best threshold on these very images: an upper limit, not a promise
    escape_rate: RateEstimate | None
    overkill_rate: RateEstimate | None
    review_rate: RateEstimate
    proof: Proof | None  # what the defective images prove of the escape rate


def image_metrics(scores: Scores, defective: Flags, verdicts: Sequence[Verdict]) -> ImageMetrics:
    """Metrics of N images; those that need both kinds of image are None where one is missing."""
    passed, rejected = (np.array([v == verdict for v in verdicts]) for verdict in (Verdict.PASS, Verdict.REJECT))
    good_count, defect_count = int((~defective).sum()), int(defective.sum())
    escapes, hits = int((passed & defective).sum()), int((~passed & defective).sum())
    both = good_count > 0 and defect_count > 0
    return ImageMetrics(
        auroc=RateEstimate(
            auroc(scores, defective), *auroc_interval(scores[~defective], scores[defective]), len(scores)
        )
        if both
        else None,
        ap=average_precision(scores, defective) if both else None,
        f1=2 * hits / (int((~passed).sum()) + defect_count) if defect_count else None,
        best_f1=best_f1(scores, defective)[0] if both else None,
        escape_rate=estimate_rate(escapes, defect_count) if defect_count else None,
        overkill_rate=estimate_rate(int((rejected & ~defective).sum()), good_count) if good_count else None,
        review_rate=estimate_rate(int((~passed & ~rejected).sum()), len(scores)),
        proof=prove_escape_rate(escapes, defect_count, RATES) if defect_count else None,
    )
