"""FCOS's assignment of boxes to locations against brute force."""

import math

import pytest
import torch

from blemish.methods.detection.fcos import assign_smallest


@pytest.mark.parametrize("seed", range(3))
def test_each_location_is_assigned_the_smallest_box_within_reach(seed, random_targets, locations):
    points, strides = locations
    targets = random_targets(6, seed)[:, :4]
    result = assign_smallest(points, strides, targets).tolist()
    for k, (p, s) in enumerate(zip(points, strides.tolist(), strict=True)):
        able = []
        for m, box in enumerate(targets):
            sides = torch.cat([p - box[:2], box[2:] - p])
            least, most = {8.0: (0, 64), 16.0: (64, 128), 32.0: (128, math.inf)}[s]
            central = float((p - (box[:2] + box[2:]) / 2).abs().max()) < 1.5 * s
            if sides.min() > 0 and central and least < sides.max() <= most:
                able.append((float((box[2:] - box[:2]).prod()), m))
        assert result[k] == (min(able)[1] if able else -1)
    assert max(result) >= 0
