"""Segmentation losses with a weight for each pixel.

`scores` and `target` are (N, K, H, W): probabilities, or logits where named so, and 0 or 1. `weight` (N, 1, H, W) is
the weight of each pixel, 0 where it is ignored. Every loss is a scalar.
"""

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.common.losses import focal_loss

LossName = Literal["cross_entropy", "focal", "dice", "tversky", "boundary"]
SMOOTH = 1.0  # pixels: keeps the overlap ratios defined, and stable where a class has few pixels


def log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """Log of the probability given to each pixel's true class: (N, 1, H, W)."""
    return (F.log_softmax(logits, dim=1) * target).sum(dim=1, keepdim=True)


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over pixels of -log p."""
    return _mean(-log_likelihood(logits, target), weight)


def focal(logits: Tensor, target: Tensor, weight: Tensor, gamma: float = 2.0) -> Tensor:
    """Lin et al. 2017: mean of -(1 - p)^gamma log p, so that easy pixels weigh little."""
    return _mean(focal_loss(-log_likelihood(logits, target), gamma), weight)


def tversky(scores: Tensor, target: Tensor, weight: Tensor, false_alarm: float = 0.3, escape: float = 0.7) -> Tensor:
    """Salehi et al. 2017: 1 - TP / (TP + false_alarm FP + escape FN), softly counted over the whole batch.

    Mean over the classes that occur in it: a class without a pixel has no overlap.
    """
    axes = (0, 2, 3)
    weighted = target * weight
    overlap = (scores * weighted).sum(axes)
    excess = (scores * (1 - target) * weight).sum(axes)
    missed = ((1 - scores) * weighted).sum(axes)
    lost = 1 - (overlap + SMOOTH) / (overlap + false_alarm * excess + escape * missed + SMOOTH)
    present = (weighted.sum(axes) > 0).to(lost.dtype)
    return (lost * present).sum() / present.sum().clamp(min=1)


def dice(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Milletari et al. 2016: 1 - 2 TP / (2 TP + FP + FN), as in `tversky`."""
    return tversky(scores, target, weight, 0.5, 0.5)


def balance_classes(target: Tensor, weight: Tensor, power: float) -> Tensor:
    """`weight` times n^-power, where n is the number of pixels of a pixel's class in the batch; the sum stays the same.

    Median frequency balancing (Eigen & Fergus 2015) and U-Net's weight map have a power of 1.
    """
    counts = (target * weight).sum((0, 2, 3), keepdim=True).clamp(min=1)
    balanced = (target * counts**-power).sum(dim=1, keepdim=True) * weight
    return balanced * weight.sum() / balanced.sum().clamp(min=1e-12)


def boundary(scores: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """Kervadec et al. 2019: mean of probability times signed distance from the true border; may be negative."""
    return _mean(scores * distances, weight)


def signed_distances(target: Tensor) -> Tensor:
    """Distance in px from the border of the masks (..., H, W) of 0 and 1: positive outside, 0 or less inside.

    0 everywhere in an empty or full mask, which has no border.
    """
    layers = target.detach().cpu().numpy().astype(np.uint8).reshape(-1, *target.shape[-2:])
    distances = np.zeros(layers.shape, np.float32)
    for layer, distance in zip(layers, distances, strict=True):
        if layer.any() and not layer.all():
            outside = cv2.distanceTransform(1 - layer, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            inside = cv2.distanceTransform(layer, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            distance[:] = outside - np.maximum(inside - 1, 0)
    return torch.from_numpy(distances.reshape(target.shape)).to(target.device)


def combined_loss(
    logits: Tensor, target: Tensor, weight: Tensor, losses: dict[LossName, float], balance: float = 0.0
) -> Tensor:
    """Weighted sum of the named losses; the first layer of the target is the background.

    `balance` is the power of `balance_classes`, for the pixel-wise losses.
    """
    balanced = balance_classes(target, weight, balance) if balance else weight
    scores = logits.softmax(dim=1)
    terms: dict[LossName, Callable[[], Tensor]] = {
        "cross_entropy": lambda: cross_entropy(logits, target, balanced),
        "focal": lambda: focal(logits, target, balanced),
        "dice": lambda: dice(scores, target, weight),
        "tversky": lambda: tversky(scores, target, weight),
        # Without the background, whose border is the defects' own.
        "boundary": lambda: boundary(scores[:, 1:], signed_distances(target[:, 1:]), weight),
    }
    total = logits.new_zeros(())
    for name, share in losses.items():
        if share:
            total = total + share * terms[name]()
    return total


def one_hot(mask_labels: Tensor, classes: int) -> Tensor:
    """(N, H, W) int64, 0 no defect, 1 + k class k, to float layers (N, 1 + classes, H, W)."""
    return F.one_hot(mask_labels, classes + 1).permute(0, 3, 1, 2).float()


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over pixels, unweighted mean over layers."""
    return (values * weight).sum() / weight.expand_as(values).sum().clamp(min=1e-6)
