"""Probability of detection (POD) by the size of a defect, from hits and misses.

The hit/miss model of MIL-HDBK-1823A (2009): POD(a) = 1 / (1 + exp(-(b0 + b1 ln a))), fitted by maximum likelihood, with
confidence bounds from the likelihood ratio. a50 and a90 are the sizes that are found in 50 % and 90 % of the cases,
a90/95 is the upper 95 % confidence bound of a90: the smallest size of which 90 % are found, with 95 % confidence.

Deviations: the bounds hold for each size by itself (profile likelihood, one degree of freedom) and bear the correction
of Barndorff-Nielsen (1986, Biometrika 73), without which a90/95 of 30 to 120 trials covers a90 in 91 to 94 % of
simulations, not 95 %. Sizes beyond those tried are not given: the model is not extrapolated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from blemish.arrays import Flags, Scores
from blemish.errors import OptionError
from blemish.evaluation.intervals import clopper_pearson

NORMAL_95 = 1.6448536269514722  # quantile of the normal distribution: bounds of 95 % on either side
MIN_ROOT = 1e-3
MIN_TRIALS = 10  # below it no curve is fitted
ADVISED_TRIALS = 60  # MIL-HDBK-1823A: at least so many for hit/miss
GRID_POINTS = 41  # of a curve
FIT_GROUPS = 5  # of sizes, in which the fitted curve is compared with the observed rate
MAX_LOGIT = 40.0
MAX_LOG_SIZE = 1e4
BISECTIONS = 60
CURVE_TOLERANCE = 1e-3  # of a logit of the band: it is drawn, not read


class PodProblem(StrEnum):
    """Why there is no curve, or what a reader of one must know."""

    TOO_FEW = "too_few"
    ALL_FOUND = "all_found"
    NONE_FOUND = "none_found"
    SEPARATED = "separated"  # all sizes found are larger than all missed: any steep curve fits
    NOT_RISING = "not_rising"  # the rate does not rise with size
    FEW = "few"  # fewer trials than the handbook advises
    A50_OUTSIDE = "a50_outside"
    A90_OUTSIDE = "a90_outside"  # beyond the sizes tried
    A90_95_OUTSIDE = "a90_95_outside"
    POOR_FIT = "poor_fit"  # observed rates contradict the curve


@dataclass(frozen=True)
class PodPoint:
    """The probability of detection at one size, and its 90 % interval: `low` is a 95 % lower confidence bound."""

    size: float
    pod: float
    low: float
    high: float


@dataclass(frozen=True)
class PodGroup:
    """Observed hits of the trials whose sizes lie from `low` to `high`, with the exact 95 % interval of the rate."""

    low: float
    high: float
    hits: int
    trials: int
    rate_low: float
    rate_high: float


@dataclass(frozen=True, eq=False)
class HitMissModel:
    """A fitted logistic curve: logit(POD) = intercept + slope * x, with the data and its log-likelihood."""

    x: Scores  # (N,) log sizes
    hits: Flags  # (N,)
    intercept: float
    slope: float
    best: float


@dataclass(frozen=True)
class PodFit:
    """The result of `fit_pod`: sizes in the unit given; None where there is no curve or the size was not tried."""

    trials: int
    hits: int
    smallest: float  # sizes tried
    largest: float
    smallest_hit: float | None
    largest_miss: float | None
    problems: tuple[PodProblem, ...]
    intercept: float | None = None
    slope: float | None = None
    a50: float | None = None
    a90: float | None = None
    a90_95: float | None = None
    curve: tuple[PodPoint, ...] = ()
    groups: tuple[PodGroup, ...] = ()


def fit_pod(sizes: Scores, hits: Flags) -> PodFit:
    """Fit the hit/miss model to N positive sizes and whether each defect was found.

    Raises OptionError for sizes that are not positive and finite, or for none.
    """
    sizes, hits = np.asarray(sizes, np.float64), np.asarray(hits, np.bool_)
    if sizes.ndim != 1 or sizes.shape != hits.shape or not len(sizes):
        raise OptionError(f"sizes and hits are two lists of one length, not of shapes {sizes.shape} and {hits.shape}")
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise OptionError("sizes of defects are positive numbers")
    found, missed = sizes[hits], sizes[~hits]
    bare = PodFit(
        trials=len(sizes),
        hits=int(hits.sum()),
        smallest=float(sizes.min()),
        largest=float(sizes.max()),
        smallest_hit=float(found.min()) if len(found) else None,
        largest_miss=float(missed.max()) if len(missed) else None,
        problems=(),
        groups=_group(sizes, hits),
    )
    problem = _find_obstacle(sizes, hits)
    if problem is not None:
        return replace(bare, problems=(problem,))
    model = fit_logistic(np.log(sizes), hits)
    level = log_likelihood(np.full(len(sizes), _logit(float(hits.mean()))), hits)
    if model.slope <= 0 or 2 * (model.best - level) <= NORMAL_95**2:  # no finite bound of a90 exists
        return replace(bare, problems=(PodProblem.NOT_RISING,))
    return _describe(bare, model)


def fit_logistic(x: Scores, hits: Flags) -> HitMissModel:
    """Logistic regression of hits (N,) on `x` (N,) by Newton's method; the maximum must exist."""
    middle, spread = float(x.mean()), max(float(x.std()), 1e-12)
    design = np.stack([np.ones(len(x)), (x - middle) / spread], axis=1)
    own = _maximise(design, np.zeros(len(x)), hits)
    intercept, slope = float(own[0] - own[1] * middle / spread), float(own[1] / spread)
    return HitMissModel(x, hits, intercept, slope, log_likelihood(intercept + slope * x, hits))


