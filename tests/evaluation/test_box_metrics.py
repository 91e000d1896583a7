"""Average precision of boxes and masks against COCO's own code; recall at a number of false alarms by brute force."""

import numpy as np
import pytest
from coco_reference import NAMES, coco_average_precision
from pycocotools import mask as coco_mask

from blemish.evaluation.box_metrics import box_metrics, match_boxes
from blemish.evaluation.detections import Detections, recall_at
from blemish.geometry import Box, box_iou
from blemish.inspection.result import Candidates


def random_boxes(rng, count, crowded):
    """Whole coordinates, so that overlaps tie; in a crowd many of them fall on the same few places."""
    places = rng.integers(0, 12 if crowded else 200, (count, 2))
    sizes = rng.integers(8, 14, (count, 2)) if crowded else rng.integers(1, 60, (count, 2))
    return np.concatenate([places, places + sizes], axis=1).astype(float)


def scene(rng, kind):
    """(true boxes, detections) of an image."""
    crowded = kind == "crowded"
    true_count = 0 if kind == "empty" else int(rng.integers(0, 40 if crowded else 6))
    true = random_boxes(rng, true_count, crowded)
    labels = rng.integers(0, 3, true_count)
    moved = true + rng.integers(-3, 4, true.shape) * (kind != "exact")
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    false = random_boxes(rng, 150 if crowded else int(rng.integers(0, 8)), crowded)
    corners = np.concatenate([moved, false])
    guess = np.concatenate([np.where(rng.random(true_count) < 0.8, labels, 0), rng.integers(0, 3, len(false))]).astype(
        int
    )
    steps = 5 if kind == "ties" else 10**6
    scores = (rng.integers(1, steps + 1, len(corners)) / steps).astype(np.float32)
    annotated = [Box(*box, NAMES[k]) for box, k in zip(true.tolist(), labels, strict=True)]
    return annotated, Candidates(corners, scores, [NAMES[k] for k in guess])


def row(i, label, box, **more):
    x0, y0, x1, y1 = box
    size = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
    return {"image_id": i, "category_id": NAMES.index(label) + 1, **size, **more}


@pytest.mark.parametrize("kind", ["plain", "ties", "exact", "crowded", "empty images among others"])
@pytest.mark.parametrize("seed", range(3))
def test_boxes_agree_with_coco(kind, seed):
    rng = np.random.default_rng(seed)
    kinds = ["empty", "plain"] * 6 if kind.startswith("empty") else [kind] * (4 if kind == "crowded" else 12)
    scenes = [scene(rng, k) for k in kinds]
    references = [
        [row(i, b.label, (b.x0, b.y0, b.x1, b.y1)) for b in annotated] for i, (annotated, _) in enumerate(scenes, 1)
    ]
    results = [
        [row(i, n, c, score=float(s)) for c, s, n in zip(f.corners.tolist(), f.scores, f.labels, strict=True)]
        for i, (_, f) in enumerate(scenes, 1)
    ]
    overall, by_class = coco_average_precision(references, results)
    actual = box_metrics([match_boxes(f, annotated) for annotated, f in scenes])
    np.testing.assert_allclose([actual.map, actual.map50, actual.map75], overall, atol=1e-9)
    for k, name in enumerate(NAMES):
        if name in actual.per_class:
            np.testing.assert_allclose(actual.per_class[name].map50, by_class[0, k], atol=1e-9)
            np.testing.assert_allclose(actual.per_class[name].map, by_class[:, k].mean(), atol=1e-9)
        else:
            assert np.isnan(by_class[:, k]).all()


def test_overlap_agrees_with_coco():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 50, True), random_boxes(rng, 40, True) + rng.random((40, 4))

    def sized(boxes):
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

    np.testing.assert_allclose(box_iou(a, b), coco_mask.iou(sized(a), sized(b), np.zeros(len(b))), atol=1e-12)


@pytest.mark.parametrize("alarms", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["plain", "ties", "crowded"])
def test_recall_at_false_alarms_agrees_with_trying_every_threshold(kind, alarms):
    rng = np.random.default_rng(3)
    scenes = [scene(rng, kind) for _ in range(6)]
    images = [match_boxes(f, annotated) for annotated, f in scenes]
    overlaps = [
        box_iou(f.corners, np.array([(b.x0, b.y0, b.x1, b.y1) for b in annotated]).reshape(-1, 4))
        for annotated, f in scenes
    ]
    best = 0.0
    for threshold in np.unique(np.concatenate([f.scores for _, f in scenes])):
        hits = false = 0
        for (annotated, f), overlap in zip(scenes, overlaps, strict=True):
            for name in NAMES:
                taken = set()
                order = [i for i in np.argsort(-f.scores, kind="stable") if f.labels[i] == name][:100]
                for i in (i for i in order if f.scores[i] >= threshold):
                    own = [j for j, b in enumerate(annotated) if b.label == name and j not in taken]
                    iou = overlap[i, own]
                    if len(own) and iou.max() >= 0.5:
                        taken.add(own[len(own) - 1 - int(iou[::-1].argmax())])
                        hits += 1
                    else:
                        false += 1
        if false <= alarms * len(scenes):
            best = max(best, hits / sum(len(annotated) for annotated, _ in scenes))
    assert recall_at(images, NAMES, alarms) == pytest.approx(best)


def test_images_without_defects_have_no_metrics():
    nothing = Candidates(np.zeros((0, 4)), np.zeros(0, np.float32), [])
    assert box_metrics([match_boxes(nothing, ())]) is None
    assert box_metrics([Detections(np.ones(1), ["pit"], [], np.zeros((1, 0)))]) is None
    missed = box_metrics([match_boxes(nothing, (Box(0, 0, 5, 5, "pit"),))])
    assert (missed.map, missed.recall_at_1_fp_per_image) == (0, 0)


def test_true_boxes_on_invalid_pixels_are_left_out():
    valid = np.ones((50, 50), bool)
    valid[:, 25:] = False
    annotated = (Box(2, 2, 10, 10, "pit"), Box(20, 20, 40, 30, "pit"))
    actual = Candidates(np.array([[2.0, 2, 10, 10]]), np.ones(1, np.float32), ["pit"])
    assert box_metrics([match_boxes(actual, annotated)]).map == pytest.approx(51 / 101)
    assert box_metrics([match_boxes(actual, annotated, valid)]).map == 1
