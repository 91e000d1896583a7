"""Pooling of regions from the levels of a pyramid."""

import pytest
import torch
from torchvision.ops.poolers import LevelMapper

from blemish.methods.detection.roi import RegionPool

STRIDES = (8, 16, 32)


def test_levels_of_regions_equal_torchvision():
    torch.manual_seed(0)
    low = torch.rand(200, 2) * 50
    boxes = torch.cat([low, low + 1 + torch.rand(200, 2) * 900], dim=1)
    levels = RegionPool("align", 7, list(STRIDES)).assign_levels(boxes)
    assert set(levels.tolist()) == {0, 1, 2}
    assert torch.equal(levels, LevelMapper(3, 5, canonical_scale=224, canonical_level=4)([boxes]))


@pytest.mark.parametrize("kind", ["align", "pool"])
def test_regions_are_pooled_at_their_location(kind):
    """A map of stride s holds, at each cell, the x of the cell's centre; a region's grid is then known."""
    ramps = []
    for stride in STRIDES:
        centres = (torch.arange(1024 // stride) + 0.5) * stride
        ramps.append(centres.expand(2, 1, len(centres), -1).contiguous())
    boxes = torch.tensor([[[96.0, 96, 152, 152], [64, 0, 512, 448]], [[8.0, 8, 64, 64], [0, 0, 896, 896]]])
    grids = RegionPool(kind, 7, list(STRIDES))(ramps, boxes).view(2, 2, 7, 7)
    for box, grid in zip(boxes.flatten(0, 1), grids.flatten(0, 1), strict=True):
        step = float(box[2] - box[0]) / 7
        expected = float(box[0]) + (torch.arange(7) + 0.5) * step
        # RoIPool takes the largest cell of each part, rounded outwards to whole cells.
        torch.testing.assert_close(grid[3], expected, atol=1e-3 if kind == "align" else 1.6 * step, rtol=0)
