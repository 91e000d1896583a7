"""Figures of images with several defects against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_score, recall_score

from blemish.evaluation.label_metrics import label_metrics

NAMES = ["dent", "pit", "scratch"]


def test_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    actual = rng.random((60, 3)) < [0.2, 0.5, 0.4]
    scores = np.clip(actual * 0.4 + rng.random((60, 3)) * 0.6, 0, 1)
    called = scores >= [0.5, 0.3, 0.5]
    found = label_metrics(
        [frozenset(n for n, shown in zip(NAMES, row, strict=True) if shown) for row in actual],
        [dict(zip(NAMES, row, strict=True)) for row in scores],
        {"pit": 0.3},
    )
    assert found is not None
    assert found.exact.value == pytest.approx(accuracy_score(actual, called))
    assert found.micro_f1 == pytest.approx(f1_score(actual, called, average="micro"))
    assert found.macro_f1 == pytest.approx(f1_score(actual, called, average="macro"))
    assert found.macro_ap == pytest.approx(average_precision_score(actual, scores, average="macro"))
    for i, name in enumerate(NAMES):
        assert found.ap[name] == pytest.approx(average_precision_score(actual[:, i], scores[:, i]))
        assert found.precision[name].value == pytest.approx(precision_score(actual[:, i], called[:, i]))
        assert found.recall[name].value == pytest.approx(recall_score(actual[:, i], called[:, i]))


def test_a_class_that_was_never_learnt_is_missed():
    found = label_metrics([frozenset({"dent", "pit"}), frozenset()], [{"pit": 0.9}, {"pit": 0.1}], {})
    assert found is not None
    assert (found.recall["dent"].value, found.recall["pit"].value, found.precision["dent"]) == (0, 1, None)
    assert found.exact.value == 0.5
    assert found.macro_f1 == 0.5


def test_without_any_defect_there_is_nothing_to_say():
    assert label_metrics([frozenset()], [{"pit": 0.1}], {}) is None
