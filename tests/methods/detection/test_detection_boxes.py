"""Box coding and overlaps against torchvision's."""

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou

from blemish.methods.detection.boxes import (
    aligned_iou,
    boxes_to_distances,
    decode_boxes,
    distances_to_boxes,
    encode_boxes,
    pairwise_iou,
)


@pytest.mark.parametrize("variances", [(1.0, 1.0), (0.1, 0.2)])
def test_box_coding_equals_torchvision(variances, random_boxes):
    boxes, anchors = random_boxes(200, seed=1), random_boxes(200, seed=2)
    coder = BoxCoder(weights=(1 / variances[0],) * 2 + (1 / variances[1],) * 2)
    offsets = encode_boxes(boxes, anchors, variances)
    torch.testing.assert_close(offsets, coder.encode_single(boxes, anchors))
    torch.testing.assert_close(decode_boxes(offsets, anchors, variances), coder.decode_single(offsets, anchors))
    torch.testing.assert_close(decode_boxes(offsets, anchors, variances), boxes, atol=1e-3, rtol=1e-4)


def test_decoded_boxes_are_finite(random_boxes):
    assert decode_boxes(torch.full((1, 4), 1e4), random_boxes(1)).isfinite().all()


def test_distances_invert(random_boxes):
    boxes, points = random_boxes(50), torch.rand(50, 2) * 100
    torch.testing.assert_close(distances_to_boxes(boxes_to_distances(boxes, points), points), boxes)


def test_batched_iou_equals_torchvision(random_boxes):
    a, b = random_boxes(3, 20, seed=1), random_boxes(3, 30, seed=2)
    result = pairwise_iou(a, b)
    for image in range(3):
        torch.testing.assert_close(result[image], box_iou(a[image], b[image]))


def test_aligned_iou_is_the_diagonal_of_box_iou(random_boxes):
    a, b = random_boxes(20, seed=1), random_boxes(20, seed=2)
    torch.testing.assert_close(aligned_iou(a, b), box_iou(a, b).diagonal())
