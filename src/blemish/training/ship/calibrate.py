"""Thresholds from validation scores, and what they promise.

With good images only, a threshold for a stated false-alarm rate: the order statistic of the good scores that a new good
part exceeds with at most that probability (the rank of split conformal prediction, Vovk et al. 2005). Where defects in
validation score higher, it moves half the way up to them. With a target escape rate, or costs, the threshold follows
the defects. Test images are never looked at.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemish.dataset.sample import GOOD
from blemish.evaluation.intervals import clopper_pearson
from blemish.inspection.decide import judge
from blemish.inspection.manifest import Calibration, Decision
from blemish.inspection.result import Verdict
from blemish.training.ship.calibration_data import Evidence, best_peak_threshold, class_thresholds

Scores = NDArray[np.float64]
Source = Literal["held-out", "cross-fitted", "validation", "training"]

MARGIN = 1e-4  # of the largest score: another engine's rounding must not turn the verdict of the image at the threshold
SURE = 0.5  # probability from which on a class is likelier than all others together
OWN_RATE = 0.1  # false-alarm rate that a product's own good images must at least be able to promise
LEARNT_FROM = (
    "no validation images: the thresholds are those of images that were learnt from and promise nothing; "
    "take --calibration cross-fitted, or more images or groups"
)
HALF_HEIGHT = 0.5  # where the edge of a shape lies in a blurred map of it


@dataclass(frozen=True)
class Target:
    """What the thresholds are to achieve."""

    false_alarm: float = 0.01  # share of good parts rejected
    review: float = 0.05  # share of good parts at or above the review threshold
    escape: float | None = None  # share of defective parts passed; needs defects in validation
    cost_escape: float | None = None  # cost of one escape, in units of one false alarm; instead of `escape`
    per_class: bool = False  # a threshold for each defect class too, of highest F1


def good_threshold(scores: Scores, rate: float) -> float:
    """The threshold that a new good part reaches with probability at most `rate`, if there are scores enough.

    With n good scores the rank is ceil((n + 1)(1 - rate)); beyond n no threshold can promise the rate and the largest
    score is taken. At or above the threshold counts, so it lies above the score of that rank, by MARGIN; of a detector
    that finds nothing on good parts, whose scores are all 0, too.
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


def parts_to_promise(rate: float) -> int:
    """Good images needed before the threshold for a false-alarm rate can be promised at all."""
    return math.ceil(1 / rate) - 1


def decides_alone(evidence: Evidence) -> bool:
    """Whether a product has good images enough for thresholds of its own: those that can promise OWN_RATE, nine.

    Scores of several products can lie far apart, so few images of its own tell more than many of others; but the
    largest of very few good scores is soon exceeded. As in `calibrate`, sound surface stands for good images.
    """
    return len(evidence.good or evidence.sound_peaks) >= parts_to_promise(OWN_RATE)


