"""Confidence intervals: exact ones of rates, DeLong's of an AUROC, and the number of parts that a proof needs."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from blemish.arrays import Scores

ROUNDING = 1e-9  # of sums of weights: twenty twentieths are not quite 1
MIN_UNITS = 5  # independent images of a kind: the variance that fewer show is often far too small


@dataclass(frozen=True)
class RateEstimate:
    """A rate (or an AUROC), its 95 % interval, and the number of independent images behind it."""

    value: float
    low: float
    high: float
    n: int


def estimate_rate(hits: float, total: int) -> RateEstimate:
    """The rate of `hits` in `total` with its exact 95 % interval; total must not be 0."""
    low, high = clopper_pearson(hits, total)
    return RateEstimate(hits / total, low, high, total)


def clopper_pearson(hits: float, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval (low, high) of a binomial rate (Clopper & Pearson 1934).

    Of a number of hits between two whole ones, the interval that covers those of both.
    """
    tail, least, most = (1 - confidence) / 2, math.floor(hits + ROUNDING), math.ceil(hits - ROUNDING)
    low = 0.0 if least == 0 else _bisect(lambda p: 1 - binomial_cdf(least - 1, total, p), tail)
    high = 1.0 if most == total else _bisect(lambda p: 1 - binomial_cdf(most, total, p), 1 - tail)
    return low, high


def binomial_cdf(hits: int, total: int, rate: float) -> float:
    """Probability of at most `hits` of `total` at the given rate."""
    if hits >= total or rate <= 0:
        return 1.0
    if rate >= 1:
        return 0.0
    i = np.arange(1, hits + 1)
    # log of C(total, i), each from the one before it
    ways = np.concatenate([[0.0], np.cumsum(np.log(total - i + 1) - np.log(i))])
    logs = ways + np.arange(hits + 1) * math.log(rate) + (total - np.arange(hits + 1)) * math.log1p(-rate)
    return min(1.0, float(np.exp(logs).sum()))


def required_parts(rate: float, escapes: int = 0, confidence: float = 0.95) -> int:
    """Number of defective parts, `escapes` of them passed, that proves an escape rate below `rate`.

    The smallest n for which the one-sided exact upper bound of the escape rate is at most `rate`.
    """
    low, high = escapes, escapes + 1
    while binomial_cdf(escapes, high, rate) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_cdf(escapes, middle, rate) > 1 - confidence else (low, middle)
    return high


@dataclass(frozen=True)
class Proof:
    """Upper limit of the escape rate that the defective parts prove, and the number of parts that lower limits need."""

    confidence: float
    escapes: int
    defective: int
    proven: float  # one-sided exact upper bound of the escape rate
    needed: list[dict[str, float]]  # rate; parts: defective parts in all without another escape; more: still missing


def prove_escape_rate(escapes: int, defective: int, rates: Sequence[float], confidence: float = 0.95) -> Proof:
    """The escape rate that `escapes` of `defective` parts prove, and the parts that each of the rates takes."""
    proven = clopper_pearson(escapes, defective, 2 * confidence - 1)[1] if defective else 1.0
    needed = []
    for rate in sorted(rates, reverse=True):
        parts = required_parts(rate, escapes, confidence)
        needed.append({"rate": rate, "parts": parts, "more": max(0, parts - defective)})
    return Proof(confidence, escapes, defective, proven, needed)


def auroc_interval(
    good: Scores,
    defective: Scores,
    good_units: Sequence[Hashable] | None = None,
    defective_units: Sequence[Hashable] | None = None,
) -> tuple[float, float]:
    """95 % interval (low, high) of the AUROC (DeLong et al. 1988), on the logit scale so that it stays in [0, 1].

    Images of one unit vary together (Obuchowski 1997); without units each image is its own. Where a side has fewer than
    MIN_UNITS units, or every pair is in order, or none, the estimated variance would promise too much; Clopper and
    Pearson's interval replaces it, for as many independent pairs as the smaller of the two sides gives.
    """
    above = _placements(good, defective)  # for each defective score, the share of good scores below it
    below = 1 - _placements(defective, good)  # for each good score, the share of defective scores above it
    area = float(above.mean())
    sums = [_deviations(below, area, good_units, "good"), _deviations(above, area, defective_units, "defective")]
    units = [len(own) for own in sums]
    own_variances = [sum(value**2 for value in own.values()) for own in sums]
    if min(units) < MIN_UNITS or not 0 < area < 1 or sum(own_variances) < 1e-15:
        low, high = clopper_pearson(area * min(units), min(units))
        return min(low, area), max(high, area)
    shared = sum(2 * value * sums[1].get(unit, 0.0) for unit, value in sums[0].items())
    variance = sum(own_variances) + max(shared, 0.0)
    degrees = sum(own_variances) ** 2 / sum(own**2 / (n - 1) for own, n in zip(own_variances, units, strict=True))
    half = student_quantile(0.975, degrees) * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    return 1 / (1 + math.exp(half - logit)), 1 / (1 + math.exp(-half - logit))


def student_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t, by Cornish and Fisher's expansion: within 1 % of it from 4 degrees of freedom on."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, 1))


def _placements(reference: Scores, values: Scores) -> Scores:
    """For each value the share of the reference below it, ties counting half."""
    ordered = np.sort(reference)
    ranks = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(ranks / (2 * len(reference)), np.float64)


def _deviations(values: Scores, mean: float, units: Sequence[Hashable] | None, side: str) -> dict[Hashable, float]:
    """Shares of a side's units in the deviation of the mean, scaled so that their squares sum up to its variance."""
    names = [(side, i) if units is None or units[i] is None else units[i] for i in range(len(values))]
    count = len(set(names))
    scale = math.sqrt(count / max(count - 1, 1)) / len(values)
    sums: defaultdict[Hashable, float] = defaultdict(float)
    for name, value in zip(names, (values - mean).tolist(), strict=True):
        sums[name] += scale * value
    return sums


def _bisect(rising: Callable[[float], float], target: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2
