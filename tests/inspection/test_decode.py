"""Each kind of output gives the score, label, map and regions that follow from its values."""

import math
from dataclasses import replace

import numpy as np
import pytest
from graphs import PROVENANCE, make_bundle, model
from onnx import helper

from blemish.inspection.decode import box_region, decode
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, InputSpec, Manifest, Tiling
from blemish.inspection.result import Candidates, Outputs, Verdict
from blemish.inspection.stitching import Stitcher

SIZE = (40, 60)
CLASSES = ["good", "scratch", "stain"]
WHOLE = (0, 0, 60, 40)


def predict(outputs, classes=("good", "defect"), area=WHOLE, side=20, score_source="graph", exclusive=False):
    """The prediction of one tile over the area, at side × side, and its manifest."""
    manifest = Manifest(
        name="x",
        classes=list(classes),
        outputs=outputs.kinds(),
        input=InputSpec(height=side, width=side),
        score_source=score_source,
        exclusive_classes=exclusive,
        provenance=PROVENANCE,
    )
    stitcher = Stitcher(area, [area], classes=manifest.classes, input=manifest.input)
    stitcher.add(0, outputs)
    return stitcher.finish(), manifest


def spot(value=0.9, floor=0.1):
    """A map (20, 20) with a block of 4 × 4 that is rows 8-16 and columns 12-24 of the image."""
    values = np.full((20, 20), floor, np.float32)
    values[4:8, 4:8] = value
    return values


def defect_boxes(regions):
    return [(region.label, region.box) for region in regions]


def test_anomaly():
    outputs = Outputs(anomaly_score=np.float32([3.0]), anomaly_map=spot()[None])
    decoded = decode(*predict(outputs), Decision(map_low=0.5, map_high=0.8), SIZE, None)
    assert (decoded.score, decoded.label) == (3.0, "defect")
    assert decoded.heat_map.shape == SIZE
    assert defect_boxes(decoded.regions) == [("defect", (12, 8, 24, 16))]
    assert decode(*predict(outputs), Decision(map_high=0.95), SIZE, None).regions == []
    assert decode(*predict(outputs), Decision(), SIZE, None).regions == []  # no threshold for the map yet


def test_the_one_defect_class_gives_the_name():
    outputs = Outputs(anomaly_score=np.float32([3.0]))
    assert decode(*predict(outputs, ["good", "crack"]), Decision(), SIZE, None).label == "crack"
    assert decode(*predict(outputs, CLASSES), Decision(), SIZE, None).label == "defect"


@pytest.mark.parametrize("source", ["map", "graph"])
def test_invalid_pixels(source):
    valid = np.ones(SIZE, bool)
    valid[:, :30] = False  # the spot's side
    outputs = Outputs(anomaly_score=np.float32([0.9]), anomaly_map=spot()[None])
    before = outputs.anomaly_map.copy()
    decoded = decode(*predict(outputs, score_source=source), Decision(map_low=0.5, map_high=0.8), SIZE, valid)
    assert decoded.score == pytest.approx(0.1)
    assert decoded.regions == []
    assert decoded.heat_map.max() == pytest.approx(0.1)
    np.testing.assert_array_equal(outputs.anomaly_map, before)
    half = np.ones(SIZE, bool)
    half[:12] = False
    decoded = decode(*predict(outputs, score_source=source), Decision(map_low=0.5, map_high=0.8), SIZE, half)
    assert decoded.score == pytest.approx(0.9)
    assert defect_boxes(decoded.regions) == [("defect", (12, 12, 24, 16))]


@pytest.mark.parametrize("tiling", [None, Tiling(height=20, width=30)])
def test_the_score_of_a_map_is_the_mean_of_its_worst_valid_pixels(tiling):
    """As many pixels as are the share of what the graph sees at a time."""
    rng = np.random.default_rng(0)
    outputs = Outputs(anomaly_score=np.float32([9.0]), anomaly_map=rng.random((1, 20, 20)).astype(np.float32))
    valid = rng.random(SIZE) < 0.5
    area = (10, 5, 50, 35)
    prediction, manifest = predict(outputs, area=area, score_source="map")
    manifest = manifest.model_copy(update={"worst_share": 0.05, "tiling": tiling})
    decoded = decode(prediction, manifest, Decision(map_high=0.5), SIZE, valid)
    inside = sorted((decoded.heat_map[y, x] for x in range(10, 50) for y in range(5, 35) if valid[y, x]), reverse=True)
    assert decoded.score == pytest.approx(np.mean(inside[: 60 if tiling is None else 30]), rel=1e-5)
    nothing = decode(prediction, manifest, Decision(map_high=0.5), SIZE, np.zeros(SIZE, bool))
    assert nothing.score == 0.0


