"""Which of two ways is better on the same images, and how sure that is: the paired bootstrap of a difference.

Images are drawn with replacement (Efron 1979) and both ways are judged on the same draw: what makes an image hard for
both then cancels. Draws keep the number of images of each stratum (good and defective; folds), and images of one group,
such as shots of one part, are drawn together.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Statistic = Callable[[Indices], float]  # the figure on the images of these indices, some of them several times

DRAWS = 2000


@dataclass(frozen=True)
class Difference:
    """First less second, its interval, and the share of draws in which the first was better (ties count half)."""

    value: float
    low: float
    high: float
    better: float
    images: int

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def draw_sets(
    strata: Sequence[Hashable], groups: Sequence[Hashable] | None = None, draws: int = DRAWS, seed: int = 0
) -> list[Indices]:
    """Indices of the images of each draw: as many units of every stratum as it has, with replacement.

    A unit is one image, or all images of a group; a group's stratum is that of its first image.
    """
    units: dict[Hashable, list[int]] = {}
    for i in range(len(strata)):
        key = ("image", i) if groups is None or groups[i] is None else ("group", groups[i])
        units.setdefault(key, []).append(i)
    by_stratum: dict[Hashable, list[Indices]] = {}
    for members in units.values():
        by_stratum.setdefault(strata[members[0]], []).append(np.array(members, np.int64))
    rng = np.random.default_rng(seed)
    return [
        np.concatenate([own[k] for own in by_stratum.values() for k in rng.integers(0, len(own), len(own))])
        for _ in range(draws)
    ]


def paired_difference(
    first: Statistic, second: Statistic, sets: Sequence[Indices], images: int, confidence: float = 0.95
) -> Difference:
    """The difference of two figures on all `images`, with the percentile interval over the drawn sets.

    Draws on which a figure does not exist (NaN) are left out.
    """
    everything = np.arange(images, dtype=np.int64)
    found = np.array([first(drawn) - second(drawn) for drawn in sets], np.float64)
    found = found[np.isfinite(found)]
    value = first(everything) - second(everything)
    if not len(found):
        return Difference(value, float("nan"), float("nan"), float("nan"), images)
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    better = (found > 0).mean() + (found == 0).mean() / 2
    return Difference(value, float(low), float(high), float(better), images)
