"""Turn scores and regions into a verdict, by thresholds and rules that are data next to the graph.

The verdict is the worst that thresholds and rules ask for. A score at or above `reject` rejects, at or above `review`
asks for review. A class's own threshold replaces `reject` for the score of that class. Where `ignore` rules have
dropped every region of an image that had some, the image passes.
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
    *,
    has_regions: bool = True,
) -> DecisionResult:
    """The verdict on an image, and the reasons for it.

    `label` is the class of the worst finding; `class_scores` holds the scores of defect classes where the graph gives
    them. Without `has_regions`, images never have any: then rules about them decide nothing.
    """
    rules = [parse_rule(text) for text in decision.rules]
    kept = _drop_ignored(regions, rules, decision)
    if regions and not kept and not math.isnan(score):
        ignored = Reason(ReasonKind.IGNORED, Verdict.PASS, value=float(len(regions)))
        return DecisionResult(Verdict.PASS, [ignored], [])
    reasons = _threshold_reasons(score, label, kept, decision, class_scores)
    reasons += [
        Reason(ReasonKind.RULE, Verdict(rule.action), rule=rule.text)
        for rule in rules
        if rule.action != "ignore" and rule.holds(_in_zone(kept, rule, decision))
    ]
    decides = has_thresholds(decision) or (has_regions and any(rule.action != "ignore" for rule in rules))
    if not reasons and not decides:
        reasons = [Reason(ReasonKind.NO_THRESHOLD, Verdict.REVIEW)]
    worst = max((reason.verdict for reason in reasons), key=_SEVERITY.__getitem__, default=Verdict.PASS)
    return DecisionResult(worst, [reason for reason in reasons if reason.verdict == worst], kept)


def has_thresholds(decision: Decision) -> bool:
    return decision.review is not None or decision.reject is not None or bool(decision.class_thresholds)


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


def _drop_ignored(regions: Sequence[Region], rules: list[DecisionRule], decision: Decision) -> list[Region]:
    kept = list(regions)
    for rule in rules:
        if rule.action == "ignore":
            candidates = _in_zone(kept, rule, decision)
            dropped = {id(region) for region in candidates if rule.matches(region, candidates)}
            kept = [region for region in kept if id(region) not in dropped]
    return kept


def _threshold_reasons(
    score: float, label: str, regions: list[Region], decision: Decision, class_scores: dict[str, float] | None
) -> list[Reason]:
    if math.isnan(score):
        return [Reason(ReasonKind.INVALID_SCORE, Verdict.REVIEW)]
    own, reject, review = decision.class_thresholds, decision.reject, decision.review
    if not own:
        return _reached(None, score, reject, review)
    if class_scores is None:
        scores = {label: score}
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