def test_an_area_within_the_image():
    valid = np.zeros(SIZE, bool)
    area = (20, 10, 40, 30)
    valid[10:30, 20:40] = True
    outputs = Outputs(anomaly_map=spot()[None])
    decoded = decode(*predict(outputs, area=area, score_source="map"), Decision(map_high=0.5), SIZE, valid)
    assert defect_boxes(decoded.regions) == [("defect", (24, 14, 28, 18))]
    assert (decoded.heat_map[~valid] == decoded.heat_map[valid].min()).all()
    assert decoded.score == pytest.approx(0.9)


def test_classes():
    scores = np.float32([[0.3, 0.2, 0.5]])
    decoded = decode(*predict(Outputs(class_scores=scores), CLASSES), Decision(), SIZE, None)
    assert decoded.score == pytest.approx(0.7)
    assert decoded.label == "stain"
    assert decoded.class_scores == pytest.approx(dict(zip(CLASSES, scores[0], strict=True)))
    assert decoded.heat_map is None
    without_good = decode(*predict(Outputs(class_scores=scores), ["a", "b", "c"]), Decision(), SIZE, None)
    assert (without_good.label, without_good.score) == ("c", pytest.approx(0.5))


def test_a_class_map_gives_regions():
    maps = np.zeros((1, 3, 20, 20), np.float32)
    maps[0, 2] = spot()
    maps[0, 0] = 1  # that of the good class is not used
    outputs = Outputs(class_scores=np.float32([[0.3, 0.2, 0.5]]), class_map=maps)
    decoded = decode(*predict(outputs, CLASSES), Decision(map_high=0.5), SIZE, None)
    assert defect_boxes(decoded.regions) == [("stain", (12, 8, 24, 16))]


def test_masks_give_each_class_where_it_is_the_likeliest():
    masks = np.zeros((1, 2, 20, 20), np.float32)
    masks[0, 0, 4:8, 4:8] = 0.9
    masks[0, 1, 4:8, 4:8] = 0.6  # also above a half, but scratch is likelier here
    masks[0, 1, 12:16, 12:16] = 0.8
    decoded = decode(*predict(Outputs(mask_scores=masks), CLASSES), Decision(), SIZE, None)
    assert (decoded.score, decoded.label) == (pytest.approx(0.9), "scratch")
    big = [region for region in decoded.regions if region.mask.sum() > 30]
    assert sorted(defect_boxes(big)) == [("scratch", (12, 8, 24, 16)), ("stain", (36, 24, 48, 32))]
    nothing = decode(*predict(Outputs(mask_scores=masks * 0.5), CLASSES), Decision(), SIZE, None)
    assert nothing.regions == []
    assert nothing.score == pytest.approx(0.45)


def test_a_defect_of_unsure_class_is_a_defect():
    """Of exclusive classes the sum counts, and a region is one defect, with the class that has most of it."""
    masks = np.zeros((1, 2, 20, 20), np.float32)
    masks[0, :, 4:8, 4:16] = [[[0.25]], [[0.45]]]  # neither reaches a half
    masks[0, :, 4:8, 4:8] = [[[0.5]], [[0.4]]]  # a third of it is rather a scratch
    masks[0, :, 14:16, 14:16] = [[[0.2]], [[0.2]]]
    outputs = Outputs(mask_scores=masks)
    decoded = decode(*predict(outputs, CLASSES, exclusive=True), Decision(map_low=0.5, map_high=0.6), SIZE, None)
    assert (decoded.score, decoded.label) == (pytest.approx(0.9, abs=1e-6), "stain")
    (region,) = decoded.regions
    assert (region.label, region.box) == ("stain", pytest.approx((12, 8, 48, 16), abs=1))
    assert decoded.heat_map[12, 40] == pytest.approx(0.7)
    valid = np.ones(SIZE, np.bool_)
    valid[:, 24:] = False
    left = decode(*predict(outputs, CLASSES, exclusive=True), Decision(map_low=0.5, map_high=0.6), SIZE, valid)
    assert defect_boxes(left.regions) == [("scratch", (12, 8, 24, 16))]
    nothing = decode(*predict(outputs, CLASSES, exclusive=True), Decision(map_high=0.95), SIZE, None)
    assert (nothing.score, nothing.label, nothing.regions) == (pytest.approx(0.9, abs=1e-6), "scratch", [])
    assert decoded.defect_scores == {"scratch": 0.5, "stain": pytest.approx(0.45)}  # for thresholds of a class
    assert region.score == pytest.approx(0.45)  # the probability of its class
    separate = decode(*predict(outputs, CLASSES), Decision(map_low=0.5, map_high=0.6), SIZE, None)
    assert (separate.score, separate.regions) == (0.5, [])  # classes that may overlap stand for themselves


