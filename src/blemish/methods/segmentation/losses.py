"""Losses of segmentation, as functions of maps.

`scores` and `truth` are (N, K, H, W): probabilities, or logits where it says so, and 0 or 1. `keep` (N, 1, H, W) is the
weight of each pixel, 0 where it does not count. Every loss is a scalar.
"""

from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.common.losses import focal_loss

LossName = Literal["cross_entropy", "focal", "dice", "tversky", "boundary"]
SMOOTH = 1.0  # pixels: keeps the ratios of overlap defined, and calm where a class has few pixels


def log_likelihood(logits: Tensor, truth: Tensor) -> Tensor:
    """Log of the probability given to each pixel's true class: (N, 1, H, W)."""
    return (F.log_softmax(logits, dim=1) * truth).sum(dim=1, keepdim=True)


def cross_entropy(logits: Tensor, truth: Tensor, keep: Tensor) -> Tensor:
    """Mean over pixels of -log p."""
    return _mean(-log_likelihood(logits, truth), keep)


def focal(logits: Tensor, truth: Tensor, keep: Tensor, gamma: float = 2.0) -> Tensor:
    """Lin et al. 2017: mean of -(1 - p)^gamma log p, so that easy pixels weigh little."""
    return _mean(focal_loss(-log_likelihood(logits, truth), gamma), keep)


def tversky(scores: Tensor, truth: Tensor, keep: Tensor, false_alarm: float = 0.3, escape: float = 0.7) -> Tensor:
    """Salehi et al. 2017: 1 - TP / (TP + false_alarm FP + escape FN), softly counted over the whole batch.

    Mean over the classes that occur in it: a class without a pixel has no overlap to learn from.
    """
    axes = (0, 2, 3)
    kept = truth * keep
    both = (scores * kept).sum(axes)
    excess = (scores * (1 - truth) * keep).sum(axes)
    missed = ((1 - scores) * kept).sum(axes)
    lost = 1 - (both + SMOOTH) / (both + false_alarm * excess + escape * missed + SMOOTH)
    present = (kept.sum(axes) > 0).to(lost.dtype)
    return (lost * present).sum() / present.sum().clamp(min=1)


def dice(scores: Tensor, truth: Tensor, keep: Tensor) -> Tensor:
    """Milletari et al. 2016: 1 - 2 TP / (2 TP + FP + FN), as in `tversky`."""
    return tversky(scores, truth, keep, 0.5, 0.5)


def balanced(truth: Tensor, keep: Tensor, power: float) -> Tensor:
    """`keep` times n^-power, where n is how much of the batch has a pixel's class; the sum stays that of `keep`.

    Median frequency balancing (Eigen & Fergus 2015) and U-Net's weight map have a power of 1.
    """
    counts = (truth * keep).sum((0, 2, 3), keepdim=True).clamp(min=1)
    weight = (truth * counts**-power).sum(dim=1, keepdim=True) * keep
    return weight * keep.sum() / weight.sum().clamp(min=1e-12)


def boundary(scores: Tensor, distances: Tensor, keep: Tensor) -> Tensor:
    """Kervadec et al. 2019: mean of probability times signed distance from the true border, which may be negative."""
    return _mean(scores * distances, keep)


def signed_distances(truth: Tensor) -> Tensor:
    """Distance in px from the border of each (H, W) layer of 0 and 1: positive outside, 0 or less inside.

    0 everywhere in a layer without a pixel, or full of them: it has no border.
    """
    layers = truth.detach().cpu().numpy().astype(np.uint8).reshape(-1, *truth.shape[-2:])
    found = np.zeros(layers.shape, np.float32)
    for layer, distance in zip(layers, found, strict=True):
        if layer.any() and not layer.all():
            outside = cv2.distanceTransform(1 - layer, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            inside = cv2.distanceTransform(layer, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            distance[:] = outside - np.maximum(inside - 1, 0)
    return torch.from_numpy(found.reshape(truth.shape)).to(truth.device)


def combined(
    logits: Tensor, truth: Tensor, keep: Tensor, weights: dict[LossName, float], balance: float = 0.0
) -> Tensor:
    """Weighted sum of the named losses; the first layer is the background.

    `balance` is the power of `balanced`, for the losses of single pixels.
    """
    even = balanced(truth, keep, balance) if balance else keep
    scores = logits.softmax(dim=1)
    total = logits.new_zeros(())
    for name, weight in weights.items():
        if weight == 0:
            continue
        match name:
            case "cross_entropy":
                loss = cross_entropy(logits, truth, even)
            case "focal":
                loss = focal(logits, truth, even)
            case "dice":
                loss = dice(scores, truth, keep)
            case "tversky":
                loss = tversky(scores, truth, keep)
            case "boundary":
                # Without the background, whose border is the defects' own.
                loss = boundary(scores[:, 1:], signed_distances(truth[:, 1:]), keep)
        total = total + weight * loss
    return total


def one_hot(mask_labels: Tensor, classes: int) -> Tensor:
    """(N, H, W) int64, 0 no defect, 1 + k class k, to float layers (N, 1 + classes, H, W)."""
    return F.one_hot(mask_labels, classes + 1).permute(0, 3, 1, 2).float()


def _mean(values: Tensor, keep: Tensor) -> Tensor:
    """Weighted mean over pixels, and plain mean over layers."""
    return (values * keep).sum() / keep.expand_as(values).sum().clamp(min=1e-6)
