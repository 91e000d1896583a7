"""Losses of detectors, by name, on torchvision's."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss

from blemish.methods.detection.boxes import decode_boxes, encode_boxes

IoULoss = Literal["giou", "ciou"]
BoxLoss = Literal["smooth-l1", "giou", "ciou"]


def box_loss(
    kind: BoxLoss, offsets: Tensor, anchors: Tensor, targets: Tensor, variances: tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    """Loss of each box (P,): predicted offsets (P, 4) to anchors (P, 4) against target boxes (P, 4).

    Smooth L1 (Girshick 2015) compares offsets; GIoU (Rezatofighi et al. 2019) and CIoU (Zheng et al. 2020) boxes.
    """
    if kind == "smooth-l1":
        wanted = encode_boxes(targets, anchors, variances)
        return F.smooth_l1_loss(offsets, wanted, beta=1 / 9, reduction="none").sum(dim=1)
    return iou_loss(kind, decode_boxes(offsets, anchors, variances), targets)


def iou_loss(kind: IoULoss, boxes: Tensor, targets: Tensor) -> Tensor:
    """1 - GIoU or 1 - CIoU (P,) of predicted boxes (P, 4) and target boxes (P, 4)."""
    loss = generalized_box_iou_loss if kind == "giou" else complete_box_iou_loss
    value: Tensor = loss(boxes, targets, reduction="none")
    return value


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Labels (...) int64 as (..., K) float; a row of zeros for a negative label."""
    return (labels[..., None] == torch.arange(classes, device=labels.device)).float()
