"""Turn scores and regions into a verdict, by thresholds and rules that are data next to the graph.

The verdict is the worst that thresholds and rules ask for. A score at or above `reject` rejects, at or above `review`
asks for review. A class's own threshold replaces `reject` for the score of that class. `ignore` rules drop regions and
their share of the score before that; all other thresholds and rules hold as if those regions were not there.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from blemish.arrays import Flags
from blemish.errors import DecisionError
from blemish.files import load_yaml, validate
from blemish.geometry import polygon_mask
from blemish.inspection.decision_check import check_decision
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Reason, ReasonKind, Region, Verdict
from blemish.inspection.rule_parser import parse_rule
from blemish.inspection.rules import DecisionRule, check_rule

_SEVERITY = {Verdict.PASS: 0, Verdict.REVIEW: 1, Verdict.REJECT: 2}
_MAX_FILE_BYTES = 2**20


class DecisionResult(NamedTuple):
    verdict: Verdict
    reasons: list[Reason]  # those that ask for this verdict
    regions: list[Region]  # those that no rule ignores


def decide(
    score: float,
    label: str,
    regions: Sequence[Region],
    decision: Decision,
    class_scores: dict[str, float] | None = None,
) -> DecisionResult:
    """The verdict on an image of which only score and regions are known, and the reasons for it.

    `label` is the class of the worst finding; `class_scores` holds the scores of defect classes where the graph gives
    them. The score is that of the strongest region: where that is ignored, the strongest one that is left counts.
    """
    kept, ignored = drop_ignored(regions, decision)
    if ignored and not math.isnan(score):
        peak, rest = (max((region.score for region in own), default=0.0) for own in (regions, kept))
        score, class_scores = reduce_score(score, peak, rest, ignored, class_scores)
    return decide_kept(score, label, kept, decision, class_scores, ignored=len(ignored))


def decide_kept(
    score: float,
    label: str,
    kept: list[Region],
    decision: Decision,
    class_scores: dict[str, float] | None = None,
    class_peaks: dict[str, float] | None = None,
    *,
    ignored: int = 0,
    has_regions: bool = True,
) -> DecisionResult:
    """The verdict on an image without its `ignored` regions, which have no share in its scores.

    `class_scores` are the scores of defect classes; `class_peaks` those where the image's score is the largest of them.
    Without `has_regions`, images never have any: then rules about them decide nothing.
    """
    rules = [rule for rule in map(parse_rule, decision.rules) if rule.action != "ignore"]
    reasons = _threshold_reasons(score, label, kept, decision, class_scores, class_peaks)
    reasons += [
        Reason(ReasonKind.RULE, Verdict(rule.action), rule=rule.text)
        for rule in rules
        if rule.holds(_in_zone(kept, rule, decision))
    ]
    if not reasons and not has_thresholds(decision) and not (has_regions and rules):
        reasons = [Reason(ReasonKind.NO_THRESHOLD, Verdict.REVIEW)]
    if not reasons and ignored and not kept:
        reasons = [Reason(ReasonKind.IGNORED, Verdict.PASS, value=float(ignored))]
    worst = max((reason.verdict for reason in reasons), key=_SEVERITY.__getitem__, default=Verdict.PASS)
    return DecisionResult(worst, [reason for reason in reasons if reason.verdict == worst], kept)


def drop_ignored(regions: Sequence[Region], decision: Decision) -> tuple[list[Region], list[Region]]:
    """The regions that no rule ignores, and those that one does."""
    kept, ignored = list(regions), []
    for rule in map(parse_rule, decision.rules):
        if rule.action == "ignore":
            candidates = _in_zone(kept, rule, decision)
            dropped = {id(region) for region in candidates if rule.matches(region, candidates)}
            ignored += [region for region in kept if id(region) in dropped]
            kept = [region for region in kept if id(region) not in dropped]
    return kept, ignored


def reduce_score(
    score: float, peak: float, rest: float, ignored: Sequence[Region], class_scores: dict[str, float] | None = None
) -> tuple[float, dict[str, float] | None]:
    """A score, and those of classes, without the share of ignored regions.

    `peak` is the largest value with them, `rest` without: the score is at most that, or its share of a larger score.
    Classes that are not ignored keep their scores.
    """
    if rest >= peak:
        return score, class_scores
    reduced = min(score, rest * score_unit(score, peak))
    if class_scores is None:
        return reduced, None
    names, share = {region.label for region in ignored}, reduced / score if score > 0 else 1.0
    scores = {name: value * share if name in names else value for name, value in class_scores.items()}
    others = [value for name, value in scores.items() if name not in names]
    return min(score, max([reduced, *others])), scores


def score_unit(score: float, peak: float) -> float:
    """The score of a map's value 1: 1, or more where the graph's score is larger than the map's peak."""
    return score / peak if 0 < peak < score else 1.0


