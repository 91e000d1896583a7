"""Thresholds from validation scores, and the error rates that they promise.

With only good images, the threshold for a stated false-alarm rate is the order statistic of the good scores that a new
good part exceeds with at most that probability (the rank of split conformal prediction, Vovk et al. 2005). Where
defects in validation score higher, the threshold moves half the way up to them. With a target escape rate, or costs,
the threshold follows the defects. Test images are never used.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from blemish.arrays import Flags, Scores
from blemish.dataset.sample import GOOD
from blemish.evaluation.intervals import clopper_pearson
from blemish.inspection.decide import decide
from blemish.inspection.manifest import Calibration, Decision
from blemish.inspection.result import Verdict
from blemish.training.ship.calibration_data import CalibrationData, best_peak_threshold, class_thresholds

Source = Literal["held-out", "cross-fitted", "validation", "training"]

MARGIN = 1e-4  # of the largest score: another engine's rounding must not turn the verdict of the image at the threshold
CERTAIN = 0.5  # probability from which a class is likelier than all others together
PRODUCT_RATE = 0.1  # false-alarm rate that a product's own good images must at least be able to promise
NO_VALIDATION = (
    "no validation images: the thresholds come from training images and promise nothing; "
    "take --calibration cross-fitted, or more images or groups"
)
HALF_HEIGHT = 0.5  # of a blurred map of a shape: where the edge of the shape lies


@dataclass(frozen=True)
class CalibrationTarget:
    """Rates or costs that the thresholds should achieve."""

    false_alarm: float = 0.01  # share of good parts rejected
    review: float = 0.05  # share of good parts at or above the review threshold
    escape: float | None = None  # share of defective parts passed; needs defects in validation
    cost_escape: float | None = None  # cost of one escape, in units of one false alarm; instead of `escape`
    per_class: bool = False  # also a threshold for each defect class, with the highest F1


def good_threshold(scores: Scores, rate: float) -> float:
    """The threshold that a new good part reaches with probability at most `rate`, given enough scores.

    With n good scores the rank is ceil((n + 1)(1 - rate)); beyond n no threshold can promise the rate and the largest
    score is taken. A score at the threshold is a defect, so the threshold lies above the score of that rank by MARGIN,
    also for a detector whose scores on good parts are all 0.
    """
    ordered = np.sort(scores)
    rank = math.ceil((len(ordered) + 1) * (1 - rate) - 1e-9)  # 100 * (1 - 0.42) is not quite 58
    return float(ordered[min(rank, len(ordered)) - 1] + MARGIN * (np.abs(ordered).max() or 1.0))


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


def min_good_images(rate: float) -> int:
    """Good images needed before a threshold can promise this false-alarm rate."""
    return math.ceil(1 / rate) - 1


def has_own_thresholds(data: CalibrationData) -> bool:
    """Whether a product has enough good images, nine, for thresholds of its own: those that can promise PRODUCT_RATE.

    Scores of products can lie far apart, so a few images of its own say more than many of others; but the largest of
    very few good scores is soon exceeded. As in `calibrate`, sound surface can replace good images.
    """
    return len(data.good or data.sound_peaks) >= min_good_images(PRODUCT_RATE)


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
        data = replace(data, good=data.sound_peaks, good_peaks=data.sound_peaks)
    good, defective = np.asarray(data.good), np.asarray(data.defective)
    review, reject, aim, warnings = _score_thresholds(good, defective, data, target)
    if sound:
        warnings.append("no good validation image: the surface around the known defects is used instead")
    if source != "training" and len(defective) and (target.escape is not None or target.cost_escape is not None):
        source = "validation"
    if data.unknown:
        warnings.append(f"{data.unknown} validation images are not labelled and are not used for the thresholds")
    fields: dict[str, Any] = {"review": review, "reject": reject}
    if target.per_class:
        fields["class_thresholds"] = class_thresholds(data.classes)
    if data.region_threshold is not None:
        fields |= {"map_high": data.region_threshold, "map_low": data.region_threshold}
    elif data.good_peaks:
        peaks = np.asarray(data.good_peaks)
        best = best_peak_threshold(data.defect_peaks, data.sound_peaks) if sound else None
        high = good_threshold(peaks, max(target.false_alarm, target.review)) if best is None else best
        fields |= {"map_high": high, "map_low": float(np.median(peaks)), "edge": HALF_HEIGHT}
    decision = Decision(**fields)
    rejected = None if reject is None else good >= reject
    passed = None if review is None else defective < review
    if decision.class_thresholds:
        warnings.append(
            "the classes have own thresholds, with the highest F1, which take precedence over the promised one"
        )
        rejected, passed = _verdicts(data, decision)
    if source == "training":
        warnings = [*warnings, NO_VALIDATION]
        rejected = passed = None  # rates on training images are meaningless
    return decision, Calibration(
        source=source,
        target=aim,
        good_images=len(good),
        defect_images=len(defective),
        false_alarm=None if rejected is None else _share(rejected),
        escape=None if passed is None else _share(passed),
        warnings=warnings,
    )


def _verdicts(data: CalibrationData, decision: Decision) -> tuple[Flags, Flags]:
    """Rejected good images, and passed defective ones, by all thresholds together."""
    hits: dict[bool, list[bool]] = {False: [], True: []}
    for image in data.classified:
        scores = {name: score for name, score in image.class_scores.items() if name != GOOD}
        verdict = decide(image.score, image.label, [], decision, scores).verdict
        hits[image.defective].append(verdict == (Verdict.PASS if image.defective else Verdict.REJECT))
    return np.array(hits[False], np.bool_), np.array(hits[True], np.bool_)


def _score_thresholds(
    good: Scores, defective: Scores, data: CalibrationData, target: CalibrationTarget
) -> tuple[float | None, float | None, str, list[str]]:
    """Thresholds for review and reject, their target as text, and warnings."""
    wanted = target.escape is not None or target.cost_escape is not None
    if len(defective) and target.cost_escape is not None:
        cost = cost_threshold(good, defective, target.cost_escape)
        return cost, cost, f"lowest cost, an escape costing {target.cost_escape:g} false alarms", []
    if len(defective) and target.escape is not None:
        # Below the review threshold parts pass; scores that few good parts reach are rejected without review.
        review = escape_threshold(defective, target.escape)
        reject = max(review, good_threshold(good, target.false_alarm)) if len(good) else review
        return review, reject, f"escape rate {target.escape:g}", []
    if not len(good) and data.only_defects:
        return 0.0, CERTAIN, "a class likelier than all others together", []
    if not len(good):
        threshold = data.region_threshold
        aim = "no threshold" if threshold is None else "highest F1 of the detected defects"
        return threshold, threshold, aim, ["no good validation images: no false-alarm rate can be promised"]
    warnings = []
    if wanted:
        warnings.append("no defective validation images: the threshold follows the false-alarm rate instead")
    needed = min_good_images(target.false_alarm)
    if len(good) < needed:
        warnings.append(
            f"{len(good)} good validation images cannot promise a false-alarm rate of {target.false_alarm:g}; "
            f"{needed} are needed. The threshold is the largest good score"
        )
    reject = good_threshold(good, target.false_alarm)
    review = min(reject, good_threshold(good, target.review))
    return review, _up_to_defects(reject, defective), f"false-alarm rate {target.false_alarm:g}", warnings


def _up_to_defects(threshold: float, defective: Scores) -> float:
    """The middle between a threshold and the next defective score: as many escapes, and fewer false alarms."""
    above = defective[defective >= threshold]
    return float((threshold + above.min()) / 2) if len(above) else threshold


def _share(hits: Flags) -> tuple[float, float, float] | None:
    """Share of hits with its 95 % interval; None without any item."""
    if not len(hits):
        return None
    count, total = int(hits.sum()), len(hits)
    low, high = clopper_pearson(count, total)
    return count / total, low, high
