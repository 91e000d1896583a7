"""What a classifier is taught by: one target for each image, or one yes or no for each defect class."""

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_loss(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float = 0.0, gamma: float = 0.0) -> Tensor:
    """Cross-entropy of (N, K) logits and (N,) labels, those of -1 left out; `weights` (K,) of the classes.

    `smoothing` spreads that share of the target over all classes (Szegedy et al. 2016); `gamma` above 0 weighs an
    image by (1 - p of its class)^gamma, the focal loss of Lin et al. 2017.
    """
    known = labels >= 0
    if not known.any():
        return logits.sum() * 0
    logits, labels = logits[known].float(), labels[known]
    loss = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    if gamma:
        loss = loss * (1 - logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]) ** gamma
    own = weights[labels]
    return (loss * own).sum() / own.sum()


def sigmoid_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0, gamma: float = 0.0
) -> Tensor:
    """Binary cross-entropy of (N, D) logits and (N, D) targets, True where the defect class is present.

    `weights` (D,) of the classes; smoothing and gamma as in `softmax_loss`.
    """
    logits, wanted = logits.float(), targets.float()
    loss = F.binary_cross_entropy_with_logits(logits, wanted * (1 - smoothing) + smoothing / 2, reduction="none")
    if gamma:
        right = torch.where(targets, logits, -logits).sigmoid()
        loss = loss * (1 - right) ** gamma
    return (loss * weights).mean()


def multi_label_probabilities(logits: Tensor, good: bool) -> Tensor:
    """(N, D) logits of defect classes to probabilities (N, K); `good`: led by that of the good class.

    Good is what has no defect, the classes taken as independent: the product of their counter-probabilities.
    """
    each = logits.sigmoid()
    return torch.cat([(1 - each).prod(dim=1, keepdim=True), each], dim=1) if good else each


def class_activation_map(maps: Tensor, weight: Tensor, reference: int | None) -> Tensor:
    """Class map of Zhou et al. 2016: (N, F, h, w) maps weighted by the last layer's (K, F) to (N, K, h, w).

    As evidence against a reference class, whose own map is then 0; without one, against the mean of all classes.
    """
    found = torch.einsum("nfhw,kf->nkhw", maps, weight)
    return found - (found.mean(dim=1, keepdim=True) if reference is None else found[:, reference : reference + 1])