def test_two_classes_that_are_sure_stay_two_regions():
    """A crack that touches a stain does not vanish in it; what lies between them goes to the likelier of the two."""
    masks = np.zeros((1, 3, 20, 20), np.float32)
    masks[0, 0, 4:8, 4:8] = 0.9
    masks[0, 1, 4:8, 8:16] = 0.9
    masks[0, :, 4:8, 7:9] = [[[0.3]], [[0.2]], [[0.4]]]  # pits are nowhere sure
    decision = Decision(map_low=0.5, map_high=0.7)
    classes = [*CLASSES, "pit"]
    found = decode(*predict(Outputs(mask_scores=masks), classes, exclusive=True), decision, SIZE, None).regions
    assert [region.label for region in found] == ["scratch", "stain"]
    (scratch, stain) = (region.box for region in found)
    assert scratch == pytest.approx((12, 8, 26, 16), abs=2)
    assert stain == pytest.approx((26, 8, 48, 16), abs=2)
    assert scratch[2] <= stain[0] + 1
    large = Decision(map_low=0.5, map_high=0.7, min_area_px=200)  # each is smaller, both together are not
    (whole,) = decode(*predict(Outputs(mask_scores=masks), classes, exclusive=True), large, SIZE, None).regions
    assert whole.label == "stain"
    one = decode(
        *predict(Outputs(mask_scores=masks[:, :, :, :8]), classes, exclusive=True), decision, SIZE, None
    ).regions
    assert [region.label for region in one] == ["scratch"]


def test_the_label_is_that_of_the_peak_whatever_regions_are_kept():
    masks = np.zeros((1, 2, 20, 20), np.float32)
    masks[0, 0, 2:4, 2:4] = 0.95
    masks[0, 1, 10:18, 4:18] = 0.7
    area = (20, 10, 40, 30)  # of an image of 60 x 40 px
    valid = np.zeros(SIZE, np.bool_)
    valid[10:30, 20:40] = True
    predicted = predict(Outputs(mask_scores=masks), CLASSES, area=area, exclusive=True)
    for mask in (valid, None):
        decoded = decode(*predicted, Decision(map_high=0.5, min_area_px=10), SIZE, mask)
        assert (decoded.score, decoded.label) == (pytest.approx(0.95), "scratch")
        assert defect_boxes(decoded.regions) == [("stain", (24, 20, 38, 28))]
    everywhere = predict(Outputs(mask_scores=np.full((1, 2, 20, 20), 0.4, np.float32)), CLASSES, area, exclusive=True)
    (region,) = decode(*everywhere, Decision(map_high=0.5), SIZE, None).regions
    assert region.box == area


@pytest.mark.parametrize("kind", ["mask_scores", "exclusive", "anomaly_map"])
@pytest.mark.parametrize("limited", [False, True])
def test_a_map_that_is_not_a_number_is_no_low_score(kind, limited):
    valid = np.ones(SIZE, np.bool_)
    valid[:, :30] = False
    maps = np.full((1, 2, 20, 20), 0.1, np.float32)
    maps[0, 0, 5, 15] = np.nan
    outputs = Outputs(anomaly_map=maps[:, 0]) if kind == "anomaly_map" else Outputs(mask_scores=maps)
    predicted = predict(outputs, CLASSES, exclusive=kind == "exclusive")
    assert np.isnan(decode(*predicted, Decision(map_high=0.5), SIZE, valid if limited else None).score)
    ignored = decode(*predicted, Decision(map_high=0.5), SIZE, ~valid)
    assert ignored.score == pytest.approx(0.2 if kind == "exclusive" else 0.1)


def box_outputs(masks=False):
    rows = np.float32([[[2, 4, 6, 8], [10, 10, 20, 20], [0, 0, 20, 20], [0, 0, 0, 0]]])
    outputs = Outputs(boxes=rows, box_scores=np.float32([[0.6, 0.8, 0.3, 0]]), box_labels=np.int64([[0, 1, 0, 0]]))
    if masks:
        outputs.box_masks = np.zeros((1, 4, 8, 8), np.float32)
        outputs.box_masks[0, :, :, :4] = 1  # the left half of each
    return outputs


