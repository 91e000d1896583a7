"""Thresholds from validation scores, and the error rates that they promise.

With only good images, the threshold for a stated false-alarm rate is the order statistic of the good scores that a new
good part exceeds with at most that probability (the rank of split conformal prediction, Vovk et al. 2005). Where
defects in validation score higher, the threshold moves half the way up to them. With a target escape rate, it is the
order statistic of the defective scores; with costs, it follows both and promises nothing. Images of one group, and
copies, count as one part. Rates stated are those of the images that chose the thresholds. Test images are never used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from blemish.arrays import Scores
from blemish.dataset.sample import GOOD
from blemish.evaluation.intervals import ROUNDING, RateEstimate
from blemish.evaluation.units import Units, count_units, describe_images, estimate_share, unit_weights
from blemish.inspection.decide import decide
from blemish.inspection.manifest import Calibration, Decision
from blemish.inspection.result import Verdict
from blemish.training.ship.calibration_data import (
    CalibrationData,
    ClassifiedImage,
    best_peak_threshold,
    class_thresholds,
)

Source = Literal["held-out", "cross-fitted", "validation", "training"]

MARGIN = 1e-4  # of the largest score: another engine's rounding must not turn the verdict of the image at the threshold
CERTAIN = 0.5  # probability from which a class is likelier than all others together
PRODUCT_RATE = 0.1  # false-alarm rate that a product's own good images must at least be able to promise
NO_VALIDATION = (
    "no validation images: the thresholds come from training images and promise nothing, and good parts that the "
    "method has not seen may well be rejected; take --calibration cross-fitted, or more images or groups"
)
BY_TRAINING = "chosen by training images"
HALF_HEIGHT = 0.5  # of a blurred map of a shape: where the edge of the shape lies


@dataclass(frozen=True)
class CalibrationTarget:
    """Rates or costs that the thresholds should achieve."""

    false_alarm: float = 0.01  # share of good parts rejected
    review: float = 0.05  # share of good parts at or above the review threshold
    escape: float | None = None  # share of defective parts passed; needs defects in validation
    cost_escape: float | None = None  # cost of one escape, in units of one false alarm; instead of `escape`
    per_class: bool = False  # also a threshold for each defect class, with the highest F1


@dataclass(frozen=True)
class UnitScores:
    """Scores (N,) of images with their units; `len` is the number of units."""

    scores: Scores
    units: Units

    @classmethod
    def make(cls, scores: Sequence[float], units: Units) -> "UnitScores":
        return cls(np.asarray(scores, np.float64), units or [None] * len(scores))

    def __len__(self) -> int:
        return count_units(self.units)

    def share_below(self, levels: Scores) -> Scores:
        """The share of units (0 without any) with a score below each level."""
        order = np.argsort(self.scores, kind="stable")
        sums = np.cumsum(np.append(0.0, unit_weights(self.units)[order]))
        return np.asarray(sums[np.searchsorted(self.scores[order], levels)] / max(len(self), 1), np.float64)


def good_threshold(scores: Scores, rate: float, units: Units | None = None) -> float:
    """The threshold that a new good part reaches with probability at most `rate`, given enough scores.

    With n good scores the rank is ceil((n + 1)(1 - rate)); beyond n no threshold can promise the rate and the largest
    score is taken. Of n units with several scores, each score counts as its share of the unit (Lee et al. 2023,
    hierarchical conformal prediction). A score at the threshold is a defect, so the threshold lies above the score of
    that rank by MARGIN, also for a detector whose scores on good parts are all 0.
    """
    order = np.argsort(scores, kind="stable")
    ordered, weights = scores[order], unit_weights([None] * len(scores) if units is None else units)[order]
    ranks = np.cumsum(weights)
    # 100 * (1 - 0.42) is not quite 58
    rank = int(np.searchsorted(ranks, (round(float(ranks[-1])) + 1) * (1 - rate) - ROUNDING))
    return float(ordered[min(rank, len(ordered) - 1)] + MARGIN * (np.abs(ordered).max() or 1.0))


def escape_threshold(scores: Scores, rate: float, units: Units | None = None) -> float:
    """The threshold that a new defective part stays below with probability at most `rate`, given enough scores.

    `good_threshold` from the other side: with too few defective scores it lies below the smallest of them.
    """
    return -good_threshold(-scores, rate, units)


def cost_threshold(good: UnitScores, defective: UnitScores, cost_escape: float) -> float:
    """The threshold with the lowest cost: false alarms plus `cost_escape` for each escape, rates weighted equally.

    Between neighbouring scores of equal cost, the middle of the gap.
    """
    levels = np.unique(np.concatenate([good.scores, defective.scores]))
    candidates = np.concatenate([levels[:1], (levels[1:] + levels[:-1]) / 2, [np.nextafter(levels[-1], np.inf)]])
    costs = 1 - good.share_below(candidates) + cost_escape * defective.share_below(candidates)
    return float(candidates[int(np.argmin(costs))])


def min_parts(rate: float) -> int:
    """Independent images of a kind needed before a threshold can promise this error rate of it, which is above 0."""
    return math.ceil(1 / rate) - 1


def has_own_thresholds(data: CalibrationData) -> bool:
    """Whether a product has enough good parts, nine, for thresholds of its own: those that can promise PRODUCT_RATE.

    Scores of products can lie far apart, so a few images of its own say more than many of others; but the largest of
    very few good scores is soon exceeded. As in `calibrate`, sound surface can replace good images.
    """
    sides = (data.good, data.good_units), (data.sound_peaks, data.sound_units)
    return len(UnitScores.make(*sides[not data.good])) >= min_parts(PRODUCT_RATE)


def calibrate(data: CalibrationData, target: CalibrationTarget, source: Source) -> tuple[Decision, Calibration]:
    """Choose thresholds on the score and the heat map, and state what they promise.

    Annotated pixels or boxes set the threshold for regions. Without them, regions are seeded where the map exceeds
    what the review rate allows the good images, since a part that is reviewed should show where to look, and reach to
    half their height above the median of the good peaks. Without good images, values of an
    anomaly map away from known defects replace them, and regions are seeded by the defects
    (`best_peak_threshold`). Otherwise no false-alarm rate can be promised: any region rejects, and where there are no
    regions, no threshold is set and every image goes to review. A classifier without a good class never passes an
    image: it rejects from a probability of CERTAIN, and less certain images go to review. The source "training" says
    that there are only training images.
    """
    sound = not data.good and bool(data.sound_peaks)
    if sound:  # each peak is the score that its image would have without its defects
        data = replace(data, good=data.sound_peaks, good_peaks=data.sound_peaks, good_units=data.sound_units)
    good = UnitScores.make(data.good, data.good_units)
    defective = UnitScores.make(data.defective, data.defective_units)
    review, reject, aim, warnings = _score_thresholds(good, defective, data, target)
    if source == "training":
        aim, warnings = BY_TRAINING, [NO_VALIDATION]
    warnings += _explain_images(data, good, defective, sound)
    if source != "training" and len(defective) and (target.escape is not None or target.cost_escape is not None):
        source = "validation"
    classes = class_thresholds(data.classes) if target.per_class else {}
    regions = _region_thresholds(data, target, sound)
    decision = Decision(review=review, reject=reject, class_thresholds=classes, **regions)
    rejected = passed = None
    if reject is not None and len(good):
        rejected = estimate_share(good.scores >= reject, good.units)
    if review is not None and len(defective):
        passed = estimate_share(defective.scores < review, defective.units)
    if decision.class_thresholds:
        warnings.append(
            "the classes have own thresholds, with the highest F1 on the images that the rates are stated for; they "
            "take precedence over the promised one"
        )
        rejected, passed = _verdict_rates(data, decision)
    if source == "training":
        rejected = passed = None  # rates on training images are meaningless
    return decision, Calibration(
        source=source,
        target=aim,
        good_images=len(good.units),
        defect_images=len(defective.units),
        good_parts=len(good),
        defect_parts=len(defective),
        false_alarm=None if rejected is None else (rejected.value, rejected.low, rejected.high),
        escape=None if passed is None else (passed.value, passed.low, passed.high),
        warnings=warnings,
    )


def _explain_images(data: CalibrationData, good: UnitScores, defective: UnitScores, sound: bool) -> list[str]:
    """Warnings of validation images that count less than one, or that are missing."""
    warnings = [
        f"{describe_images(f'{kind} validation', side.units)}, by groups and copies: each part counts once"
        for kind, side in (("good", good), ("defective", defective))
        if len(side) < len(side.units)
    ]
    if sound:
        warnings.append("no good validation image: the surface around the known defects is used instead")
    if data.unknown:
        warnings.append(f"{data.unknown} validation images are not labelled and are not used for the thresholds")
    if data.unscored:
        warnings.append(
            f"{data.unscored} validation images have a score or a heat map that is not a number and are not used for "
            "the thresholds"
        )
    return warnings


def _region_thresholds(data: CalibrationData, target: CalibrationTarget, sound: bool) -> dict[str, Any]:
    """`map_high`, `map_low` and `edge` of a decision; none where nothing is known of regions."""
    if data.region_threshold is not None:
        return {"map_high": data.region_threshold, "map_low": data.region_threshold}
    if not data.good_peaks:
        return {}
    peaks = np.asarray(data.good_peaks)
    high = best_peak_threshold(data.defect_peaks, data.sound_peaks) if sound else None
    if high is None:
        high = good_threshold(peaks, max(target.false_alarm, target.review), data.good_units or None)
    return {"map_high": high, "map_low": float(np.median(peaks)), "edge": HALF_HEIGHT}


def _verdict_rates(data: CalibrationData, decision: Decision) -> tuple[RateEstimate | None, RateEstimate | None]:
    """Rejected good images, and passed defective ones, by all thresholds together; None without such images."""
    rates: list[RateEstimate | None] = []
    for defective, wrong in ((False, Verdict.REJECT), (True, Verdict.PASS)):
        images = [image for image in data.classified if image.defective == defective]
        hits = np.array([_verdict(image, decision) == wrong for image in images], np.bool_)
        rates.append(estimate_share(hits, [image.unit for image in images]) if images else None)
    return rates[0], rates[1]


def _verdict(image: ClassifiedImage, decision: Decision) -> Verdict:
    scores = {name: score for name, score in image.class_scores.items() if name != GOOD}
    return decide(image.score, image.label, [], decision, scores).verdict


def _score_thresholds(
    good: UnitScores, defective: UnitScores, data: CalibrationData, target: CalibrationTarget
) -> tuple[float | None, float | None, str, list[str]]:
    """Thresholds for review and reject, their target as text, and warnings."""
    false_alarms = _explain_too_few(good, target.false_alarm, "good")
    if len(defective) and target.cost_escape is not None:
        cost = cost_threshold(good, defective, target.cost_escape)
        aim = f"lowest cost, an escape costing {target.cost_escape:g} false alarms"
        warning = (
            f"the cost is the lowest on {describe_images('good', good.units)} and "
            f"{describe_images('defective', defective.units)}, which chose the threshold: on new parts it is higher, "
            "and no rate is promised"
        )
        return cost, cost, aim, [warning]
    if len(defective) and target.escape is not None:
        # Below the review threshold parts pass; scores that few good parts reach are rejected without review.
        review = escape_threshold(defective.scores, target.escape, defective.units)
        reject = max(review, good_threshold(good.scores, target.false_alarm, good.units)) if len(good) else review
        escapes = _explain_too_few(defective, target.escape, "defective")
        return review, reject, f"escape rate {target.escape:g}", [*escapes, *false_alarms]
    if not len(good) and data.only_defects:
        return 0.0, CERTAIN, "a class likelier than all others together", false_alarms
    if not len(good):
        threshold = data.region_threshold
        aim = "no threshold" if threshold is None else "highest F1 of the detected defects"
        return threshold, threshold, aim, false_alarms
    if target.escape is not None or target.cost_escape is not None:
        missing = "no defective validation images: the threshold follows the false-alarm rate instead"
        false_alarms = [missing, *false_alarms]
    reject = good_threshold(good.scores, target.false_alarm, good.units)
    review = min(reject, good_threshold(good.scores, target.review, good.units))
    return review, _up_to_defects(reject, defective.scores), f"false-alarm rate {target.false_alarm:g}", false_alarms


def _explain_too_few(side: UnitScores, rate: float, kind: Literal["good", "defective"]) -> list[str]:
    """A warning where these images of a kind cannot promise an error rate of it."""
    if not len(side):
        if kind == "good":
            return ["no good validation images: no false-alarm rate can be promised"]
        return ["no defective validation images: no escape rate can be promised"]
    if rate and len(side) >= min_parts(rate):
        return []
    needed = f"{min_parts(rate)} are needed" if rate else "no number of images can"
    own = describe_images(f"{kind} validation", side.units)
    if kind == "good":
        line = f"{own} cannot promise a false-alarm rate of {rate:g}; {needed}. The threshold is the largest good score"
    else:
        line = (
            f"{own} cannot promise an escape rate of {rate:g}; {needed}. The threshold is the smallest defective score"
        )
    return [line]


def _up_to_defects(threshold: float, defective: Scores) -> float:
    """The middle between a threshold and the next defective score: as many escapes, and fewer false alarms."""
    above = defective[defective >= threshold]
    return float((threshold + above.min()) / 2) if len(above) else threshold
