"""What a bundle can give, and decisions that cannot be of it: refused before an image is seen."""

import numpy as np
import pytest
from graphs import anomaly_bundle, fixed_boxes, grey_classes, make_bundle, two_masks

from blemish.errors import DecisionError
from blemish.imaging.pixel_range import PixelSpec
from blemish.inspection.decide import load_decision
from blemish.inspection.decision_check import check_bundle_decision, check_decision, region_labels, scored_labels
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, InputSpec, ProductDecision, Tiling
from blemish.inspection.result import ReasonKind, Verdict
from blemish.inspection.views import check_bundle_fusion_rules

WHITE = np.full((64, 64), 255, np.uint8)
CLASSES = ["good", "bright", "never"]
BOX = fixed_boxes([[10, 10, 30, 30]], [0.9], [1])


def classifier(path, decision=None, **fields):
    return make_bundle(path, grey_classes(), ["class_scores"], decision, classes=CLASSES, **fields)


def masks(path, decision=None, **fields):
    return make_bundle(path, two_masks(), ["mask_scores"], decision, channels=2, classes=CLASSES, **fields)


def boxes(path, decision=None):
    return make_bundle(path, BOX, ["boxes", "box_scores", "box_labels"], decision, classes=CLASSES)


@pytest.mark.parametrize("make", [anomaly_bundle, classifier])
def test_rules_on_a_bundle_that_gives_no_regions_are_refused(tmp_path, make):
    path = make(tmp_path / "b.blemish", Decision(rules=["reject if area_px > 5"]))
    with pytest.raises(DecisionError, match="about regions"):
        Inspector.open(path)
    opened = Inspector.open(path, decision=Decision())
    found = Inspector(opened.bundle, opened.engine, opened.bundle.manifest).inspect(
        WHITE
    )  # as a station opens old ones
    assert (found.verdict, [r.kind for r in found.reasons]) == (Verdict.REVIEW, [ReasonKind.NO_THRESHOLD])


def test_rules_of_a_product_are_checked_too(tmp_path):
    own = {"left": ProductDecision(decision=Decision(rules=["reject if area_px > 5"]))}
    with pytest.raises(DecisionError, match="map_high"):
        Inspector.open(anomaly_bundle(tmp_path / "b.blemish", products=own))


def test_rules_hold_on_every_bundle_that_gives_regions(tmp_path):
    rules = Decision(rules=["reject if area_px > 5"])
    tiled = {"tiling": Tiling(height=32, width=32)}
    both = np.full((64, 64, 2), 255, np.uint8)
    for path, image in (
        (anomaly_bundle(tmp_path / "a.blemish", rules.model_copy(update={"map_high": 0.5})), WHITE),
        (masks(tmp_path / "m.blemish", rules), both),
        (boxes(tmp_path / "b.blemish", rules), WHITE),
        (classifier(tmp_path / "w.blemish", rules, side=32, **tiled), WHITE),
    ):
        inspection = Inspector.open(path, batch_size=1).inspect(image)
        assert (inspection.verdict, inspection.reasons[0].kind) == (Verdict.REJECT, ReasonKind.RULE)
    with pytest.raises(DecisionError, match="scores only"):  # without tiles it is no classifier of windows
        Inspector.open(classifier(tmp_path / "w.blemish", rules, **tiled), tile=0)


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (lambda path: anomaly_bundle(path), {"defect"}),
        (lambda path: anomaly_bundle(path, classes=["good", "scratch"]), {"scratch"}),
        (lambda path: anomaly_bundle(path, classes=["good", "pit", "scratch"]), {"defect"}),
        (masks, {"bright", "never"}),
        (boxes, {"bright", "never"}),
        (classifier, {"bright", "never"}),
    ],
)
def test_known_names_are_the_labels_that_the_bundle_gives(tmp_path, make, labels):
    inspector = Inspector.open(make(tmp_path / "b.blemish"), batch_size=1)
    manifest = inspector.manifest
    channels = manifest.input.channels
    found = inspector.inspect(np.full((64, 64, channels), 255, np.uint8))
    assert {region.label for region in found.regions} <= set(region_labels(manifest)) == labels
    assert set(scored_labels(manifest)) == labels
    high = Decision(map_high=0.5) if "class_scores" not in manifest.outputs else Decision()
    for name in {"good", "defect", "pit", "scratch", *CLASSES} - labels:
        with pytest.raises(DecisionError, match="class_thresholds: unknown class"):
            check_bundle_decision(Decision(class_thresholds={name: 0.1}), manifest)
        with pytest.raises(DecisionError, match="unknown class"):
            check_bundle_decision(high.model_copy(update={"rules": [f"reject if {name}.area_px > 5"]}), manifest)
    for name in labels:
        check_bundle_decision(Decision(class_thresholds={name: 0.1}), manifest)


