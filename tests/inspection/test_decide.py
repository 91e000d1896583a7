"""Verdicts: thresholds, classes' own thresholds, rules, zones; and decisions read from files."""

import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blemish.errors import DecisionError
from blemish.inspection.decide import check_decision, decide, load_decision
from blemish.inspection.manifest import Decision
from blemish.inspection.measure import measure
from blemish.inspection.result import Measurements, Reason, ReasonKind, Region, Verdict

PASS, REVIEW, REJECT = Verdict.PASS, Verdict.REVIEW, Verdict.REJECT
BLANK = Measurements(*[0.0] * 14)
EDGE = {"edge": [(0.0, 0.0), (10.0, 0.0), (10.0, 100.0), (0.0, 100.0)]}


def region(label="defect", score=0.5, x=50.0, y=50.0, **measurements):
    box = (int(x) - 2, int(y) - 2, int(x) + 3, int(y) + 3)
    return Region(label, score, box, None, replace(BLANK, centroid_x=x, centroid_y=y, **measurements))


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0.0, PASS), (0.2999, PASS), (0.3, REVIEW), (0.69, REVIEW), (0.7, REJECT), (math.inf, REJECT), (math.nan, REVIEW)],
)
def test_a_threshold_is_reached_at_equality(score, expected):
    verdict, reasons, _ = decide(score, "defect", [], Decision(review=0.3, reject=0.7))
    assert verdict == expected
    assert len(reasons) == (expected != PASS)


def test_without_thresholds_and_rules_the_verdict_is_review():
    undecided = decide(9.0, "defect", [], Decision())
    assert (undecided.verdict, [*map(str, undecided.reasons)]) == (REVIEW, ["no threshold set"])
    assert decide(9.0, "defect", [], Decision(rules=["ignore if area_px < 3"])).verdict == REVIEW
    assert decide(9.0, "defect", [], Decision(rules=["reject if count > 3"])).verdict == PASS
    assert decide(9.0, "defect", [], Decision(review=10)).verdict == PASS


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"scratch": 0.75, "dirt": 0.1}, REVIEW),  # below its own threshold, above the one for review
        ({"scratch": 0.95, "dirt": 0.1}, REJECT),
        ({"scratch": 0.1, "dirt": 0.75}, REJECT),  # no own threshold
        ({"scratch": 0.2, "dirt": 0.2}, PASS),
    ],
)
def test_a_class_threshold_replaces_reject_for_its_class(scores, expected):
    decision = Decision(review=0.3, reject=0.7, class_thresholds={"scratch": 0.9})
    label = max(scores, key=scores.get)
    assert decide(scores[label], label, [], decision, scores).verdict == expected
    regions = [region(name, score) for name, score in scores.items()]
    assert decide(scores[label], label, regions, decision).verdict == expected


def test_class_thresholds_apply_to_the_probabilities_of_classes_only():
    decision = Decision(review=0.6, reject=0.9, class_thresholds={"scratch": 0.34})
    found = [region("scratch", 0.99)]  # a value of the class map, no probability
    assert decide(0.35, "scratch", found, decision, {"scratch": 0.26, "dirt": 0.09}).verdict == PASS  # good: 0.65
    verdict, reasons, _ = decide(0.45, "scratch", found, decision, {"scratch": 0.36, "dirt": 0.09})
    assert (verdict, reasons) == (REJECT, [Reason(ReasonKind.THRESHOLD, REJECT, "scratch", 0.36, 0.34)])
    assert str(reasons[0]) == "scratch score 0.36 is at or above the reject threshold 0.34"
    # all defects together are likely enough for a look, though no class is for itself
    assert decide(0.65, "scratch", [], decision, {"scratch": 0.33, "dirt": 0.32}).verdict == REVIEW
    bare = Decision(reject=0.5, class_thresholds={"scratch": 0.9})
    assert decide(0.85, "scratch", [], bare, {"scratch": 0.45, "dirt": 0.4}).verdict == REVIEW  # never a pass


def test_the_verdict_is_the_worst_of_thresholds_and_rules_with_its_reasons():
    regions = [region(area_px=50.0), region(area_px=5.0)]
    decision = Decision(review=0.3, reject=0.7, rules=["review if count > 5", "reject if area_px > 40"])
    verdict, reasons, kept = decide(0.4, "defect", regions, decision)
    assert (verdict, [*map(str, reasons)], kept) == (REJECT, ["rule: reject if area_px > 40"], regions)
    assert decide(0.8, "defect", regions, Decision(reject=0.7, rules=["review if count > 1"])).verdict == REJECT


