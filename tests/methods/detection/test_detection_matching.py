"""Assignment of boxes to anchors, and samples of it."""

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from blemish.methods.detection.matching import BACKGROUND, IGNORED, ignore_invalid, match_boxes, sample_matches


@pytest.mark.parametrize("seed", range(3))
def test_matching_equals_torchvision(seed, random_boxes):
    anchors, boxes = random_boxes(300, seed=seed), random_boxes(6, seed=seed + 50)
    expected = Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(boxes, anchors))
    torch.testing.assert_close(match_boxes(anchors, boxes, 0.5, 0.4), expected)


def test_without_boxes_every_anchor_is_background(random_boxes):
    assert match_boxes(random_boxes(5), torch.zeros(0, 4), 0.5, 0.4).tolist() == [-1] * 5


def test_samples_keep_count_and_positive_share():
    matched = torch.cat([torch.zeros(40), torch.full((200,), -1.0), torch.full((30,), -2.0)]).long()
    positive, negative = sample_matches(matched, 64, 0.25)
    assert (len(positive), len(negative)) == (16, 48)
    assert (matched[positive] >= 0).all()
    assert (matched[negative] == -1).all()


def test_background_outside_the_valid_mask_is_ignored():
    valid = torch.ones(2, 8, 16, dtype=torch.bool)
    valid[0, :, :5] = False
    points = torch.tensor([[4.9, 1.0], [5.0, 1.0], [-3.0, 2.0], [40.0, 9.0]])
    matched = torch.tensor([[BACKGROUND, BACKGROUND, 0, BACKGROUND], [BACKGROUND, IGNORED, BACKGROUND, 1]])
    expected = matched.clone()
    expected[0, 0] = IGNORED
    assert torch.equal(ignore_invalid(matched, points, valid), expected)
    assert torch.equal(ignore_invalid(matched[0], points, valid[0]), expected[0])
