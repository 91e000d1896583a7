"""AUPIMO (Bertoldo et al. 2024): recall of each defective image's pixels where nearly no good image is touched."""

import math
from collections.abc import Sequence

import numpy as np

from blemish.arrays import FloatArray, Scores

FPR_BOUNDS = (1e-5, 1e-4)  # of the paper


def per_image_overlap(
    good_images: Sequence[FloatArray], defective_images: Sequence[FloatArray], bounds: tuple[float, float] = FPR_BOUNDS
) -> Scores | None:
    """AUPIMO of each defective image, from the scores of good images' pixels and of each defective one's defect pixels.

    The mean recall over the logarithm of the false-positive rate between `bounds`; that rate is the mean of those of
    the good images. Exact: at each rate the best recall that any threshold reaches without exceeding it, where the
    authors interpolate between sampled thresholds. None where the good images have too few pixels for the lower bound.
    """
    low, high = bounds
    if not good_images or sum(1 / len(own) for own in good_images) / len(good_images) ** 2 > low:
        return None
    levels, rates = _false_positive_rates(good_images, high)
    # From each rate to the next one, the lowest threshold is just above the level that brings the next one.
    edges = np.clip(np.concatenate([[low], rates[:-1], [max(high, rates[-1])]]), low, high)
    shares = np.diff(np.log(edges)) / math.log(high / low)
    recall = [(len(own) - np.searchsorted(np.sort(own), levels, "right")) / len(own) for own in defective_images]
    return np.asarray(np.clip([own @ shares for own in recall], 0, 1), np.float64)


def _false_positive_rates(good_images: Sequence[FloatArray], high: float) -> tuple[Scores, Scores]:
    """Distinct scores from the highest down, to the first at which the mean rate exceeds `high`, and these rates."""
    values, weights = [], []
    for own in good_images:
        count = min(len(own), math.floor(high * len(good_images) * len(own)) + 1)  # more of one image exceed it alone
        values.append(np.partition(own, len(own) - count)[-count:].astype(np.float64))
        weights.append(np.full(count, 1 / len(own) / len(good_images)))
    scores, weight = np.concatenate(values), np.concatenate(weights)
    order = np.argsort(-scores, kind="stable")
    scores, rates = scores[order], np.cumsum(weight[order])
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    scores, rates = scores[last], rates[last]
    end = int(np.searchsorted(rates, high, "right")) + 1
    return scores[:end], rates[:end]