def log_likelihood(logits: Scores, hits: Flags) -> float:
    """Bernoulli log-likelihood of hits (N,) with the given logits."""
    return float(-np.logaddexp(0, np.where(hits, -logits, logits)).sum())


def likelihood_root(model: HitMissModel, at: float, logit: float) -> float:
    """How far the curve lies above `logit` at log size `at`, in standard deviations of a normal distribution.

    The signed root of the likelihood ratio, whose denominator is the largest likelihood of curves through that point,
    with the correction of Barndorff-Nielsen (1986).
    """
    x, hits = model.x - at, model.hits
    slope = float(_maximise(x[:, None], np.full(len(x), logit), hits)[0])
    through = logit + slope * x
    above = model.intercept + model.slope * at - logit
    root = math.copysign(math.sqrt(max(0.0, 2 * (model.best - log_likelihood(through, hits)))), above)
    if abs(root) < MIN_ROOT:  # the correction is 0 / 0 at the estimate itself
        return root
    free = (_weights(model.intercept + model.slope * model.x), _weights(through))
    determinant = float(free[0].sum() * (free[0] * x**2).sum() - (free[0] * x).sum() ** 2)
    wald = above * math.sqrt(determinant / float((free[1] * x**2).sum()))
    return root + math.log(wald / root) / root


def size_bound(model: HitMissModel, pod: float) -> float:
    """Upper 95 % confidence bound of the log size with that POD; inf where there is none."""
    target = _logit(pod)
    start = (target - model.intercept) / model.slope
    step = max(float(model.x.std()), 1e-3)
    while likelihood_root(model, start + step, target) < NORMAL_95:
        step *= 2
        if step > MAX_LOG_SIZE:
            return math.inf
    return _bisect_flag(lambda at: likelihood_root(model, at, target) >= NORMAL_95, start, start + step)


def pod_interval(model: HitMissModel, at: float) -> tuple[float, float]:
    """Lower and upper 95 % confidence bounds of the POD at log size `at`; together a 90 % interval."""
    ends = []
    estimate = model.intercept + model.slope * at
    for side in (1, -1):

        def beyond(logit: float, side: int = side) -> bool:
            return side * likelihood_root(model, at, logit) >= NORMAL_95

        far = estimate - side * MAX_LOGIT
        ends.append(_bisect_flag(beyond, estimate, far, CURVE_TOLERANCE) if beyond(far) else far)
    return _expit(ends[0]), _expit(ends[1])


