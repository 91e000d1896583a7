"""Comparing detections: what must not matter, and what must."""

import numpy as np
import pytest

from blemish.inspection.result import Outputs
from blemish.training.ship.parity import DetectionAgreement


def detections(seed: int = 0, count: int = 20) -> Outputs:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 200, (2, count, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 60, (2, count, 2))], axis=2).astype(np.float32)
    scores = np.sort(rng.uniform(0.01, 1, (2, count)).astype(np.float32))[:, ::-1].copy()
    return Outputs(boxes=boxes, box_scores=scores, box_labels=rng.integers(0, 3, (2, count)))


def changed(given: Outputs, **parts: np.ndarray) -> Outputs:
    return Outputs(**{kind: parts.get(kind, getattr(given, kind)) for kind in given.kinds()})


def agreement(a: Outputs, b: Outputs) -> DetectionAgreement:
    found = DetectionAgreement()
    found.add(a, b)
    return found


def test_order_and_padding_do_not_matter():
    given = detections()
    order = np.random.default_rng(1).permutation(20)
    shuffled = Outputs(**{kind: getattr(given, kind)[:, order] for kind in given.kinds()})
    padded = Outputs(
        boxes=np.pad(shuffled.boxes, ((0, 0), (3, 5), (0, 0))),
        box_scores=np.pad(shuffled.box_scores, ((0, 0), (3, 5))),
        box_labels=np.pad(shuffled.box_labels, ((0, 0), (3, 5))),
    )
    found = agreement(given, padded)
    assert (found.detections, found.matched, found.score_difference) == (40, 40, 0.0)


def test_the_largest_difference_of_scores_is_told():
    given = detections()
    scores = given.box_scores.copy()
    scores[1, 3] += 0.004
    assert agreement(given, changed(given, box_scores=scores)).score_difference == pytest.approx(0.004, abs=1e-6)


@pytest.mark.parametrize("kind", ["moved", "renamed", "missing", "added"])
def test_another_detection_is_not_matched(kind):
    given = detections()
    boxes, scores, labels = given.boxes.copy(), given.box_scores.copy(), given.box_labels.copy()
    if kind == "moved":
        boxes[0, 0] += 3
    elif kind == "renamed":
        labels[0, 0] += 1
    else:
        scores[0, 0] = 0
    other = Outputs(boxes=boxes, box_scores=scores, box_labels=labels)
    found = agreement(other, given) if kind == "added" else agreement(given, other)
    assert (found.detections, found.matched) == (40, 39)
    assert found.share == pytest.approx(39 / 40)


def test_masks_are_compared():
    given = detections()
    given.box_masks = np.random.default_rng(2).random((2, 20, 7, 7)).astype(np.float32)
    masks = given.box_masks.copy()
    masks[0, 5, 3, 3] += 0.25
    assert agreement(given, changed(given, box_masks=masks)).mask_difference == pytest.approx(0.25)


def test_nothing_found_on_either_side_agrees():
    empty = Outputs(
        boxes=np.zeros((1, 5, 4), np.float32), box_scores=np.zeros((1, 5), np.float32),
        box_labels=np.zeros((1, 5), np.int64),
    )  # fmt: skip
    assert agreement(empty, empty).share == 1.0
