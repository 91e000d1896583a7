"""Classical classifiers on feature vectors."""

import numpy as np
import pytest

from blemish.errors import DataError
from blemish.methods.classification import classical
from blemish.methods.classification.classical import CLASSIFIERS, select_classifier


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


def test_gaussians_are_left_out_where_a_fold_has_no_more_images_than_classes():
    rng = np.random.default_rng(0)
    for counts, views, some in (((2, 2), 1, False), ((2, 3), 1, False), ((2, 2), 4, True), ((4, 4), 1, True)):
        y = np.repeat([0, 1], counts)
        x = (rng.normal(0, 0.1, (len(y), views, 5)) + y[:, None, None]).astype(np.float32)
        found = {one.name for one in select_classifier(x, y, sorted(CLASSIFIERS), 2, 0)}
        assert found == {name for name in CLASSIFIERS if some or name != "gaussian"}
        if not some:
            with pytest.raises(DataError, match="2 images of 2 classes; add images, or take classifier=auto"):
                select_classifier(x, y, ["gaussian"], 2, 0)