def _find_obstacle(sizes: Scores, hits: Flags) -> PodProblem | None:
    """Why no curve can be fitted, if none can."""
    if len(sizes) < MIN_TRIALS:
        return PodProblem.TOO_FEW
    if hits.all():
        return PodProblem.ALL_FOUND
    if not hits.any():
        return PodProblem.NONE_FOUND
    if sizes[hits].min() >= sizes[~hits].max():
        return PodProblem.SEPARATED
    if sizes[~hits].min() >= sizes[hits].max():  # separated the other way round, or one size only
        return PodProblem.NOT_RISING
    return None


def _describe(bare: PodFit, model: HitMissModel) -> PodFit:
    low, high = float(model.x.min()), float(model.x.max())
    a50, a90 = ((_logit(pod) - model.intercept) / model.slope for pod in (0.5, 0.9))
    logs = {
        PodProblem.A50_OUTSIDE: a50,
        PodProblem.A90_OUTSIDE: a90,
        PodProblem.A90_95_OUTSIDE: size_bound(model, 0.9),
    }
    inside = [math.exp(own) if low <= own <= high else None for own in logs.values()]
    problems = [PodProblem.FEW] if bare.trials < ADVISED_TRIALS else []
    problems += [problem for problem, own in zip(logs, inside, strict=True) if own is None]
    if _fits_badly(model):
        problems.append(PodProblem.POOR_FIT)
    points = []
    for at in np.linspace(low, high, GRID_POINTS).tolist():
        lower, upper = pod_interval(model, at)
        points.append(PodPoint(math.exp(at), _expit(model.intercept + model.slope * at), lower, upper))
    return replace(
        bare,
        problems=tuple(problems),
        intercept=model.intercept,
        slope=model.slope,
        a50=inside[0],
        a90=inside[1],
        a90_95=inside[2],
        curve=tuple(points),
    )


def _fits_badly(model: HitMissModel) -> bool:
    """Whether the mean POD of a group of sizes lies outside the exact interval of its observed rate.

    99 % in all, shared among the groups (Bonferroni).
    """
    for own in np.array_split(np.argsort(model.x, kind="stable"), FIT_GROUPS):
        expected = float(_probability(model.intercept + model.slope * model.x[own]).mean())
        low, high = clopper_pearson(int(model.hits[own].sum()), len(own), 1 - 0.01 / FIT_GROUPS)
        if not low <= expected <= high:
            return True
    return False


def _group(sizes: Scores, hits: Flags) -> tuple[PodGroup, ...]:
    """Observed rates in groups of about equally many trials, for the plot."""
    groups = []
    order = np.argsort(sizes, kind="stable")
    for own in np.array_split(order, max(1, min(8, len(sizes) // 5))):
        found, count = int(hits[own].sum()), len(own)
        low, high = clopper_pearson(found, count)
        groups.append(PodGroup(float(sizes[own[0]]), float(sizes[own[-1]]), found, count, low, high))
    return tuple(groups)


def _maximise(design: Scores, offset: Scores, hits: Flags) -> Scores:
    """Coefficients (D,) of a logistic regression with an offset, by Newton's method with step halving."""
    own = np.zeros(design.shape[1])
    value = log_likelihood(offset, hits)
    for _ in range(100):
        logits = offset + design @ own
        p = _probability(logits)
        gradient = design.T @ (hits - p)
        curvature = (design * np.maximum(p * (1 - p), 1e-12)[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(own)), gradient)
        while (after := log_likelihood(offset + design @ (own + step), hits)) < value and np.abs(step).max() > 1e-12:
            step = step / 2
        own, gain, value = own + step, after - value, after
        if gain < 1e-12:
            break
    return np.asarray(own)


def _bisect_flag(beyond: Callable[[float], bool], inside: float, outside: float, tolerance: float = 1e-7) -> float:
    """Where `beyond` turns from false (at `inside`) to true (at `outside`)."""
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if beyond(middle) else (middle, outside)
        if abs(outside - inside) < tolerance:
            break
    return (inside + outside) / 2


def _probability(logits: Scores) -> Scores:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -MAX_LOGIT, MAX_LOGIT))))


def _weights(logits: Scores) -> Scores:
    """Fisher information of each trial (N,) about its logit."""
    p = _probability(logits)
    return np.asarray(p * (1 - p))


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
