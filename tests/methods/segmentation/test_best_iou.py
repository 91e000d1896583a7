"""IoU at the best threshold."""

import numpy as np
import pytest
import torch

from blemish.methods.segmentation.best_iou import BestIoU


def test_best_iou_equals_the_best_of_all_thresholds():
    rng = np.random.default_rng(0)
    target = rng.random(500) > 0.7
    scores = (rng.integers(0, 100, 500) + 50 * target) / 200 + 0.001
    expected = max((target & (scores >= t)).sum() / (target | (scores >= t)).sum() for t in np.unique(scores))
    found = BestIoU()
    for part in (slice(0, 200), slice(200, 500)):
        found.update(torch.tensor(scores[part], dtype=torch.float32), torch.tensor(target[part]))
    assert float(found.compute()) == pytest.approx(expected)
    found.reset()
    found.update(torch.tensor([0.1, 0.9]), torch.tensor([False, False]))
    assert found.compute().isnan()  # no pixel is defective: no threshold is better than another