def test_rules_over_views_name_what_some_view_gives(tmp_path):
    crack = Inspector.open(anomaly_bundle(tmp_path / "c.blemish", classes=["good", "crack"])).manifest
    stain = Inspector.open(anomaly_bundle(tmp_path / "s.blemish", classes=["good", "stain"])).manifest
    scores = Inspector.open(classifier(tmp_path / "k.blemish")).manifest
    check_bundle_fusion_rules(["reject if crack.count > 1", "reject if stain.count > 1"], [crack, stain])
    for rule, views, words in (
        ("reject if defekt.count > 1", [crack, stain], "unknown class 'defekt'"),
        ("reject if bright.count > 1", [crack, scores], "unknown class 'bright'"),
        ("reject if sum(length_mm) > 1", [crack, stain], "px_per_mm"),
        ("reject if count < 1", [scores, scores], "no view gives any"),
    ):
        with pytest.raises(DecisionError, match=words):
            check_bundle_fusion_rules([rule], views)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([(0, 0), (1, 0), (1, 1), (0, 1)], "not as shares"),
        ([(0, 0), (40, 40), (10, 10)], "no area"),
        ([(0, 0), (1e9, 0), (0, 0)], "no area"),
        ([(float("nan"), 0), (64, 0), (64, 20)], "no area"),
        ([(64, 0), (90, 0), (90, 40)], "covers no pixel"),
        ([(5000, 5000), (5100, 5000), (5100, 5100)], "covers no pixel"),
        ([(3.6, 0), (4.4, 0), (4.4, 40), (3.6, 40)], "covers no pixel"),  # between the centres of two columns
        ([(0, 0), (20, 20), (20, 0), (0, 20)], None),  # crosses itself
        ([(60, 60), (5100, 60), (5100, 5100)], None),
    ],
)
def test_a_zone_has_an_area_and_meets_the_images(tmp_path, points, words):
    pixels = PixelSpec(ranges={"uint8": (0, 255)}, spreads={"uint8": 0}, height=(64, 64), width=(32, 64))
    spec = InputSpec(channels=1, height=64, width=64, pixels=pixels)
    decision = Decision(map_high=0.5, rules=["reject if area_px > 5 in zone seal"], zones={"seal": points})
    path = anomaly_bundle(tmp_path / "b.blemish", input=spec)
    if words is None:
        Inspector.open(path, decision=decision)
        return
    with pytest.raises(DecisionError, match=words):
        Inspector.open(path, decision=decision)
    if words == "covers no pixel":  # nothing is known of the size, or tiles take any
        Inspector.open(anomaly_bundle(tmp_path / "any.blemish"), decision=decision)
        Inspector.open(path, decision=decision, tile=32)


@pytest.mark.parametrize(
    ("test", "possible"),
    [
        ("length_px > 1e999", False),
        ("1e999 < sum(area_px)", False),
        ("circularity > 5", False),
        ("circularity > 1", False),
        ("not circularity <= 1", False),
        ("2 < circularity", False),
        ("circularity >= 1", True),
        ("sum(circularity) > 5", True),
        ("mean(circularity) > 5", False),
        ("orientation_deg > 200", False),
        ("orientation_deg > -45 and orientation_deg < 45", True),
        ("sum(orientation_deg) < -500", True),
        ("contrast < -2", False),
        ("contrast < 0", True),
        ("area_px < 0", False),
        ("count < 0", False),
        ("count < 1", True),
        ("0 < count", True),
        ("score > -3", True),
        ("area_px > length_px", True),
        ("count > 3 or not (area_px > -1)", False),
    ],
)
@pytest.mark.parametrize("action", ["reject", "ignore"])
def test_a_limit_is_one_that_can_be_passed(action, test, possible):
    decision = Decision(rules=[f"{action} if {test}"])
    if possible:
        check_decision(decision)
    else:
        with pytest.raises(DecisionError, match="can never be"):
            check_decision(decision)


@pytest.mark.parametrize("content", ["min_area_px: .inf", "reject: .nan", "map_high: .inf"])
def test_numbers_of_a_decision_are_finite(tmp_path, content):
    (tmp_path / "rules.yaml").write_text(content)
    with pytest.raises(DecisionError, match="give a number"):
        load_decision(tmp_path / "rules.yaml")


@pytest.mark.parametrize("content", ["reject: 2\nreject: 1", "{reject: 2, reject: 1}", "zones: {a: [], a: []}"])
def test_a_key_given_twice_is_an_error(tmp_path, content):
    (tmp_path / "rules.yaml").write_text(content)
    with pytest.raises(DecisionError, match="twice; keep one"):
        load_decision(tmp_path / "rules.yaml")
