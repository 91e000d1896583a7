"""Rules that ignore regions: the verdict is that of the same image without them."""

import numpy as np
import pytest
from graphs import anomaly_bundle, fixed_boxes, grey_classes, make_bundle, model, two_masks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, Tiling
from blemish.inspection.result import ReasonKind, Verdict

PASS, REVIEW, REJECT = Verdict.PASS, Verdict.REVIEW, Verdict.REJECT
CLASSES = ["good", "crack", "stain"]
STAIN = np.s_[30:60, 30:60]
CELLS = [np.s_[y : y + 8, x : x + 8] for y in (2, 16) for x in (2, 16, 30, 44)]  # apart from each other and the stain


def image(*blobs, channels=1):
    """Zero but for blobs: where, value from 0 to 1, channel."""
    pixels = np.zeros((64, 64, channels), np.float32)
    for where, value, channel in blobs:
        pixels[(*where, channel)] = value
    return pixels


def doubled():
    """The anomaly score is twice the map's peak, in a unit of its own."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["anomaly_map"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map"], ["peak"], axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["peak", "peak"], ["anomaly_score"]),
    ]
    return model(nodes, {"anomaly_score": ["n"], "anomaly_map": ["n", "h", "w"]})


def test_rules_are_evaluated_where_all_regions_are_ignored(tmp_path):
    rules = ["ignore if area_px < 10", "reject if count < 1"]
    path = anomaly_bundle(tmp_path / "b.blemish", Decision(map_low=0.4, map_high=0.5, rules=rules, reject=5.0))
    speck, blob = image((np.s_[5:7, 5:7], 1.0, 0)), image((CELLS[0], 1.0, 0))
    verdicts = [found.verdict for found in Inspector.open(path).inspect([image(), speck, blob])]
    assert verdicts == [REJECT, REJECT, PASS]


def test_a_score_of_something_else_stands_and_that_of_an_ignored_region_does_not(tmp_path):
    decision = Decision(map_low=0.4, map_high=0.5, rules=["ignore if area_px > 200"], reject=0.6)
    inspector = Inspector.open(anomaly_bundle(tmp_path / "b.blemish", decision))
    found = inspector.inspect(image((STAIN, 0.9, 0), (CELLS[0], 0.53, 0)))
    assert (found.verdict, found.score) == (PASS, pytest.approx(0.53))
    found = inspector.inspect(image((STAIN, 0.9, 0)))
    assert (found.verdict, [reason.kind for reason in found.reasons]) == (PASS, [ReasonKind.IGNORED])
    small = decision.model_copy(update={"min_area_px": 100.0})  # the crack is no region
    inspector = Inspector.open(anomaly_bundle(tmp_path / "b.blemish", small))
    for stain in (0.55, 0.9, 1.0):
        found = inspector.inspect(image((CELLS[0], 0.9, 0), (STAIN, stain, 0)))
        assert (found.verdict, found.score, found.regions) == (REJECT, pytest.approx(0.9), [])


VALUES = st.sampled_from([0.1, 0.25, 0.35, 0.47, 0.55, 0.7, 0.95])
BLOBS = st.lists(
    st.tuples(st.sampled_from(CELLS), VALUES, st.integers(0, 1)), max_size=4, unique_by=lambda b: str(b[0])
)


@pytest.mark.parametrize("kind", ["anomaly", "doubled", "map", "masks", "exclusive"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blobs=BLOBS, stain=VALUES, thresholds=st.tuples(VALUES, VALUES), least=st.sampled_from([0, 100]))
def test_verdict_and_score_are_those_of_the_image_without_the_ignored_region(
    tmp_path, kind, blobs, stain, thresholds, least
):
    review, reject = sorted(thresholds)
    rules = ["ignore if area_px > 200", "reject if count > 2"]
    own = {"map_low": 0.4, "map_high": 0.5, "min_area_px": least, "rules": rules}
    fields = {}
    if kind in ("masks", "exclusive"):
        own |= {"class_thresholds": {"crack": 0.3}} if kind == "masks" else {}
        graph, outputs = two_masks(), ["mask_scores"]
        fields = {"channels": 2, "classes": CLASSES, "exclusive_classes": kind == "exclusive"}
    else:
        graph, outputs, blobs = doubled(), ["anomaly_score", "anomaly_map"], [(*blob[:2], 0) for blob in blobs]
        fields = {"score_source": "map", "worst_share": 0.01} if kind == "map" else {}
    scale = 2 if kind == "doubled" else 1
    decision = Decision(review=scale * review, reject=scale * reject, **own)
    if kind == "anomaly":
        path = anomaly_bundle(tmp_path / "b.blemish", decision)
    else:
        path = make_bundle(tmp_path / "b.blemish", graph, outputs, decision, **fields)
    inspector, channels = Inspector.open(path), fields.get("channels", 1)
    clean = inspector.inspect(image(*blobs, channels=channels))
    stained = inspector.inspect(image(*blobs, (STAIN, stain, 0), channels=channels))
    if stain < 0.5:  # no region, so nothing is ignored
        assert stained.score >= clean.score - 1e-6
    else:
        assert (stained.verdict, stained.label) == (clean.verdict, clean.label)
        assert stained.score == pytest.approx(clean.score, abs=1e-6)
        assert len(stained.regions) == len(clean.regions)


@pytest.mark.parametrize(("review", "reject"), [(None, 0.6), (None, 0.3), (0.2, 0.3), (0.45, 0.9)])
@pytest.mark.parametrize("edge", [0.0, 0.5])
def test_the_slopes_of_an_ignored_peak_go_with_it(tmp_path, review, reject, edge):
    rows, columns = np.mgrid[:64, :64]
    peak = np.exp(-((rows - 40) ** 2 + (columns - 40) ** 2) / 200).astype(np.float32)
    decision = Decision(
        map_low=0.4, map_high=0.5, edge=edge, review=review, reject=reject, rules=["ignore if area_px > 60"]
    )
    inspector = Inspector.open(anomaly_bundle(tmp_path / "b.blemish", decision))
    assert inspector.inspect(peak).verdict == PASS
    peak[2:6, 2:6] = 0.9  # and another defect stays
    assert inspector.inspect(peak).verdict != PASS


def test_a_region_that_is_joined_with_an_ignored_one_below_their_borders_keeps_its_score(tmp_path):
    zones = {"clamp": [(0.0, 0.0), (16.0, 0.0), (16.0, 64.0), (0.0, 64.0)]}
    rules = ["ignore if score > 0 in zone clamp"]
    decision = Decision(map_low=0.4, map_high=0.5, edge=0.5, reject=0.6, rules=rules, zones=zones)
    inspector = Inspector.open(anomaly_bundle(tmp_path / "b.blemish", decision))
    ignored, bridge, other = (np.s_[10:20, 5:15], 0.9, 0), (np.s_[10:20, 15:30], 0.45, 0), (np.s_[10:20, 30:40], 0.8, 0)
    assert inspector.inspect(image(ignored, bridge)).verdict == PASS
    found = inspector.inspect(image(ignored, bridge, other))
    assert (found.verdict, found.score, len(found.regions)) == (REJECT, pytest.approx(0.8), 1)


def test_ignored_boxes_leave_their_score_and_no_other(tmp_path):
    boxes = [[10, 10, 50, 50], [20, 20, 26, 26], [52, 52, 60, 60]]  # a stain with a crack in it, and a small stain
    decision = Decision(reject=0.5, review=0.3, map_high=0.4, rules=["ignore if stain.area_px > 200"])
    for scores, verdict, score in (
        ([0.9, 0.6, 0.0], REJECT, 0.6),
        ([0.9, 0.35, 0.0], REVIEW, 0.35),  # below `map_high`, so no region
        ([0.9, 0.2, 0.1], PASS, 0.2),
        ([0.9, 0.2, 0.9], REJECT, 0.9),
    ):
        graph = fixed_boxes(boxes, scores, [1, 0, 1])
        outputs = ["boxes", "box_scores", "box_labels"]
        path = make_bundle(tmp_path / "b.blemish", graph, outputs, decision, classes=CLASSES)
        found = Inspector.open(path, batch_size=1).inspect(image())
        assert (found.verdict, found.score) == (verdict, pytest.approx(score))


def test_windows_of_a_classifier_that_are_ignored(tmp_path):
    zones = {"clamp": [(0.0, 0.0), (32.0, 0.0), (32.0, 64.0), (0.0, 64.0)]}
    decision = Decision(reject=0.6, rules=["ignore if score > 0 in zone clamp"], zones=zones)
    path = make_bundle(
        tmp_path / "b.blemish", grey_classes(), ["class_scores"], decision, side=32,
        classes=["good", "bright", "never"], tiling=Tiling(height=32, width=32, overlap=0.0),
    )  # fmt: skip
    inspector = Inspector.open(path)
    left, right = np.s_[4:8, 4:8], np.s_[40:44, 40:44]
    assert inspector.inspect(image((left, 0.9, 0))).verdict == PASS
    assert inspector.inspect(image((right, 0.7, 0))).verdict == REJECT
    assert inspector.inspect(image((left, 0.9, 0), (right, 0.7, 0))).verdict == REJECT


def test_a_class_reaches_its_own_threshold_next_to_a_stronger_one(tmp_path):
    decision = Decision(map_low=0.4, map_high=0.5, reject=0.5, class_thresholds={"crack": 0.3})
    masks = make_bundle(
        tmp_path / "m.blemish", two_masks(), ["mask_scores"], decision, channels=2, classes=CLASSES
    )  # fmt: skip
    crack, stain = (CELLS[0], 0.4, 0), (CELLS[3], 0.45, 1)
    for blobs, verdict in (([crack], REJECT), ([stain], PASS), ([crack, stain], REJECT)):
        assert Inspector.open(masks).inspect(image(*blobs, channels=2)).verdict == verdict
    for scores, verdict in (([0.4, 0.45], REJECT), ([0.2, 0.45], PASS)):
        graph = fixed_boxes([[0, 0, 3, 3], [9, 9, 30, 30]], scores, [0, 1])
        small = decision.model_copy(update={"min_area_px": 50.0})  # the crack is no region
        outputs = ["boxes", "box_scores", "box_labels"]
        path = make_bundle(tmp_path / "b.blemish", graph, outputs, small, classes=CLASSES)
        assert Inspector.open(path, batch_size=1).inspect(image()).verdict == verdict
