"""Shewhart's control charts of shares (p), of rates (u), of single values (I-MR) and of means, and the rules for them.

Formulas and constants: Montgomery, Introduction to Statistical Quality Control. The rules are those of the Western
Electric Statistical Quality Control Handbook (1956). With all four of them, and normally distributed independent values
of known mean and deviation, an alarm comes every 92 points on average though nothing has changed; with the first alone,
every 370 (Champ & Woodall 1987).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Flags, Scores

LIMIT = 3.0  # standard deviations
D2, D4 = 1.128, 3.267  # of moving ranges of two values: mean range, and its upper limit
RULES = (  # Western Electric: of `window` points, at least `number` on one side beyond `distance` standard deviations
    ("one point beyond 3 standard deviations", 1, 1, 3.0),
    ("two of three points beyond 2 standard deviations on one side", 3, 2, 2.0),
    ("four of five points beyond 1 standard deviation on one side", 5, 4, 1.0),
    ("eight points in a row on one side", 8, 8, 0.0),
)


@dataclass(frozen=True, slots=True)
class ControlChart:
    """Values in their order, the centre, and the standard deviation of each value."""

    values: Scores  # (N,)
    centre: float
    deviations: Scores  # (N,)
    least: float = -math.inf  # of limits: shares and rates are not negative
    most: float = math.inf

    @property
    def noise(self) -> float:
        """Differences up to this are those of rounding."""
        return 1e-9 * float(np.abs(self.values).max(initial=0.0))

    @property
    def has_spread(self) -> bool:
        """Whether the values have deviations at all; without, any difference is a signal."""
        return bool((self.deviations > self.noise).any())

    @property
    def low(self) -> Scores:
        return np.maximum(self.centre - LIMIT * self.deviations, self.least)

    @property
    def high(self) -> Scores:
        return np.minimum(self.centre + LIMIT * self.deviations, self.most)


def chart_shares(defective: Sequence[int], parts: Sequence[int]) -> ControlChart:
    """p chart: the shares of defective parts among different numbers of parts, all above 0."""
    d, n = np.asarray(defective, np.float64), np.asarray(parts, np.float64)
    centre = float(d.sum() / n.sum())
    return ControlChart(d / n, centre, np.sqrt(centre * (1 - centre) / n), 0.0, 1.0)


def chart_rates(defects: Sequence[int], parts: Sequence[int]) -> ControlChart:
    """u chart: the numbers of defects on a part, each of which may have several."""
    d, n = np.asarray(defects, np.float64), np.asarray(parts, np.float64)
    centre = float(d.sum() / n.sum())
    return ControlChart(d / n, centre, np.sqrt(centre / n), 0.0)


def chart_individuals(values: Sequence[float] | Scores) -> ControlChart:
    """I chart of at least two values: the deviation is that of neighbours, so that slow changes do not widen it."""
    x = np.asarray(values, np.float64)
    deviation = float(np.abs(np.diff(x)).mean()) / D2
    return ControlChart(x, float(x.mean()), np.full(len(x), deviation))


def chart_moving_ranges(values: Sequence[float] | Scores) -> ControlChart:
    """MR chart of the differences (N - 1,) of neighbouring values; its upper limit is D4 times the mean."""
    ranges = np.abs(np.diff(np.asarray(values, np.float64)))
    mean = float(ranges.mean())
    return ControlChart(ranges, mean, np.full(len(ranges), (D4 - 1) * mean / LIMIT), 0.0)


def chart_means(groups: Sequence[Sequence[float]]) -> ControlChart:
    """X-bar chart of groups of at least one value, some of two; the deviation within the groups is pooled."""
    means = np.array([np.mean(group) for group in groups], np.float64)
    sizes = np.array([len(group) for group in groups], np.float64)
    freedom = float((sizes - 1).sum())
    squares = sum(float(np.square(np.asarray(g, np.float64) - np.mean(g)).sum()) for g in groups)
    within = math.sqrt(squares / freedom) / correction_c4(int(freedom) + 1)
    centre = float((means * sizes).sum() / sizes.sum())
    return ControlChart(means, centre, within / np.sqrt(sizes))


def correction_c4(n: int) -> float:
    """The mean of the standard deviation of n normally distributed values, for a true one of 1."""
    return math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))


def find_signals(chart: ControlChart) -> list[Flags]:
    """For each of `RULES`, (N,) whether the points up to this one fulfil it, and this one is beyond too.

    A point without a deviation is beyond all distances, unless it is on the centre.
    """
    difference, spread = chart.values - chart.centre, chart.deviations > chart.noise
    z = np.where(np.abs(difference) > chart.noise, np.copysign(np.inf, difference), 0.0)
    np.divide(difference, chart.deviations, out=z, where=spread)
    return [
        np.asarray(_runs(z > distance, window, number) | _runs(z < -distance, window, number))
        for _, window, number, distance in RULES
    ]


def _runs(beyond: Flags, window: int, number: int) -> Flags:
    """(N,) whether a point is beyond, and with it at least `number` of the last `window`."""
    counts = np.cumsum(beyond)
    before = np.concatenate([np.zeros(window, counts.dtype), counts])[: len(beyond)]
    return np.asarray(beyond & (counts - before >= number))
