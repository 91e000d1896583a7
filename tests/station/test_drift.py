"""The moving average of scores, and the density of defects."""

import math

import numpy as np
import pytest

from blemish.qualify.control_charts import compute_ewma
from blemish.station import drift


def test_the_moving_average_follows_its_definition() -> None:
    rng = np.random.default_rng(0)
    scores = [*rng.normal(5, 1, 200), *rng.normal(7, 1, 50)]
    found = compute_ewma(scores, baseline=100, weight=0.2)
    mean, deviation = np.mean(scores[:100]), np.std(scores[:100], ddof=1)
    weights = 0.2 * 0.8 ** np.arange(150)[::-1]
    assert found.values[149] == pytest.approx(weights @ scores[:150] + 0.8**150 * mean)
    assert found.high[-1] - found.mean == pytest.approx(3 * deviation * math.sqrt(0.2 / 1.8))
    assert found.drifted
    assert not compute_ewma(scores[:200], baseline=100).drifted


def test_a_defect_is_spread_evenly_over_its_box() -> None:
    cells = drift.spread_box((0.25, 0.5, 0.75, 1.0), side=4)
    assert cells.sum() == pytest.approx(1)
    assert (np.argwhere(cells > 0) == [[2, 1], [2, 2], [3, 1], [3, 2]]).all()
    assert drift.spread_box((0.5, 0.5, 0.5, 0.5), side=4).sum() == pytest.approx(1, abs=1e-3)