def test_ignored_regions_are_dropped_before_the_other_rules():
    big, small = region(area_px=50.0), region(area_px=2.0)
    rules = ["review if count > 1", "ignore if area_px < 5"]
    assert decide(0.1, "defect", [big, small], Decision(reject=0.7, rules=rules))[::2] == (PASS, [big])
    # where nothing is left, the image passes, whatever its score
    verdict, reasons, kept = decide(0.9, "defect", [small, small], Decision(reject=0.7, rules=rules))
    assert (verdict, kept) == (PASS, [])
    assert [(reason.kind, reason.value) for reason in reasons] == [(ReasonKind.IGNORED, 2)]
    assert "ignored" in str(reasons[0])
    # but not where there was nothing to begin with
    assert decide(0.9, "defect", [], Decision(reject=0.7, rules=rules)).verdict == REJECT


def test_a_zone_limits_a_rule_to_regions_in_it():
    decision = Decision(reject=2.0, rules=["reject if area_px > 3 in zone edge"], zones=EDGE)
    assert decide(1.0, "defect", [region(x=5.0, area_px=4.0)], decision).verdict == REJECT
    assert decide(1.0, "defect", [region(x=50.0, area_px=4.0)], decision).verdict == PASS
    assert decide(1.0, "defect", [region(x=5.0, area_px=2.0), region(x=50.0, area_px=9.0)], decision).verdict == PASS
    many = Decision(reject=2.0, rules=["review if count >= 2 in zone edge"], zones=EDGE)
    assert decide(1.0, "defect", [region(x=5.0), region(x=50.0)], many).verdict == PASS
    assert decide(1.0, "defect", [region(x=5.0), region(x=6.0)], many).verdict == REVIEW
    ignore = Decision(reject=2.0, rules=["ignore if count > 0 in zone edge", "reject if count > 0"], zones=EDGE)
    assert decide(1.0, "defect", [region(x=5.0)], ignore).verdict == PASS
    assert decide(1.0, "defect", [region(x=5.0), region(x=50.0)], ignore).verdict == REJECT


def test_a_zone_ends_at_the_edge_of_a_pixel_measured_or_not():
    decision = Decision(reject=2.0, rules=["reject if count > 0 in zone edge"], zones=EDGE)  # up to x = 10
    for x, verdict in ((9, REJECT), (10, PASS)):
        box = (x, 3, x + 1, 4)
        bare = Region("defect", 0.5, box)
        measured = Region("defect", 0.5, box, measurements=measure(np.ones((1, 1), bool), (x, 3)))
        assert [decide(1.0, "defect", [found], decision).verdict for found in (bare, measured)] == [verdict, verdict]


def test_a_crack_through_a_zone_is_rejected_and_ignored_only_where_it_lies_inside():
    zones = {"seal": [(0.0, 0.0), (64.0, 0.0), (64.0, 20.0), (0.0, 20.0)]}
    reject = Decision(reject=2.0, rules=["reject if score > 0 in zone seal"], zones=zones)
    ignore = Decision(reject=2.0, rules=["ignore if score > 0 in zone seal", "review if count > 0"], zones=zones)
    frame = np.ones((50, 50), bool)
    frame[:-3, 3:-3] = False  # of a U shape, whose centroid is far from its arms
    for box, mask, verdicts in (
        ((30, 4, 33, 18), None, (REJECT, PASS)),
        ((30, 0, 33, 50), None, (REJECT, REVIEW)),
        ((2, 12, 52, 62), frame, (REJECT, REVIEW)),
        ((2, 19, 4, 60), None, (REJECT, REVIEW)),
        ((2, 20, 4, 60), None, (PASS, REVIEW)),
    ):
        found = [Region("defect", 0.5, box, mask)]
        assert (decide(1.0, "defect", found, reject).verdict, decide(1.0, "defect", found, ignore).verdict) == verdicts


