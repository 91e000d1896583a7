"""Calibrated probabilities by one temperature: Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML.

Deviation: targets are smoothed by the weight of one image in all (as Platt 1999 does), so that a set on which every
image is classified correctly gives probabilities no closer to 1 than its size allows.
"""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.005, 100.0


def shows_classes(targets: Tensor) -> bool:
    """Whether labels (N,), -1 ignored, or presences (N, K) are of two classes or more.

    Otherwise the best answer is always the same, and neither metric nor temperature says anything of a network.
    """
    known = targets[targets >= 0] if targets.dim() == 1 else targets
    return len(known.unique(dim=0)) > 1


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T of lowest log loss of softmax(logits / T) for (N, K) logits and (N,) labels, -1 ignored.

    1 where fewer than two classes are known.
    """
    if not shows_classes(labels):
        return 1.0
    known = labels >= 0
    logits, labels = logits[known], labels[known]
    smoothing = 1 / (len(labels) + 2)
    return minimize_temperature(lambda t: float(F.cross_entropy(logits / t, labels, label_smoothing=smoothing)))


def fit_binary_temperature(logits: Tensor, targets: Tensor) -> float:
    """The T of lowest log loss of sigmoid(logits / T), one for all classes: (N, K) logits, (N, K) targets 0 or 1.

    1 where the targets of all are the same.
    """
    if not shows_classes(targets):
        return 1.0
    smoothing = 1 / (len(targets) + 2)
    soft = targets.to(logits.dtype) * (1 - 2 * smoothing) + smoothing
    return minimize_temperature(lambda t: float(F.binary_cross_entropy_with_logits(logits / t, soft)))


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """Mean negative log-likelihood of (N, K) logits, in nats."""
    return float(F.cross_entropy(logits, labels))


def minimize_temperature(loss: Callable[[float], float]) -> float:
    """The temperature of lowest loss, by golden section on log T: the log loss has a single minimum in 1 / T."""
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(math.exp(left)) <= loss(math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
