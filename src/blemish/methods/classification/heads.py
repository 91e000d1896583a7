"""Decision functions of classical classifiers as tensors: each a small module from feature vectors to class scores.

What scikit-learn has learned goes into buffers, so that the very same decision ships inside the graph. Scores are
unnormalised: their softmax at a calibrated temperature gives probabilities.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SMOOTHING = 1e-3  # added to shares of votes, so that their logarithm is finite


class Head(nn.Module):
    """(N, D) features to (N, K) scores; everything it knows is in its buffers."""

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
        near, places = squared_distances(x, self.vectors).topk(int(self.count), dim=1, largest=False)
        weight = 1 / (near.sqrt() + 1e-6)
        votes = (weight[..., None] * self.member[places]).sum(dim=1)
        return _log_share(votes / weight.sum(dim=1, keepdim=True))


class ForestHead(Head):
    """Mean class shares of T decision trees of up to M nodes, all walked down `depth` () times at once.

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
        start = torch.arange(trees, device=x.device) * nodes  # a node's place when all trees lie in one row
        feature, threshold = self.feature.flatten(), self.threshold.flatten()
        left, right = self.left.flatten(), self.right.flatten()
        place = start.expand(x.shape[0], trees)
        for _ in range(int(self.depth)):
            goes_left = x.gather(1, feature[place]) <= threshold[place]
            place = start + torch.where(goes_left, left[place], right[place])
        return _log_share(self.share.view(trees * nodes, classes)[place].mean(dim=1))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(N, D), (M, D) to (N, M)."""
    return (x.square().sum(1, keepdim=True) - 2 * x @ y.T + y.square().sum(1)).clamp(min=0)


def linear_head(weight: NDArray[np.float64], bias: NDArray[np.float64]) -> LinearHead:
    """Of scikit-learn's `coef_` and `intercept_`; the one row of two classes becomes two opposite ones."""
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return LinearHead(weight=_float(weight), bias=_float(bias))


def _log_share(share: Tensor) -> Tensor:
    return (share + SMOOTHING).log()


def _float(values: object) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float32)
