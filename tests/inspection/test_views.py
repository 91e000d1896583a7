"""Fusing the inspections of views: the worst counts, rules see all regions, a missing view is never a pass."""

import math
from itertools import product

import pytest

from blemish.errors import DecisionError
from blemish.inspection.result import Inspection, Reason, ReasonKind, Region, Verdict
from blemish.inspection.views import check_fusion_rules, fuse_views

ORDER = [Verdict.PASS, Verdict.REVIEW, Verdict.REJECT]


def view(verdict=Verdict.PASS, score=0.1, regions=(), label=None):
    reasons = [] if verdict == Verdict.PASS else [Reason(ReasonKind.THRESHOLD, verdict, value=score, threshold=0.5)]
    label = label or ("good" if verdict == Verdict.PASS else "scratch")
    return Inspection(verdict, label, score, list(regions), (10, 20), reasons=reasons)


def region(label="scratch", x=2):
    return Region(label, 0.3, (x, 1, x + 4, 3))


@pytest.mark.parametrize("verdicts", list(product([*ORDER, None], repeat=3)))
def test_the_verdict_is_the_worst_and_a_missing_view_is_no_pass(verdicts):
    views = {f"v{n}": None if verdict is None else view(verdict) for n, verdict in enumerate(verdicts)}
    fused = fuse_views(views)
    ranks = [ORDER.index(Verdict.REVIEW if verdict is None else verdict) for verdict in verdicts]
    assert fused.verdict == ORDER[max(ranks)]
    assert all(reason.verdict == fused.verdict for reason in fused.reasons)
    if None in verdicts:
        assert fused.verdict != Verdict.PASS
        assert fused.label != "good"


def test_regions_labels_and_scores():
    views = {
        "top": view(Verdict.REVIEW, 0.4, [region()]),
        "side": view(Verdict.REJECT, 0.9, [region("dent", 5)], "dent"),
        "back": view(score=0.95),
    }
    fused = fuse_views(views, offsets={"top": (0, 0), "side": (20, 0)}, size=(10, 60))
    assert (fused.label, fused.score, fused.size) == ("dent", 0.9, (10, 60))
    assert [r.box for r in fused.regions] == [(2, 1, 6, 3), (25, 1, 29, 3)]
    assert [reason.detail for reason in fused.reasons] == ["view side"]
    assert views["side"].regions[0].box == (5, 1, 9, 3)  # as it was
    nothing = fuse_views({"top": None})
    assert (nothing.verdict, nothing.label) == (Verdict.REVIEW, "unknown")
    assert math.isnan(nothing.score)


def test_rules_count_and_sum_over_views():
    views = {"top": view(regions=[region()]), "side": view(regions=[region(), region("dent")])}
    assert fuse_views(views, ["reject if scratch.count >= 2"]).verdict == Verdict.REJECT
    assert fuse_views(views, ["reject if scratch.count >= 3"]).verdict == Verdict.PASS
    assert fuse_views(views, ["review if sum(score) > 0.8"]).verdict == Verdict.REVIEW
    assert fuse_views(views, ["review if sum(score) > 1.0", "reject if dent.count > 0"]).verdict == Verdict.REJECT
    rejected = {"top": view(Verdict.REJECT, 0.9), "side": view()}
    assert fuse_views(rejected, ["review if count == 0"]).verdict == Verdict.REJECT  # rules never make it better


def test_rules_are_checked():
    check_fusion_rules(["reject if scratch.count > 1"], ["scratch"])
    for rule, message in (
        ("IGNORE if score < 0.2", "ignored by the rules"),
        ("reject if crack.count > 1", "crack"),
        ("reject if count > 1 in zone rim", "rim"),
        ("reject when count", "reject"),
    ):
        with pytest.raises(DecisionError, match=message):
            check_fusion_rules([rule], ["scratch"])
