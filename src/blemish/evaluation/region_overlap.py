"""Area under the mean overlap of regions: AUPRO (Bergmann et al. 2020) and sPRO (Bergmann et al. 2022), exact."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import FloatArray, Scores


@dataclass(frozen=True)
class SaturatedRegion:
    """The scores of a defect's pixels, and the number of them that is enough to find it."""

    scores: FloatArray
    saturation: float


def overlap_area(good: FloatArray, regions: Sequence[FloatArray], limit: float) -> float:
    """AUPRO: the mean overlap of regions against the false-positive rate, up to `limit`, as a share of it.

    `good` are the sorted scores of good pixels.
    """
    return saturated_overlap_area(good, [SaturatedRegion(own, len(own)) for own in regions], limit)


def saturated_overlap_area(good: FloatArray, regions: Sequence[SaturatedRegion], limit: float) -> float:
    """sPRO: as AUPRO, where a region counts as found whole from its number of saturation on.

    Lowering the threshold over a pixel of a region raises that region's overlap by 1 / saturation until it is 1, at the
    false-positive rate of that threshold. So the curve follows from one sort of the defect pixels, and no threshold
    needs the regions again.
    """
    pixels = np.concatenate([np.sort(own.scores)[::-1] for own in regions])
    weights = np.concatenate([_gains(len(own.scores), own.saturation) for own in regions]) / len(regions)
    order = np.argsort(-pixels, kind="stable")
    pixels, overlap = pixels[order], np.cumsum(weights[order])
    last = np.append(np.flatnonzero(np.diff(pixels)), len(pixels) - 1)  # of each distinct score, from the highest down
    levels, overlap = pixels[last], overlap[last]
    # Two points of the curve for each score: just above it, where only the false-positive rate has moved since the
    # last one, and at it. Ties of good and defect pixels lie on the straight line between the two.
    above = (len(good) - np.searchsorted(good, levels, "right")) / len(good)
    at = (len(good) - np.searchsorted(good, levels, "left")) / len(good)
    fpr = np.concatenate([[0.0], np.stack([above, at], axis=1).ravel(), [1.0]])
    pro = np.concatenate([[0.0], np.stack([np.append(0.0, overlap[:-1]), overlap], axis=1).ravel(), [1.0]])
    inside = int(np.searchsorted(fpr, limit, "right"))
    if inside < len(fpr):
        start, end = fpr[inside - 1], fpr[inside]
        share = (limit - start) / (end - start)
        fpr = np.append(fpr[:inside], limit)
        pro = np.append(pro[:inside], pro[inside - 1] + share * (pro[inside] - pro[inside - 1]))
    return float(np.clip(np.trapezoid(pro, fpr) / limit, 0, 1))


def _gains(pixels: int, saturation: float) -> Scores:
    """What each pixel of a region, from the highest score down, adds to its overlap; the last one may be a fraction."""
    return np.asarray(np.clip(saturation - np.arange(pixels), 0, 1) / saturation, np.float64)
