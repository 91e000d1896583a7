"""Metrics of classes against scikit-learn and torchmetrics; a class that the bundle does not know."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score
from torchmetrics.functional.classification import multiclass_calibration_error

from blemish.evaluation.box_metrics import box_metrics, match_boxes
from blemish.evaluation.class_metrics import calibration_error, class_metrics
from blemish.geometry import Box
from blemish.inspection.result import Candidates

NAMES = ["good", "dent", "pit"]


def test_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    annotated = [NAMES[i] for i in rng.integers(0, 3, 80)]
    called = [t if rng.random() < 0.7 else NAMES[rng.integers(0, 3)] for t in annotated]
    actual = class_metrics(annotated, called)
    assert actual.classes == NAMES
    assert actual.confusion == confusion_matrix(annotated, called, labels=NAMES).tolist()
    assert actual.balanced_accuracy == pytest.approx(balanced_accuracy_score(annotated, called))
    assert actual.macro_f1 == pytest.approx(f1_score(annotated, called, average="macro"))


def test_calibration_error_agrees_with_torchmetrics():
    torch.manual_seed(0)
    scores = (2 * torch.randn(500, 4)).softmax(dim=1)
    labels = torch.randint(4, (500,))
    best, called = scores.max(dim=1)
    expected = multiclass_calibration_error(scores, labels, 4, n_bins=15)
    assert calibration_error(best.tolist(), (called == labels).tolist()) == pytest.approx(float(expected), abs=1e-6)


def test_a_class_unknown_to_the_bundle_counts_as_missed():
    actual = class_metrics(["pit", "crack", "crack"], ["pit", "pit", "dent"])
    assert actual.accuracy.value == pytest.approx(1 / 3)
    assert actual.recall["crack"].value == 0
    assert actual.precision["crack"] is None
    assert actual.balanced_accuracy == pytest.approx(0.5)
    boxes = Candidates(np.array([[0.0, 0, 5, 5]]), np.ones(1, np.float32), ["pit"])
    measured = box_metrics([match_boxes(boxes, [Box(0, 0, 5, 5, "pit"), Box(10, 10, 20, 20, "crack")])])
    assert (measured.per_class["crack"].map, measured.map) == (0, 0.5)
