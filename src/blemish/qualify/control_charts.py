"""Control charts of a slow change, EWMA and CUSUM, and their average run lengths (ARL).

The run length is the number of parts to the first alarm. The ARLs are those of independent, normally distributed scores
with known mean and deviation; where they come from a baseline of few parts, false alarms are more frequent, which
`simulate_run_lengths` shows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Flags, Scores

EWMA_WEIGHT, EWMA_LIMIT = 0.1, 3.0  # of the newest part; control limits in standard deviations
CUSUM_SLACK, CUSUM_LIMIT = 0.5, 5.0  # k and h, in standard deviations
_NODES = 60  # of the quadrature; the ARLs then have six digits
_STEPS = 50  # of a bisection


@dataclass(frozen=True, slots=True)
class Ewma:
    """An exponentially weighted moving average with its control limits (Roberts 1959; Lucas and Saccucci 1990)."""

    mean: float
    values: Scores  # (N,)
    low: Scores  # (N,)
    high: Scores  # (N,)

    @property
    def alarms(self) -> Flags:
        """(N,) whether a value is outside its limits."""
        return np.asarray((self.values < self.low) | (self.values > self.high))

    @property
    def drifted(self) -> bool:
        """Whether the newest value is outside its limits."""
        return bool(len(self.values)) and bool(self.alarms[-1])


@dataclass(frozen=True, slots=True)
class Cusum:
    """The two tabular cumulative sums (Page 1954), in standard deviations of the baseline."""

    mean: float
    rising: Scores  # (N,)
    falling: Scores  # (N,)
    limit: float

    @property
    def alarms(self) -> Flags:
        """(N,) whether one of the sums is above the limit."""
        return np.asarray(np.maximum(self.rising, self.falling) > self.limit)


def compute_ewma(
    scores: Sequence[float] | Scores, baseline: int, weight: float = EWMA_WEIGHT, limit: float = EWMA_LIMIT
) -> Ewma:
    """The moving average of scores in their order; the first `baseline` of them give mean and standard deviation."""
    x = np.asarray(scores, np.float64)
    return chart_ewma(x, float(x[:baseline].mean()), float(x[:baseline].std(ddof=1)), weight, limit)


def chart_ewma(x: Scores, mean: float, deviation: float, weight: float, limit: float) -> Ewma:
    """The moving average of scores (N,) around a known mean."""
    values, last = np.empty_like(x), mean
    for i, score in enumerate(x):
        values[i] = last = weight * score + (1 - weight) * last
    steps = np.arange(1, len(x) + 1)
    half = limit * deviation * np.sqrt(weight / (2 - weight) * (1 - (1 - weight) ** (2 * steps)))
    return Ewma(mean, values, mean - half, mean + half)


def chart_cusum(
    x: Scores, mean: float, deviation: float, slack: float = CUSUM_SLACK, limit: float = CUSUM_LIMIT
) -> Cusum:
    """Cumulative sums of the differences of scores (N,) from a known mean, in known standard deviations."""
    rising, falling, up, down = np.empty_like(x), np.empty_like(x), 0.0, 0.0
    for i, z in enumerate((x - mean) / deviation):
        rising[i], falling[i] = up, down = max(0.0, up + z - slack), max(0.0, down - z - slack)
    return Cusum(mean, rising, falling, limit)


def ewma_arl(weight: float, limit: float, shift: float = 0.0) -> float:
    """ARL of a two-sided EWMA with constant limits, after a shift of the mean in standard deviations.

    Crowder's integral equation (1987) by Gauss-Legendre quadrature.
    """
    half = limit * np.sqrt(weight / (2 - weight))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    nodes, weights = half * nodes, half * weights

    def kernel(start: NDArray[np.float64]) -> NDArray[np.float64]:
        steps = (nodes - (1 - weight) * start[:, None]) / weight - shift
        return np.asarray(_normal_density(steps) * weights / weight)

    lengths = np.linalg.solve(np.eye(_NODES) - kernel(nodes), np.ones(_NODES))
    return float(1 + (kernel(np.zeros(1)) @ lengths)[0])


def cusum_arl(slack: float, limit: float, shift: float = 0.0) -> float:
    """ARL of the two cumulative sums together; both start at 0 (Van Dobben de Bruyn 1968)."""
    return 1 / (1 / one_sided_cusum_arl(slack, limit, shift) + 1 / one_sided_cusum_arl(slack, limit, -shift))


def one_sided_cusum_arl(slack: float, limit: float, shift: float = 0.0) -> float:
    """ARL of one cumulative sum that starts at 0: Page's integral equation (1954) by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    nodes, weights = limit / 2 * (nodes + 1), limit / 2 * weights
    start = np.append(0.0, nodes)  # the sum is at 0 with a probability of its own
    matrix = np.eye(_NODES + 1)
    matrix[:, 0] -= _normal_share(slack - start - shift)
    matrix[:, 1:] -= _normal_density(nodes - start[:, None] + slack - shift) * weights
    return float(np.linalg.solve(matrix, np.ones(_NODES + 1))[0])


def design_ewma(arl: float, weight: float = EWMA_WEIGHT) -> float:
    """The limit with which an EWMA has this ARL where nothing has changed."""
    return _bisect_limit(lambda limit: ewma_arl(weight, limit), arl, 6.0)


def design_cusum(arl: float, slack: float = CUSUM_SLACK) -> float:
    """The limit with which the two cumulative sums have this ARL where nothing has changed."""
    return _bisect_limit(lambda limit: cusum_arl(slack, limit), arl, 15.0)


def simulate_run_lengths(
    draw: Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]],
    baseline: int | None,
    *,
    chart: str,
    parameters: tuple[float, float],
    runs: int = 400,
    longest: int = 5000,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Run lengths (runs,) of simulated charts; those without an alarm within `longest` parts count as that.

    `draw(rng, shape)` gives scores. Mean and deviation are estimated from `baseline` of them in every run, or known to
    be 0 and 1 where it is None. `chart` is "ewma" (weight, limit; its limits widen at the start, as those of
    `compute_ewma`) or "cusum" (slack, limit).
    """
    rng = np.random.default_rng(seed)
    mean, deviation = np.zeros(runs), np.ones(runs)
    if baseline is not None:
        first = draw(rng, (runs, baseline))
        mean, deviation = first.mean(axis=1), first.std(axis=1, ddof=1)
    lengths, active = np.full(runs, longest), np.arange(runs)
    a, limit = parameters
    state, other = np.zeros(runs), np.zeros(runs)
    for step in range(1, longest + 1):
        z = (draw(rng, (len(active), 1))[:, 0] - mean[active]) / deviation[active]
        if chart == "ewma":
            state[active] = a * z + (1 - a) * state[active]
            outside = np.abs(state[active]) > limit * np.sqrt(a / (2 - a) * (1 - (1 - a) ** (2 * step)))
        else:
            state[active] = np.maximum(0, state[active] + z - a)
            other[active] = np.maximum(0, other[active] - z - a)
            outside = np.maximum(state[active], other[active]) > limit
        lengths[active[outside]] = step
        active = active[~outside]
        if not len(active):
            break
    return lengths


def _bisect_limit(arl_of: Callable[[float], float], arl: float, high: float) -> float:
    low = 0.1
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if arl_of(middle) < arl else (low, middle)
    return (low + high) / 2


def _normal_density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))


def _normal_share(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The normal distribution function."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])