def test_boxes():
    decoded = decode(*predict(box_outputs(), CLASSES), Decision(), SIZE, None)
    assert (decoded.score, decoded.label) == (pytest.approx(0.8), "stain")
    assert defect_boxes(decoded.regions) == [("stain", (30, 20, 60, 40)), ("scratch", (6, 8, 18, 16))]
    assert len(decode(*predict(box_outputs(), CLASSES), Decision(review=0.2), SIZE, None).regions) == 3
    assert len(decode(*predict(box_outputs(), CLASSES), Decision(min_area_px=97), SIZE, None).regions) == 1
    none = Outputs(boxes=np.zeros((1, 2, 4), np.float32), box_scores=np.zeros((1, 2), np.float32))
    assert decode(*predict(none, CLASSES), Decision(), SIZE, None).score == 0


def test_box_masks_and_ignored_pixels():
    decoded = decode(*predict(box_outputs(masks=True), CLASSES), Decision(), SIZE, None)
    mask = decoded.regions[0].mask
    assert mask.shape == (20, 30)
    assert mask[:, :15].all()
    assert not mask[:, 15:].any()
    valid = np.ones(SIZE, bool)
    valid[:, 30:] = False
    decoded = decode(*predict(box_outputs(), CLASSES), Decision(), SIZE, valid)
    assert (decoded.score, decoded.label) == (pytest.approx(0.6), "scratch")
    assert defect_boxes(decoded.regions) == [("scratch", (6, 8, 18, 16))]


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.45, 0.8])
def test_a_mask_is_as_large_as_its_box_wherever_that_begins(shift):
    """A mask that fills its box of 10 x 6 px has 60 pixels, those whose centres are in it."""
    corners = np.float64([[10 + shift, 5 + shift, 20 + shift, 11 + shift]])
    boxes = Candidates(corners, np.ones(1, np.float32), ["scratch"], np.ones((1, 28, 28), np.float32))
    region = box_region(boxes, 0, SIZE)
    assert region.mask.sum() == 60
    columns = np.flatnonzero(region.mask.any(axis=0)) + region.box[0] + 0.5
    assert columns[0] >= corners[0, 0]
    assert columns[-1] < corners[0, 2]
    half = np.zeros((1, 28, 28), np.float32)
    half[0, :, :14] = 1
    assert box_region(replace(boxes, masks=half), 0, SIZE).mask.sum() == 30
    thin = Candidates(np.float64([[3.1, 3.1, 3.3, 9.0]]), np.ones(1, np.float32), ["scratch"], half)
    assert box_region(thin, 0, SIZE).mask.any()


def test_several_kinds_of_output_are_combined():
    masks = np.zeros((1, 2, 20, 20), np.float32)
    masks[0, 1, 4:8, 4:8] = 0.9
    outputs = Outputs(class_scores=np.float32([[0.4, 0.5, 0.1]]), mask_scores=masks)
    decoded = decode(*predict(outputs, CLASSES), Decision(), SIZE, None)
    assert (decoded.score, decoded.label) == (pytest.approx(0.6), "scratch")  # of the classifier
    assert defect_boxes(decoded.regions) == [("stain", (12, 8, 24, 16))]  # of the masks
    both = Outputs(anomaly_score=np.float32([7]), anomaly_map=spot()[None], class_scores=outputs.class_scores)
    decoded = decode(*predict(both, CLASSES), Decision(map_high=0.5), SIZE, None)
    assert (decoded.score, decoded.label) == (7, "scratch")
    assert decoded.class_scores is not None
    assert len(decoded.regions) == 1


def test_a_map_with_a_value_that_is_no_number_is_reviewed(tmp_path):
    """No region is found in it, and the engine's maximum passes over that value."""
    graph = model(
        [
            helper.make_node("ReduceMean", ["images"], ["m"], axes=[1], keepdims=0),
            helper.make_node("Sub", ["m", "c"], ["d"]),
            helper.make_node("Sqrt", ["d"], ["anomaly_map"]),
            helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], axes=[1, 2], keepdims=0),
        ],
        {"anomaly_score": ["n"], "anomaly_map": ["n", "h", "w"]},
        1,
        constants=[("c", np.float32(0.1))],
    )
    decision = Decision(review=2.0, reject=2.0, map_low=0.5, map_high=0.5, rules=["reject if area_px > 50"])
    inspector = Inspector.open(
        make_bundle(tmp_path / "n.blemish", graph, ["anomaly_score", "anomaly_map"], decision, side=64)
    )
    image = np.full((64, 64, 1), 60, np.uint8)
    image[10:20, 10:20] = 200
    assert inspector.inspect(image).verdict == Verdict.REJECT
    image[63, 63] = 0  # the root of a negative number
    found = inspector.inspect(image)
    assert found.verdict == Verdict.REVIEW
    assert math.isnan(found.score)