def calibrate(evidence: Evidence, target: Target, source: Source) -> tuple[Decision, Calibration]:
    """Thresholds on the score and the heat map, and what they promise.

    Where truth tells which pixels or boxes are defects, that sets the threshold for regions. Else they are seeded where
    the map exceeds what good images show, and reach to half their height above the median of the good peaks. Without
    good images, an anomaly map's values away from known defects stand for them, and regions are seeded by the defects
    (`best_peak_threshold`); else nothing can be promised of false alarms: any region rejects, and where there are no
    regions, no threshold is set, and every image goes to review. A classifier that knows no good class never passes an
    image: it rejects from a probability of SURE on, and what it is less sure of goes to review. The source "training"
    says that there is nothing but images that were learnt from.
    """
    sound = not evidence.good and bool(evidence.sound_peaks)
    if sound:  # each peak is the score that its image would have without its defects
        evidence = replace(evidence, good=evidence.sound_peaks, good_peaks=evidence.sound_peaks)
    good, defective = np.asarray(evidence.good), np.asarray(evidence.defective)
    review, reject, words, warnings = _score_thresholds(good, defective, evidence, target)
    if sound:
        warnings.append("no good validation image: the surface beside the known defects stands for them")
    if source != "training" and len(defective) and (target.escape is not None or target.cost_escape is not None):
        source = "validation"
    if evidence.unknown:
        warnings.append(f"{evidence.unknown} validation images are not labelled and say nothing of the thresholds")
    decision = Decision(review=review, reject=reject)
    if target.per_class:
        decision.class_thresholds = class_thresholds(evidence.classes)
    if evidence.region_threshold is not None:
        decision.map_high = decision.map_low = evidence.region_threshold
    elif evidence.good_peaks:
        peaks = np.asarray(evidence.good_peaks)
        found = best_peak_threshold(evidence.defect_peaks, evidence.sound_peaks) if sound else None
        decision.map_high = good_threshold(peaks, target.false_alarm) if found is None else found
        decision.map_low = float(np.median(peaks))
        decision.edge = HALF_HEIGHT
    rejected = None if reject is None else good >= reject
    passed = None if review is None else defective < review
    if decision.class_thresholds:
        warnings.append("the classes' own thresholds, of highest F1, come before the one that the promise is of")
        rejected, passed = _verdicts(evidence, decision)
    if source == "training":
        warnings = [*warnings, LEARNT_FROM]
        rejected = passed = None  # of what was learnt from, shares tell nothing
    return decision, Calibration(
        source=source,
        target=words,
        good_images=len(good),
        defect_images=len(defective),
        false_alarm=None if rejected is None else _share(rejected),
        escape=None if passed is None else _share(passed),
        warnings=warnings,
    )


def _verdicts(evidence: Evidence, decision: Decision) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of the good images which are rejected, of the defective ones which pass, by all thresholds together."""
    found: dict[bool, list[bool]] = {False: [], True: []}
    for defective, score, label, every in evidence.judged:
        verdict = judge(score, label, [], decision, {k: v for k, v in every.items() if k != GOOD}).verdict
        found[defective].append(verdict == (Verdict.PASS if defective else Verdict.REJECT))
    return np.array(found[False], np.bool_), np.array(found[True], np.bool_)


def _score_thresholds(
    good: Scores, defective: Scores, evidence: Evidence, target: Target
) -> tuple[float | None, float | None, str, list[str]]:
    """Thresholds for review and reject, what they aim at, and warnings."""
    wanted = target.escape is not None or target.cost_escape is not None
    if len(defective) and target.cost_escape is not None:
        cost = cost_threshold(good, defective, target.cost_escape)
        return cost, cost, f"lowest cost, an escape costing {target.cost_escape:g} false alarms", []
    if len(defective) and target.escape is not None:
        # What is below the review threshold passes; what few good parts reach is rejected without a look.
        review = escape_threshold(defective, target.escape)
        reject = max(review, good_threshold(good, target.false_alarm)) if len(good) else review
        return review, reject, f"escape rate {target.escape:g}", []
    if not len(good) and evidence.only_defects:
        return 0.0, SURE, "a class likelier than all others together", []
    if not len(good):
        found = evidence.region_threshold
        words = "no threshold" if found is None else "highest F1 of the defects found"
        return found, found, words, ["no good validation images: no false-alarm rate can be promised"]
    warnings = []
    if wanted:
        warnings.append("no defective validation images: the threshold follows the false-alarm rate instead")
    needed = parts_to_promise(target.false_alarm)
    if len(good) < needed:
        warnings.append(
            f"{len(good)} good validation images cannot promise a false-alarm rate of {target.false_alarm:g}; "
            f"it takes {needed}. The threshold is the largest good score seen"
        )
    reject = good_threshold(good, target.false_alarm)
    review = min(reject, good_threshold(good, target.review))
    return review, _up_to_defects(reject, defective), f"false-alarm rate {target.false_alarm:g}", warnings


def _up_to_defects(threshold: float, defective: Scores) -> float:
    """The middle between a threshold and the next defective score: no more escapes, and fewer false alarms."""
    above = defective[defective >= threshold]
    return float((threshold + above.min()) / 2) if len(above) else threshold


def _share(hits: NDArray[np.bool_]) -> tuple[float, float, float] | None:
    """Share of hits with its 95 % interval; None of nothing."""
    if not len(hits):
        return None
    count, total = int(hits.sum()), len(hits)
    low, high = clopper_pearson(count, total)
    return count / total, low, high
