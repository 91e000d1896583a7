"""The inspections of a part's views become one: one verdict, one label, all regions.

The verdict is the worst of the views, or worse by rules over the regions of all views together (any rejects; classes,
counts and sums, in the language of decision rules). A view that is missing, late or could not be inspected asks for
review: it never leaves a pass.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from blemish.errors import DecisionError
from blemish.inspection.decide import decide
from blemish.inspection.decision_check import check_decision, gives_regions, region_labels
from blemish.inspection.manifest import Decision, Manifest
from blemish.inspection.result import Inspection, Reason, ReasonKind, Region, Verdict
from blemish.inspection.rule_parser import parse_rule

_SEVERITY = {Verdict.PASS: 0, Verdict.REVIEW: 1, Verdict.REJECT: 2}


def check_fusion_rules(rules: Sequence[str], classes: Sequence[str] | None = None, scaled: bool = True) -> None:
    """Raises DecisionError for a rule that is wrong, or that ignores regions: that is for the rules of a view."""
    check_decision(Decision(rules=list(rules)), classes, scaled)
    for text in rules:
        if parse_rule(text).action == "ignore":
            raise DecisionError(f"rule over views '{text}': regions are ignored by the rules of their own view")


def check_bundle_fusion_rules(rules: Sequence[str], views: Sequence[Manifest]) -> None:
    """The same for views of these bundles, each with the decision and scale in force.

    Rules may name the labels that regions of some view may have, and mm where all views have a scale.
    """
    sources = [own for own in views if gives_regions(own, own.decision)]
    labels = {label for own in sources for label in region_labels(own)}
    check_fusion_rules(rules, sorted(labels), all(own.scale is not None for own in views))
    if rules and not sources:
        raise DecisionError(f"rule over views '{rules[0]}' is about regions, and no view gives any; remove the rule")


def fuse_views(
    views: Mapping[str, Inspection | None],
    rules: Sequence[str] = (),
    offsets: Mapping[str, tuple[int, int]] | None = None,
    size: tuple[int, int] = (0, 0),
) -> Inspection:
    """The inspection of a part from those of its views; None is a view without an inspection.

    Regions are moved by the view's offset x, y on a common sheet of `size` (height, width). Label and score are those
    of the worst view: by verdict, then by score. Scores of views that have different bundles are not comparable.
    """
    done = {name: view for name, view in views.items() if view is not None}
    regions: list[Region] = []
    for name, view in done.items():
        x, y = (offsets or {}).get(name, (0, 0))
        regions += [_moved(region, x, y) for region in view.regions]
    reasons = [
        replace(reason, detail=f"{name}: {reason.detail}" if reason.detail else f"view {name}")
        for name, view in done.items()
        for reason in view.reasons
    ]
    reasons += [
        Reason(ReasonKind.FAILED, Verdict.REVIEW, detail=f"view {name} is missing")
        for name, view in views.items()
        if view is None
    ]
    reasons += [
        reason
        for reason in decide(0.0, "good", regions, Decision(rules=list(rules))).reasons
        if reason.kind == ReasonKind.RULE
    ]
    asked = [view.verdict for view in done.values()] + [reason.verdict for reason in reasons]
    verdict = max(asked, key=_SEVERITY.__getitem__)
    worst = max(done.values(), key=_rank, default=None)
    whole = len(done) == len(views)
    return Inspection(
        verdict,
        "unknown" if worst is None or (not whole and worst.verdict == Verdict.PASS) else worst.label,
        math.nan if worst is None else worst.score,
        regions,
        size,
        reasons=[reason for reason in reasons if reason.verdict == verdict],
        timings_ms=_total_times(done),
    )


def _rank(view: Inspection) -> tuple[int, float]:
    return _SEVERITY[view.verdict], math.inf if math.isnan(view.score) else view.score


def _moved(region: Region, x: int, y: int) -> Region:
    x0, y0, x1, y1 = region.box
    own = region.measurements
    if own is not None:
        own = replace(own, centroid_x=own.centroid_x + x, centroid_y=own.centroid_y + y)
    return replace(region, box=(x0 + x, y0 + y, x1 + x, y1 + y), measurements=own)


def _total_times(views: Mapping[str, Inspection]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for view in views.values():
        for name, ms in view.timings_ms.items():
            totals[name] = totals.get(name, 0.0) + ms
    return totals
