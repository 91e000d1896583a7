"""Metrics of images with several defects against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_score, recall_score

from blemish.evaluation.label_metrics import label_metrics

NAMES = ["dent", "pit", "scratch"]


def test_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    actual = rng.random((60, 3)) < [0.2, 0.5, 0.4]
    scores = np.clip(actual * 0.4 + rng.random((60, 3)) * 0.6, 0, 1)
    called = scores >= [0.5, 0.3, 0.5]
    outcome = label_metrics(
        [frozenset(n for n, shown in zip(NAMES, row, strict=True) if shown) for row in actual],
        [dict(zip(NAMES, row, strict=True)) for row in scores],
        {"pit": 0.3},
    )
    assert outcome is not None
    assert outcome.exact.value == pytest.approx(accuracy_score(actual, called))
    assert outcome.micro_f1 == pytest.approx(f1_score(actual, called, average="micro"))
    assert outcome.macro_f1 == pytest.approx(f1_score(actual, called, average="macro"))
    assert outcome.macro_ap == pytest.approx(average_precision_score(actual, scores, average="macro"))
    for i, name in enumerate(NAMES):
        assert outcome.ap[name] == pytest.approx(average_precision_score(actual[:, i], scores[:, i]))
        assert outcome.precision[name].value == pytest.approx(precision_score(actual[:, i], called[:, i]))
        assert outcome.recall[name].value == pytest.approx(recall_score(actual[:, i], called[:, i]))


def test_a_class_without_probability_counts_as_missed():
    outcome = label_metrics([frozenset({"dent", "pit"}), frozenset()], [{"pit": 0.9}, {"pit": 0.1}], {})
    assert outcome is not None
    assert (outcome.recall["dent"].value, outcome.recall["pit"].value, outcome.precision["dent"]) == (0, 1, None)
    assert outcome.exact.value == 0.5
    assert outcome.macro_f1 == 0.5


def test_without_any_defect_there_are_no_metrics():
    assert label_metrics([frozenset()], [{"pit": 0.1}], {}) is None
