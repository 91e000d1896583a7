"""FCOS's assignment of boxes to locations against brute force."""

import math

import pytest
import torch

from blemish.methods.detection.fcos import FCOS, FCOSOptions, assign_smallest


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


@pytest.mark.parametrize("thin", [0, 2])
def test_a_training_says_how_many_boxes_have_no_location(thin, caplog):
    """Locations of stride 8 are at 4, 12, 20, ...: a box from 5 to 8 has none inside it, one from 16 to 40 has."""
    network = FCOS(FCOSOptions(backbone="test_resnet", weights="random", image_size=128), ("good", "scratch"))
    boxes = [torch.tensor([[16.0, 16, 40, 40, 0], *[[5.0 + 64 * i, 10, 8 + 64 * i, 70, 0] for i in range(thin)]])]
    batch = {"image": torch.rand(1, 3, 128, 128), "boxes": boxes, "valid": torch.ones(1, 128, 128, dtype=torch.bool)}
    network.finish_training([batch], 1)
    said = [line for line in caplog.messages if "have no location of fcos" in line]
    assert [line.startswith("2 of 3 boxes") for line in said] == [True] * bool(thin)
