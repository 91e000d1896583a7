"""Agreement beyond chance: Cohen's and Fleiss' kappa, with intervals that count each part once."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Counts, Labels
from blemish.evaluation.intervals import clopper_pearson


@dataclass(frozen=True)
class Kappa:
    """Kappa, its 95 % interval, and the number of parts behind it; None where chance alone agrees always."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def cohen_kappa(first: Labels, second: Labels) -> float | None:
    """Cohen's kappa (1960) of two raters' categories (N,); None where both give one and the same category only."""
    categories = int(max(first.max(), second.max())) + 1
    table = np.zeros((categories, categories))
    np.add.at(table, (first, second), 1)
    table /= table.sum()
    chance = float(table.sum(axis=0) @ table.sum(axis=1))
    return None if chance >= 1 else (float(np.trace(table)) - chance) / (1 - chance)


def fleiss_kappa(counts: Counts) -> float | None:
    """Fleiss' kappa (1971) of counts (N, K): how many raters put each subject into each category, equally many each."""
    raters = counts[0].sum()
    observed = float(((counts**2).sum(axis=1) - raters).mean() / (raters * (raters - 1)))
    chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return None if chance >= 1 else (observed - chance) / (1 - chance)


def cohen_interval(first: NDArray[np.int64], second: NDArray[np.int64], confidence: float = 0.95) -> Kappa:
    """Kappa of two raters' categories (P, R) of P parts, each rated R times, paired by repeat."""

    def kappa(parts: NDArray[np.int64]) -> float | None:
        return cohen_kappa(first[parts].ravel(), second[parts].ravel())

    agreed = int((first == second).all(axis=1).sum())
    return _jackknife(kappa, len(first), agreed, confidence)


def fleiss_interval(ratings: NDArray[np.int64], confidence: float = 0.95) -> Kappa:
    """Fleiss' kappa of all ratings (P, M) of P parts by M raters."""
    counts = (ratings[..., None] == np.arange(ratings.max() + 1)).sum(axis=1)
    agreed = int((counts.max(axis=1) == ratings.shape[1]).sum())
    return _jackknife(lambda parts: fleiss_kappa(counts[parts]), len(ratings), agreed, confidence)


def _jackknife(kappa: Callable[[NDArray[np.int64]], float | None], parts: int, agreed: int, confidence: float) -> Kappa:
    """Kappa over all parts, with the interval of the jackknife that leaves out one part at a time (Efron 1982).

    Repeats of one part are not independent, so a formula that counts decisions promises too much. Where all parts
    agree, the jackknife has no spread; the lower end is then the kappa of the exact lower bound of the agreement.
    """
    every = np.arange(parts)
    value = kappa(every)
    if value is None or parts < 2:
        return Kappa(value, None, None, parts)
    if agreed == parts:
        return Kappa(value, 2 * clopper_pearson(parts, parts, confidence)[0] - 1, 1.0, parts)
    left_out = [kappa(np.delete(every, i)) for i in range(parts)]
    found = np.array([1.0 if one is None else one for one in left_out])
    error = float(np.sqrt((parts - 1) / parts * ((found - found.mean()) ** 2).sum()))
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Kappa(value, max(-1.0, value - half), min(1.0, value + half), parts)
