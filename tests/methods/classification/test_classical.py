"""Classical classifiers on feature vectors."""

import numpy as np

from blemish.methods.classification import classical


def rings() -> tuple[np.ndarray, np.ndarray]:
    """One class inside the other: no plane separates them."""
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, 80), np.where(y, 2.0, 0.5) + rng.normal(0, 0.1, 80)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32), y


def test_select_classifier_by_cross_validation():
    x, y = rings()
    found = classical.select_classifier(x[:, None], y, ["linear-svm", "rbf-svm"], 4, seed=0)
    assert (found[0].name, found[-1].name) == ("rbf-svm", "linear-svm")
    assert found[0].macro_f1 > 0.95 > 0.7 > found[-1].macro_f1


def test_every_classifier_has_a_head():
    assert {"linear-svm", "rbf-svm", "logistic", "neighbours", "forest", "gaussian"} == set(classical.CLASSIFIERS)
    assert set(classical.HEADS) == set(classical.CLASSIFIERS)
