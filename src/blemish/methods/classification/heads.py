"""Decision functions of classical classifiers as modules from feature vectors to class scores.

The parameters fitted by scikit-learn are buffers, so that exactly its decision ships inside the graph. Scores are
unnormalised: their softmax at a calibrated temperature gives probabilities.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blemish.methods.common.losses import squared_distances

SMOOTHING = 1e-3  # added to shares of votes, so that their logarithm is finite


class Head(nn.Module):
    """(N, D) features to (N, K) scores; all parameters are buffers."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


class LinearHead(Head):
    """`weight` (K, D), `bias` (K,): linear SVM, logistic regression, Gaussians of a shared covariance."""

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


class KernelHead(Head):
    """Gaussian kernel to `vectors` (S, D), weighted by `coefficients` (S, K), plus `bias` (K,); `gamma` ()."""

    vectors: Tensor
    coefficients: Tensor
    bias: Tensor
    gamma: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(-self.gamma * squared_distances(x, self.vectors)) @ self.coefficients + self.bias


class NeighboursHead(Head):
    """Votes of the `count` () nearest of `vectors` (M, D), weighted by 1 / distance; `member` (M, K) is one-hot."""

    vectors: Tensor
    member: Tensor
    count: Tensor

    def forward(self, x: Tensor) -> Tensor:
        nearest, indices = squared_distances(x, self.vectors).topk(int(self.count), dim=1, largest=False)
        weight = 1 / (nearest.sqrt() + 1e-6)
        votes = (weight[..., None] * self.member[indices]).sum(dim=1)
        return _log_share(votes / weight.sum(dim=1, keepdim=True))


class ForestHead(Head):
    """Mean class shares of T decision trees of up to M nodes, all descended in parallel in `depth` () steps.

    Each (T, M): `feature`, `threshold`, `left`, `right` (a leaf points to itself); `share` (T, M, K).
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    share: Tensor
    depth: Tensor

    def forward(self, x: Tensor) -> Tensor:
        trees, nodes, classes = self.share.shape
        start = torch.arange(trees, device=x.device) * nodes  # offset of each tree's nodes in the flattened arrays
        feature, threshold = self.feature.flatten(), self.threshold.flatten()
        left, right = self.left.flatten(), self.right.flatten()
        node = start.expand(x.shape[0], trees)
        for _ in range(int(self.depth)):
            goes_left = x.gather(1, feature[node]) <= threshold[node]
            node = start + torch.where(goes_left, left[node], right[node])
        return _log_share(self.share.view(trees * nodes, classes)[node].mean(dim=1))


def linear_head(classifier: Any) -> LinearHead:
    """From scikit-learn's `coef_` and `intercept_`; the single row of two classes becomes two opposite ones."""
    weight, bias = classifier.coef_, classifier.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return LinearHead(weight=_float(weight), bias=_float(bias))


def _log_share(share: Tensor) -> Tensor:
    return (share + SMOOTHING).log()


def _float(values: object) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float32)
