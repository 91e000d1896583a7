"""Losses of detectors."""

import pytest
import torch
from torch import nn
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss

from blemish.methods.common.losses import focal_loss
from blemish.methods.detection.boxes import encode_boxes
from blemish.methods.detection.losses import box_loss


def test_focal_loss_without_focus_is_cross_entropy():
    logits, target = torch.randn(20, 4), torch.randint(0, 4, (20,))
    expected = nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(focal_loss(expected, gamma=0.0), expected)


@pytest.mark.parametrize(("kind", "loss"), [("giou", generalized_box_iou_loss), ("ciou", complete_box_iou_loss)])
def test_box_loss_of_offsets_equals_torchvision_on_boxes(kind, loss, random_boxes):
    boxes, anchors, targets = (random_boxes(30, seed=seed) for seed in range(3))
    result = box_loss(kind, encode_boxes(boxes, anchors, (0.1, 0.2)), anchors, targets, (0.1, 0.2))
    torch.testing.assert_close(result, loss(boxes, targets), atol=1e-4, rtol=1e-4)
