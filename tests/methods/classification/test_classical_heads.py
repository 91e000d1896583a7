"""Heads of classical classifiers against the predictions of scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC

from blemish.methods.classification import classical


def clusters(classes: int, seed: int = 0, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(60) % classes
    return (rng.normal(0, spread, (60, 5)) + 2 * np.eye(5)[y]).astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 4])
class TestHeads:
    def test_linear(self, classes):
        x, y = clusters(classes)
        new = clusters(classes, seed=1)[0]
        scores = classical.logistic(x, y, 0, cost=0.5)(torch.from_numpy(new))
        known = LogisticRegression(C=0.5, class_weight="balanced", max_iter=500).fit(x, y)
        np.testing.assert_allclose(scores.softmax(dim=1), known.predict_proba(new), atol=1e-5)
        scores = classical.gaussian(x, y, 0)(torch.from_numpy(new))
        known = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(classes, 1 / classes))
        np.testing.assert_allclose(scores.softmax(dim=1), known.fit(x, y).predict_proba(new), atol=1e-4)
        scores = classical.linear_svm(x, y, 0, cost=0.1)(torch.from_numpy(new))
        known = LinearSVC(C=0.1, class_weight="balanced", random_state=0, dual="auto", max_iter=5000).fit(x, y)
        assert scores.argmax(dim=1).tolist() == known.predict(new).tolist()

    def test_kernel(self, classes):
        x, y = clusters(classes)
        new = clusters(classes, seed=1)[0]
        scores = classical.rbf_svm(x, y, 0, cost=1.0, width=1.0)(torch.from_numpy(new))
        for k in range(classes):
            known = SVC(C=1.0, gamma=1 / 5, class_weight="balanced").fit(x, y == k)
            np.testing.assert_allclose(scores[:, k], known.decision_function(new), atol=1e-4)

    def test_neighbours(self, classes):
        x, y = clusters(classes)
        new = clusters(classes, seed=1)[0]
        share = classical.neighbours(x, y, 0, count=5)(torch.from_numpy(new)).exp() - 1e-3
        known = KNeighborsClassifier(5, weights="distance").fit(x, y)
        np.testing.assert_allclose(share, known.predict_proba(new), atol=1e-3)

    def test_forest(self, classes):
        x, y = clusters(classes)
        new = clusters(classes, seed=1)[0]
        share = classical.forest(x, y, 3, trees=12)(torch.from_numpy(new)).exp() - 1e-3
        known = RandomForestClassifier(12, class_weight="balanced_subsample", min_samples_leaf=2, random_state=3)
        np.testing.assert_allclose(share, known.fit(x, y).predict_proba(new), atol=1e-5)
