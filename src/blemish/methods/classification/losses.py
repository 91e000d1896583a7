"""Losses and class activation maps of classifiers with one class per image (softmax) or several (sigmoid)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.common.losses import focal_loss


def softmax_loss(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float = 0.0, gamma: float = 0.0) -> Tensor:
    """Cross-entropy of (N, K) logits and (N,) labels, -1 ignored, with class weights (K,); a scalar.

    `smoothing` spreads that share of the target over all classes (Szegedy et al. 2016); `gamma` above 0 makes it the
    focal loss.
    """
    known = labels >= 0
    if not known.any():
        return logits.sum() * 0
    logits, labels = logits[known].float(), labels[known]
    loss = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    if gamma:
        loss = focal_loss(loss, gamma, logits.softmax(dim=1).gather(1, labels[:, None])[:, 0])
    own = weights[labels]
    return (loss * own).sum() / own.sum()


def sigmoid_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0, gamma: float = 0.0
) -> Tensor:
    """Binary cross-entropy of (N, D) logits and (N, D) bool targets, with class weights (D,); a scalar.

    `smoothing` and `gamma` as in `softmax_loss`.
    """
    logits, soft = logits.float(), targets.float() * (1 - smoothing) + smoothing / 2
    loss = F.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    if gamma:
        loss = focal_loss(loss, gamma, torch.where(targets, logits, -logits).sigmoid())
    return (loss * weights).mean()


def multi_label_probabilities(logits: Tensor, good: bool) -> Tensor:
    """(N, D) logits of defect classes to probabilities (N, K), with `good` after that of the good class.

    An image is good if it has no defect; with the classes taken as independent, the product of (1 - probability).
    """
    defects = logits.sigmoid()
    return torch.cat([(1 - defects).prod(dim=1, keepdim=True), defects], dim=1) if good else defects


def class_activation_map(maps: Tensor, weight: Tensor, reference: int | None) -> Tensor:
    """Class activation map (Zhou et al. 2016): maps (N, F, h, w) weighted by the last layer (K, F) to (N, K, h, w).

    Relative to the map of a `reference` class, which is then 0; without one, to the mean over all classes.
    """
    cam = torch.einsum("nfhw,kf->nkhw", maps, weight)
    return cam - (cam.mean(dim=1, keepdim=True) if reference is None else cam[:, reference : reference + 1])
