"""Losses of detectors, by name, on torchvision's."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss, sigmoid_focal_loss

from blemish.methods.detection.boxes import decode, encode

BoxLoss = Literal["smooth-l1", "giou", "ciou"]


def box_loss(
    kind: BoxLoss, offsets: Tensor, references: Tensor, truth: Tensor, variances: tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    """Loss of each box (P,): predicted offsets (P, 4) to references (P, 4) against true boxes (P, 4).

    Smooth L1 (Girshick 2015) compares offsets; GIoU (Rezatofighi et al. 2019) and CIoU (Zheng et al. 2020) boxes.
    """
    if kind == "smooth-l1":
        wanted = encode(truth, references, variances)
        return F.smooth_l1_loss(offsets, wanted, beta=1 / 9, reduction="none").sum(dim=1)
    return overlap_loss(kind, decode(offsets, references, variances), truth)


def overlap_loss(kind: Literal["giou", "ciou"], boxes: Tensor, truth: Tensor) -> Tensor:
    """1 - GIoU or 1 - CIoU of each box (P,)."""
    loss: Tensor
    if kind == "giou":
        loss = generalized_box_iou_loss(boxes, truth, reduction="none")
    else:
        loss = complete_box_iou_loss(boxes, truth, reduction="none")
    return loss


def focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017) of independent classes, elementwise."""
    loss: Tensor = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma, reduction="none")
    return loss


def focal_softmax(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss over exclusive classes: logits (P, K), targets (P,) int64; (P,)."""
    likelihood = F.log_softmax(logits, dim=1).gather(1, targets[:, None]).squeeze(1)
    return -((1 - likelihood.exp()) ** gamma) * likelihood


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(..., K) float; a row of zeros for a negative label."""
    return (labels[..., None] == torch.arange(classes, device=labels.device)).float()
