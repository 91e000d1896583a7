"""From what was found to pass, review or reject: thresholds and rules, which are data beside the graph.

The verdict is the worst of what the thresholds and the rules say. A score at or above `reject` rejects, at or above
`review` asks for review. A class's own threshold takes the place of `reject` for the score of that class. When `ignore`
rules have dropped every region of an image that had some, there is nothing left to hold against it: it passes.
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from blemish.errors import DecisionError
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Region, Verdict
from blemish.inspection.rule_parser import parse_rule
from blemish.inspection.rules import Rule, check_rule

_ORDER = {Verdict.PASS: 0, Verdict.REVIEW: 1, Verdict.REJECT: 2}
_MAX_FILE_BYTES = 2**20
Points = Sequence[tuple[float, float]]


class Judgement(NamedTuple):
    verdict: Verdict
    reasons: list[str]  # a line each
    regions: list[Region]  # those that no rule ignores


def judge(
    score: float,
    label: str,
    regions: Sequence[Region],
    decision: Decision,
    class_scores: dict[str, float] | None = None,
) -> Judgement:
    """The verdict on an image whose worst finding is of class `label`, and why.

    `class_scores` holds the scores of defect classes where the graph gives them.
    """
    rules = [parse_rule(text) for text in decision.rules]
    kept = _keep(regions, rules, decision)
    if regions and not kept:
        return Judgement(Verdict.PASS, [f"all {len(regions)} regions are ignored by a rule"], [])
    found = [*_by_threshold(score, label, kept, decision, class_scores), *_by_rules(kept, rules, decision)]
    if not has_thresholds(decision) and all(rule.action == "ignore" for rule in rules):
        found = found or [(Verdict.REVIEW, "no threshold set")]
    worst = max((verdict for verdict, _ in found), key=_ORDER.__getitem__, default=Verdict.PASS)
    return Judgement(worst, [reason for verdict, reason in found if verdict == worst], kept)


def has_thresholds(decision: Decision) -> bool:
    return decision.review is not None or decision.reject is not None or bool(decision.class_thresholds)


def check_decision(decision: Decision, classes: Iterable[str] | None = None, scaled: bool = True) -> None:
    """Raise DecisionError for what can be known to be wrong before any image is seen."""
    known = None if classes is None else list(classes)
    for name in ("review", "reject", "map_low", "map_high"):
        value = getattr(decision, name)
        if value is not None and not math.isfinite(value):
            raise DecisionError(f"{name} is {value}; give a number")
    if decision.review is not None and decision.reject is not None and decision.review > decision.reject:
        raise DecisionError(
            f"the review threshold {decision.review:g} lies above the reject threshold {decision.reject:g}; lower it"
        )
    if decision.map_low is not None and decision.map_high is not None and decision.map_low > decision.map_high:
        raise DecisionError(f"map_low {decision.map_low:g} lies above map_high {decision.map_high:g}; lower it")
    for name, value in decision.class_thresholds.items():
        if not math.isfinite(value):
            raise DecisionError(f"the threshold of class {name} is {value}; give a number")
        if known is not None and name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise DecisionError(f"there is no class '{name}' to set a threshold for; did you mean {', '.join(near)}?")
    for name, points in decision.zones.items():
        if len(points) < 3:
            raise DecisionError(f"zone '{name}' has {len(points)} points; a polygon takes three")
    for text in decision.rules:
        check_rule(parse_rule(text), decision.zones, known, scaled)


def load_decision(file: str | Path, base: Decision | None = None) -> Decision:
    """Thresholds and rules from a YAML or JSON file: a mapping of `Decision`'s fields, or just a list of rules.

    What the file does not name is taken from `base`. Raises DecisionError.
    """
    file = Path(file)
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise DecisionError(f"{file} is larger than a file of rules can be")
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DecisionError(f"{file} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DecisionError(f"{file} is neither YAML nor JSON: {' '.join(str(error).split())[:200]}") from error
    if isinstance(data, list):
        data = {"rules": data}
    if not isinstance(data, dict):
        raise DecisionError(f"{file}: give a list of rules, or any of {', '.join(Decision.model_fields)}")
    return update_decision(base or Decision(), data, str(file))


def update_decision(base: Decision, changes: dict[str, Any], where: str) -> Decision:
    """A decision with some fields changed and checked; `where` says in an error where they came from."""
    for name in changes:
        if name not in Decision.model_fields:
            near = difflib.get_close_matches(str(name), Decision.model_fields, n=2) or list(Decision.model_fields)
            raise DecisionError(f"{where}: '{name}' is not known; did you mean {', '.join(near)}?")
    try:
        decision = Decision.model_validate({**base.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DecisionError(f"{where}: {place}: {first['msg']}") from error
    check_decision(decision)
    return decision


def inside(x: float, y: float, points: Points) -> bool:
    """Whether a point lies in a closed polygon, by the even-odd rule."""
    crossed = False
    for (xa, ya), (xb, yb) in zip(points, [*points[1:], points[0]], strict=True):
        if (ya > y) != (yb > y) and x < xa + (y - ya) * (xb - xa) / (yb - ya):
            crossed = not crossed
    return crossed


def _keep(regions: Sequence[Region], rules: list[Rule], decision: Decision) -> list[Region]:
    """The regions that no ignore rule holds for."""
    kept = list(regions)
    for rule in rules:
        if rule.action == "ignore":
            reached = _in_zone(kept, rule, decision)
            dropped = {id(region) for region in reached if rule.holds_for(region, reached)}
            kept = [region for region in kept if id(region) not in dropped]
    return kept


def _by_rules(regions: list[Region], rules: list[Rule], decision: Decision) -> list[tuple[Verdict, str]]:
    return [
        (Verdict(rule.action), f"rule: {rule.text}")
        for rule in rules
        if rule.action != "ignore" and rule.holds(_in_zone(regions, rule, decision))
    ]


def _by_threshold(
    score: float, label: str, regions: list[Region], decision: Decision, class_scores: dict[str, float] | None
) -> list[tuple[Verdict, str]]:
    if math.isnan(score):
        return [(Verdict.REVIEW, "the score is not a number")]
    own = decision.class_thresholds
    if not own:
        return _at_or_above("score", score, decision.reject, decision.review)
    if class_scores is None:
        return [
            line
            for name, value in _worst_of_classes(score, label, regions).items()
            for line in _at_or_above(f"{name} score", value, own.get(name, decision.reject), decision.review)
        ]
    # The image's score is that of all defects together: it is none of a class, and no region's score is a probability.
    found = [
        line
        for name, value in class_scores.items()
        for line in _at_or_above(f"{name} score", value, own.get(name, decision.reject), None)
    ]
    reject, review = decision.reject, decision.review
    if label in own:  # its threshold comes in the place of `reject`; what reaches that all together takes a look
        reject, review = None, reject if review is None else review
    return found + _at_or_above("score", score, reject, review)


def _at_or_above(what: str, value: float, reject: float | None, review: float | None) -> list[tuple[Verdict, str]]:
    for verdict, threshold in ((Verdict.REJECT, reject), (Verdict.REVIEW, review)):
        if threshold is not None and value >= threshold:
            return [(verdict, f"{what} {value:.4g} is at or above the {verdict.value} threshold {threshold:.4g}")]
    return []


def _worst_of_classes(score: float, label: str, regions: list[Region]) -> dict[str, float]:
    """The worst score of each defect class that was found."""
    scores = {label: score}
    for region in regions:
        scores[region.label] = max(region.score, scores.get(region.label, region.score))
    return scores


def _in_zone(regions: Sequence[Region], rule: Rule, decision: Decision) -> list[Region]:
    if rule.zone is None:
        return list(regions)
    check_rule(rule, decision.zones)
    points = decision.zones[rule.zone]
    return [region for region in regions if inside(*_centre(region), points)]


def _centre(region: Region) -> tuple[float, float]:
    if region.measurements is not None:  # where a pixel's centre is a whole number; zones are drawn at pixel edges
        return region.measurements.centroid_x + 0.5, region.measurements.centroid_y + 0.5
    x0, y0, x1, y1 = region.box
    return (x0 + x1) / 2, (y0 + y1) / 2
