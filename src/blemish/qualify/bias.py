"""A measurement against a known value: type-1 study (Cg, Cgk, bias) and linearity."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Scores
from blemish.errors import DataError, MissingExtraError

MIN_CAPABILITY = 1.33  # usual requirement on Cg and Cgk
MIN_READINGS, FEW_READINGS = 10, 25  # refused below; said below
TOLERANCE_SHARE = 0.2  # of the tolerance that 6 sigma of the gauge are compared with
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class TypeOneStudy:
    """One part of known value, measured many times. Cg = 0.2 T / 6 s, Cgk = (0.1 T - |bias|) / 3 s."""

    readings: int
    reference: float
    mean: float
    sigma: float
    sigma_low: float  # 95 %
    sigma_high: float
    bias: float
    bias_low: float
    bias_high: float
    t: float
    p: float  # of a bias of 0
    tolerance: float | None
    cg: float | None
    cg_low: float | None  # 95 %
    cgk: float | None
    capable: bool | None  # both at least 1.33
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Coefficient:
    value: float
    error: float
    low: float  # 95 %
    high: float
    t: float
    p: float  # of a value of 0


@dataclass(frozen=True)
class LinearityStudy:
    """The bias of single readings as a straight line over the reference value (AIAG, MSA, 4th ed., III.B)."""

    readings: int
    slope: Coefficient
    intercept: Coefficient
    sigma: float  # of the readings around the line
    r_squared: float
    lack_of_fit: float | None  # p of the line against the means (ISO 11095); None without repeats
    biases: list[tuple[float, float]]  # reference, mean bias
    linear: bool  # neither slope nor intercept differs from 0
    warnings: list[str] = field(default_factory=list)


def study_type_one(readings: Scores, reference: float, tolerance: float | None = None) -> TypeOneStudy:
    """Type-1 study of readings (N,) of one part; `tolerance` is its width. Raises DataError for too few readings."""
    stats = _stats()
    number, sigma = len(readings), float(readings.std(ddof=1)) if len(readings) > 1 else 0.0
    if number < MIN_READINGS:
        raise DataError(f"a type-1 study has {MIN_READINGS} readings or more (50 are usual), not {number}")
    if sigma <= 0:
        raise DataError("all readings are the same: the resolution is too coarse for a type-1 study")
    bias, error = float(readings.mean()) - reference, sigma / np.sqrt(number)
    half = float(stats.t.ppf(0.975, number - 1)) * error
    t = bias / error
    sums = (number - 1) * sigma**2 / stats.chi2.ppf((0.975, 0.025), number - 1)
    low, high = (float(value) for value in np.sqrt(sums))
    cg = cg_low = cgk = None
    if tolerance is not None:
        cg, cg_low = TOLERANCE_SHARE * tolerance / (6 * sigma), TOLERANCE_SHARE * tolerance / (6 * high)
        cgk = (TOLERANCE_SHARE * tolerance / 2 - abs(bias)) / (3 * sigma)
    return TypeOneStudy(
        readings=number,
        reference=reference,
        mean=float(readings.mean()),
        sigma=sigma,
        sigma_low=low,
        sigma_high=high,
        bias=bias,
        bias_low=bias - half,
        bias_high=bias + half,
        t=float(t),
        p=float(2 * stats.t.sf(abs(t), number - 1)),
        tolerance=tolerance,
        cg=cg,
        cg_low=cg_low,
        cgk=cgk,
        capable=None if cg is None or cgk is None else min(cg, cgk) >= MIN_CAPABILITY,
        warnings=[f"{number} readings are few: 50 are usual"] if number < FEW_READINGS else [],
    )


def study_linearity(values: NDArray[np.float64], reference: Scores) -> LinearityStudy:
    """Linearity of readings (P, N) of P parts whose values (P,) are known; DataError for less than three values."""
    stats = _stats()
    parts, repeats = values.shape
    if len(np.unique(reference)) < 3:
        raise DataError("a linearity study has parts of at least three different known values")
    x, y = np.repeat(reference, repeats), (values - reference[:, None]).ravel()
    number = len(x)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * y).sum()) / spread
    intercept = float(y.mean() - slope * x.mean())
    left = float(((y - intercept - slope * x) ** 2).sum())
    sigma = float(np.sqrt(left / (number - 2)))
    if sigma <= 0:
        raise DataError("the readings lie on a line without any scatter: they are no measurements")
    errors = sigma / np.sqrt(spread), sigma * np.sqrt(1 / number + x.mean() ** 2 / spread)

    def coefficient(value: float, error: float) -> Coefficient:
        half, t = float(stats.t.ppf(0.975, number - 2)) * error, value / error
        p = float(2 * stats.t.sf(abs(t), number - 2))
        return Coefficient(value, float(error), value - half, value + half, float(t), p)

    found = [coefficient(value, float(error)) for value, error in zip((slope, intercept), errors, strict=True)]
    lack = _lack_of_fit(values, reference, left) if repeats > 1 else None
    total = float(((y - y.mean()) ** 2).sum())
    biases = [(float(r), float(v.mean() - r)) for r, v in zip(reference, values, strict=True)]
    warnings = [f"{parts} parts are few: five or more are usual"] if parts < 5 else []
    if lack is not None and lack < SIGNIFICANT:
        warnings.append("the bias is no straight line over the values: slope and intercept do not describe it")
    return LinearityStudy(
        readings=number,
        slope=found[0],
        intercept=found[1],
        sigma=sigma,
        r_squared=1 - left / total if total else 0.0,
        lack_of_fit=lack,
        biases=biases,
        linear=all(one.p >= SIGNIFICANT for one in found),
        warnings=warnings,
    )


def _lack_of_fit(values: NDArray[np.float64], reference: Scores, left: float) -> float | None:
    """p of the F test of a straight line against the means of the parts (ISO 11095)."""
    parts, repeats = values.shape
    pure, degrees = float(((values - values.mean(axis=1, keepdims=True)) ** 2).sum()), parts * (repeats - 1)
    lines = len(np.unique(reference)) - 2
    if pure <= 0 or lines < 1 or lines != parts - 2:  # parts of one value: their own differences are no lack of fit
        return None
    f = (left - pure) / lines / (pure / degrees)
    return float(_stats().f.sf(f, lines, degrees))


def _stats() -> Any:
    try:
        from scipy import stats
    except ModuleNotFoundError as error:
        raise MissingExtraError("SciPy is not installed; pip install 'blemish[qualify]'") from error
    return stats
