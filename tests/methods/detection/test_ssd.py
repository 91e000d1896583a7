"""SSD's default boxes against torchvision's, and its hard negatives."""

import itertools
import math

import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

from blemish.methods.detection.ssd import default_shapes, hard_negatives


def test_default_boxes_equal_torchvision_and_between_scales_can_be_stretched():
    scales, ratios = [0.1, 0.2, 0.43, 0.67, 0.9], (2.0, 3.0)
    generator = DefaultBoxGenerator([[2, 3]] * 5, scales=[*scales, 1.0])
    for level, expected in zip(default_shapes(300, scales, ratios, "square"), generator._wh_pairs, strict=True):
        torch.testing.assert_close(sorted_rows(level / 300), sorted_rows(expected))
    stretched = default_shapes(300, scales, ratios, "stretched")
    middle = [math.sqrt(a * b) for a, b in itertools.pairwise([*scales, 1.0])]
    ladder = DefaultBoxGenerator([[2, 3]] * 5, scales=[*middle, 1.0])
    for level, own, between in zip(stretched / 300, generator._wh_pairs, ladder._wh_pairs, strict=True):
        expected = torch.cat([own, between[[2, 3, 4, 5]]])  # its first two are squares
        torch.testing.assert_close(sorted_rows(level), sorted_rows(expected))


def sorted_rows(sizes: torch.Tensor) -> torch.Tensor:
    return torch.tensor(sorted(sizes.tolist()))


def test_hard_negatives_have_the_largest_losses_of_each_image():
    torch.manual_seed(0)
    losses, positive = torch.rand(4, 50), torch.rand(4, 50) < 0.1
    positive[0] = False
    negative = ~positive & (torch.rand(4, 50) < 0.8)
    result = hard_negatives(losses, positive, negative, 3.0)
    for own, hit, able, chosen in zip(losses, positive, negative, result, strict=True):
        count = 3 * max(1, int(hit.sum()))
        order = sorted((i for i in range(50) if able[i]), key=lambda i: -float(own[i]))[:count]
        assert sorted(chosen.nonzero().flatten().tolist()) == sorted(order)
