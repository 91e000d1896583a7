"""Early stopping at the share of the steps where held-out folds were best."""

import numpy as np
import pytest

from blemish.training.learn.stopping import best_stopping_share


def test_the_best_share_is_that_of_the_mean_course():
    rng = np.random.default_rng(0)
    metrics = rng.random((5, 9))
    shares = np.linspace(1 / 9, 1, 9) + rng.uniform(-0.01, 0.01, (5, 9))
    courses = [list(zip(s, f, strict=True)) for s, f in zip(shares.tolist(), metrics.tolist(), strict=True)]
    best = metrics.mean(axis=0).argmax()
    assert best_stopping_share(courses) == pytest.approx(shares[:, best].mean())
    assert best_stopping_share([[(0.5, 0.8), (1.0, 0.8)]]) == 0.5  # of equals the first
    assert best_stopping_share([[(0.4, 0.1), (0.8, 0.9)], [(0.4, 0.2)]]) == pytest.approx(0.4)
    nothing = [(0.5, np.nan), (1.0, np.nan)]  # of a fold whose images for tuning show no defect
    assert best_stopping_share([nothing, nothing]) == 1.0
    assert best_stopping_share([nothing, [(0.4, 0.1), (0.9, 0.8)], []]) == 0.9
    assert best_stopping_share([[(0.5, np.nan), (1.0, 0.1)]]) == 1.0
    assert best_stopping_share([]) == best_stopping_share([[]]) == 1.0
