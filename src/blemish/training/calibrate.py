"""Thresholds from validation scores, and what they promise.

With good images only, a threshold for a stated false-alarm rate: the order statistic of the good scores that a new good
part exceeds with at most that probability (the rank of split conformal prediction, Vovk et al. 2005). With defects in
validation, the threshold for a target escape rate, or of lowest cost. Test images are never looked at.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.intervals import clopper_pearson
from blemish.inspection.manifest import Calibration, Decision

Scores = NDArray[np.float64]
Source = Literal["held-out", "cross-fitted", "validation"]

MARGIN = 1e-4  # of the largest score: another engine's rounding must not turn the verdict of the image at the threshold
HALF_HEIGHT = 0.5  # where the edge of a shape lies in a blurred map of it


@dataclass(frozen=True)
class Target:
    """What the thresholds are to achieve."""

    false_alarm: float = 0.01  # share of good parts rejected
    review: float = 0.05  # share of good parts at or above the review threshold
    escape: float | None = None  # share of defective parts passed; needs defects in validation
    cost_escape: float | None = None  # cost of one escape, in units of one false alarm; instead of `escape`


def good_threshold(scores: Scores, rate: float) -> float:
    """The threshold that a new good part reaches with probability at most `rate`, if there are scores enough.

    With n good scores the rank is ceil((n + 1)(1 - rate)); beyond n no threshold can promise the rate and the largest
    score is taken. At or above the threshold counts, so it lies above the score of that rank, by MARGIN.
    """
    ordered = np.sort(scores)
    rank = math.ceil((len(ordered) + 1) * (1 - rate))
    return float(ordered[min(rank, len(ordered)) - 1] + MARGIN * np.abs(ordered).max())


def escape_threshold(defective: Scores, rate: float) -> float:
    """The highest threshold that lets at most a share `rate` of the defective scores pass below it."""
    ordered = np.sort(defective)
    allowed = min(math.floor(rate * len(ordered) + 1e-9), len(ordered) - 1)
    return float(ordered[allowed])


def cost_threshold(good: Scores, defective: Scores, cost_escape: float) -> float:
    """The threshold with the lowest cost: false alarms plus `cost_escape` for each escape, rates weighted equally.

    Between neighbouring scores of equal cost, the middle of the gap.
    """
    levels = np.unique(np.concatenate([good, defective]))
    candidates = np.concatenate([levels[:1], (levels[1:] + levels[:-1]) / 2, [np.nextafter(levels[-1], np.inf)]])
    false_alarms = 1 - np.searchsorted(np.sort(good), candidates) / max(len(good), 1)
    escapes = np.searchsorted(np.sort(defective), candidates) / max(len(defective), 1)
    return float(candidates[int(np.argmin(false_alarms + cost_escape * escapes))])


def parts_to_promise(rate: float) -> int:
    """Good images needed before the threshold for a false-alarm rate can be promised at all."""
    return math.ceil(1 / rate) - 1


def calibrate(
    good: Scores,
    defective: Scores,
    good_map_peaks: Scores,
    target: Target,
    source: Source,
) -> tuple[Decision, Calibration]:
    """Thresholds on the score and the heat map, and what they promise.

    `good_map_peaks` is the largest heat-map value of each good image (empty without a map): regions are seeded where
    the map exceeds what good images show, and reach to half their height above the median of the good peaks.
    """
    warnings = []
    if len(defective) and (target.escape is not None or target.cost_escape is not None):
        if target.cost_escape is not None:
            reject = review = cost_threshold(good, defective, target.cost_escape)
            words = f"lowest cost, an escape costing {target.cost_escape:g} false alarms"
        else:
            assert target.escape is not None
            # What is below the review threshold passes; what few good parts reach is rejected without a look.
            review = escape_threshold(defective, target.escape)
            reject = max(review, good_threshold(good, target.false_alarm)) if len(good) else review
            words = f"escape rate {target.escape:g}"
        source = "validation"
    else:
        if target.escape is not None or target.cost_escape is not None:
            warnings.append("no defective validation images: the threshold follows the false-alarm rate instead")
        reject = good_threshold(good, target.false_alarm)
        review = min(reject, good_threshold(good, target.review))
        words = f"false-alarm rate {target.false_alarm:g}"
        needed = parts_to_promise(target.false_alarm)
        if len(good) < needed:
            warnings.append(
                f"{len(good)} good validation images cannot promise a false-alarm rate of {target.false_alarm:g}; "
                f"it takes {needed}. The threshold is the largest good score seen"
            )
    decision = Decision(review=review, reject=reject)
    if len(good_map_peaks):
        decision.map_high = good_threshold(good_map_peaks, target.false_alarm)
        decision.map_low = float(np.median(good_map_peaks))
        decision.edge = HALF_HEIGHT
    return decision, Calibration(
        source=source,
        target=words,
        good_images=len(good),
        defect_images=len(defective),
        false_alarm=_share(good >= reject),
        escape=_share(defective < review),
        warnings=warnings,
    )


def _share(hits: NDArray[np.bool_]) -> tuple[float, float, float] | None:
    """Share of hits with its 95 % interval; None of nothing."""
    if not len(hits):
        return None
    count, total = int(hits.sum()), len(hits)
    low, high = clopper_pearson(count, total)
    return count / total, low, high