@given(st.lists(st.tuples(st.floats(-5, 15), st.floats(-5, 15)), min_size=3, max_size=5), st.data())
def test_zones_agree_with_opencv_pixel_by_pixel(points, data):
    outline = np.array(points, np.float32)
    if not cv2.isContourConvex(outline):  # where OpenCV and the even-odd rule mean the same
        outline = cv2.convexHull(outline).reshape(-1, 2)
    cells = data.draw(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
    mask = np.zeros((4, 4), bool)
    mask[tuple(np.transpose(list(cells)))] = True
    distances = [cv2.pointPolygonTest(outline, (x + 3.5, y + 2.5), True) for y, x in cells]
    assume(all(abs(distance) > 1e-3 for distance in distances))  # not on the zone's border
    found, zones = [Region("defect", 0.5, (3, 2, 7, 6), mask)], {"zone": [(float(x), float(y)) for x, y in outline]}
    reject = Decision(reject=2.0, rules=["reject if count > 0 in zone zone"], zones=zones)
    ignore = Decision(reject=2.0, rules=["ignore if score > 0 in zone zone", "reject if count > 0"], zones=zones)
    assert (decide(1.0, "defect", found, reject).verdict == REJECT) == (max(distances) > 0)
    assert (decide(1.0, "defect", found, ignore).verdict == PASS) == (min(distances) > 0)


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (Decision(review=0.8, reject=0.7), "above the reject"),
        (Decision(map_low=0.8, map_high=0.7), "map_low"),
        (Decision(reject=math.nan), "reject is nan"),
        (Decision(class_thresholds={"scrach": 0.3}), "did you mean scratch"),
        (Decision(class_thresholds={"scratch": math.inf}), "inf"),
        (Decision(zones={"edge": [(0, 0), (1, 1)]}), "takes three"),
        (Decision(rules=["reject if count > 3 in zone edge"]), "unknown zone 'edge'"),
        (Decision(rules=["reject if pit.area_px > 3"]), "unknown class 'pit'"),
        (Decision(rules=["reject if length_mm > 3"]), "px_per_mm"),
        (Decision(rules=["reject when count > 3"]), "'if' is missing"),
    ],
)
def test_mistakes_in_a_decision_are_found_before_any_image(decision, words):
    with pytest.raises(DecisionError, match=words) as caught:
        check_decision(decision, ["scratch", "stain"], scaled=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_file_changes_what_it_names(tmp_path, form):
    data = {"reject": 0.9, "rules": ["reject if area_px > 3 in zone edge"], "zones": {"edge": [[0, 0], [9, 0], [9, 9]]}}
    text = (
        json.dumps(data)
        if form == "json"
        else "reject: 0.9\nrules:\n  - reject if area_px > 3 in zone edge\nzones:\n  edge: [[0, 0], [9, 0], [9, 9]]\n"
    )
    (tmp_path / "rules").write_text(text)
    decision = load_decision(tmp_path / "rules", Decision(review=0.2, reject=0.5, min_area_px=7))
    assert (decision.review, decision.reject, decision.min_area_px) == (0.2, 0.9, 7)
    assert decision.rules == data["rules"]
    assert decision.zones == {"edge": [(0, 0), (9, 0), (9, 9)]}


def test_a_bare_list_is_a_list_of_rules(tmp_path):
    (tmp_path / "rules.yaml").write_text("- reject if count > 3\n- ignore if area_px < 5\n")
    assert load_decision(tmp_path / "rules.yaml").rules == ["reject if count > 3", "ignore if area_px < 5"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "give a list of rules"),
        (b"just words", "give a list of rules"),
        (b"rejct: 3", "did you mean reject"),
        (b"reject: high", "reject"),
        (b"min_area_px: -3", "min_area_px"),
        (b"rules: [1, 2]", "rules"),
        (b"rules: [", "neither YAML nor JSON"),
        (b"\xff\xfe\x00", "neither YAML nor JSON"),
        (b"!!python/object/apply:os.system ['true']", "neither YAML nor JSON"),
        (b"- reject if length > 3", "did you mean"),
        (b"review: 3\nreject: 2", "above the reject"),
        (b"#" * 2_000_000, "larger"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, content, words):
    path = tmp_path / "rules.yaml"
    path.write_bytes(content)
    with pytest.raises(DecisionError, match=words) as caught:
        load_decision(path)
    assert "\n" not in str(caught.value)


def test_no_file_at_all(tmp_path):
    with pytest.raises(DecisionError, match="cannot be read"):
        load_decision(tmp_path / "none.yaml")


def test_a_score_that_is_no_number_is_reviewed_though_all_regions_are_ignored():
    regions = [Region("defect", 0.6, (0, 0, 2, 2))]
    found = decide(math.nan, "defect", regions, Decision(reject=0.5, rules=["ignore if score < 1"]))
    assert found.verdict == Verdict.REVIEW