def get_thresholds(decision: Decision) -> list[float]:
    """All thresholds on scores."""
    common = [value for value in (decision.review, decision.reject) if value is not None]
    return [*common, *decision.class_thresholds.values()]


def has_thresholds(decision: Decision) -> bool:
    return bool(get_thresholds(decision))


def load_decision(file: str | Path, base: Decision | None = None) -> Decision:
    """Thresholds and rules from a YAML or JSON file: a mapping of `Decision`'s fields, or a bare list of rules.

    Fields that the file does not name keep their value in `base`. Raises DecisionError.
    """
    file = Path(file)
    if file.exists() and file.stat().st_size > _MAX_FILE_BYTES:
        raise DecisionError(f"{file} is larger than a file of rules can be")
    data = load_yaml(file, str(file), DecisionError)
    if isinstance(data, list):
        data = {"rules": data}
    if not isinstance(data, dict):
        raise DecisionError(f"{file}: give a list of rules, or any of {', '.join(Decision.model_fields)}")
    return update_decision(base or Decision(), data, str(file))


def update_decision(base: Decision, changes: dict[str, Any], where: str) -> Decision:
    """A decision with some fields changed and checked; error messages begin with `where`, the source of the changes."""
    decision = validate(Decision, {**base.model_dump(), **changes}, where, DecisionError)
    check_decision(decision)
    return decision


def _threshold_reasons(
    score: float,
    label: str,
    regions: list[Region],
    decision: Decision,
    class_scores: dict[str, float] | None,
    class_peaks: dict[str, float] | None,
) -> list[Reason]:
    if math.isnan(score):
        return [Reason(ReasonKind.INVALID_SCORE, Verdict.REVIEW)]
    own, reject, review = decision.class_thresholds, decision.reject, decision.review
    if not own:
        return _reached(None, score, reject, review)
    if class_scores is None:
        scores = {label: score} if class_peaks is None else dict(class_peaks)
        for region in regions:
            scores[region.label] = max(region.score, scores.get(region.label, region.score))
        return [
            reason for name, value in scores.items() for reason in _reached(name, value, own.get(name, reject), review)
        ]
    # The image's score is the probability of any defect, not of one class, and regions' scores are no probabilities.
    reasons = [
        reason for name, value in class_scores.items() for reason in _reached(name, value, own.get(name, reject), None)
    ]
    if label in own:  # its threshold replaces `reject`; what reaches `reject` by all classes together goes to review
        reject, review = None, reject if review is None else review
    return reasons + _reached(None, score, reject, review)


def _reached(label: str | None, value: float, reject: float | None, review: float | None) -> list[Reason]:
    for verdict, threshold in ((Verdict.REJECT, reject), (Verdict.REVIEW, review)):
        if threshold is not None and value >= threshold:
            return [Reason(ReasonKind.THRESHOLD, verdict, label, float(value), threshold)]
    return []


def _in_zone(regions: Sequence[Region], rule: DecisionRule, decision: Decision) -> list[Region]:
    """The regions that the rule is about: any that touches its zone, or, of one to ignore, that lies inside it."""
    if rule.zone is None:
        return list(regions)
    check_rule(rule, decision.zones)
    points = decision.zones[rule.zone]
    enough = np.all if rule.action == "ignore" else np.any
    return [region for region in regions if enough(_pixels_in_zone(region, points))]


def _pixels_in_zone(region: Region, points: Sequence[tuple[float, float]]) -> Flags:
    """Which pixels of a region's mask, or of its box where there is no mask, are in a polygon of the image."""
    x0, y0, x1, y1 = region.box
    inside = polygon_mask([(x - x0, y - y0) for x, y in points], y1 - y0, x1 - x0)
    return inside.ravel() if region.mask is None else inside[region.mask]
