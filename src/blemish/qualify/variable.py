"""Gauge R&R of a measurement: crossed analysis of variance after AIAG, MSA, 4th edition (2010), chapter III section B.

Repeatability (EV, equipment variation), reproducibility (AV, appraiser variation), their interaction, part variation
(PV), the number of distinct categories (ndc) and precision to tolerance (P/T).
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Scores
from blemish.errors import DataError, MissingExtraError

ALPHA = 0.05  # of the interaction: at or above it, interaction is pooled with repeatability
DRAWS = 20_000  # of generalized intervals
MIN_STUDY = (10, 2, 2)  # parts, appraisers, repeats; below it AIAG's guide values mean little
VariationSource = Literal["appraiser", "part", "interaction", "repeatability", "total"]
SigmaName = Literal["EV", "AV", "INT", "GRR", "PV", "TV"]


@dataclass(frozen=True)
class AnovaRow:
    """Of the total only sum of squares and degrees of freedom."""

    source: VariationSource
    degrees: int
    squares: float
    mean_square: float | None
    f: float | None
    p: float | None


@dataclass(frozen=True)
class VariationComponent:
    """A standard deviation, its share of the total variation (of sigmas), and 6 of it as a share of the tolerance."""

    name: SigmaName
    sigma: float
    of_total: float
    of_tolerance: float | None
    low: float  # of `of_total`, 95 %
    high: float


@dataclass(frozen=True)
class GaugeRR:
    parts: int
    appraisers: int
    repeats: int
    anova: list[AnovaRow]
    pooled: bool  # interaction and repeatability were pooled
    components: list[VariationComponent]
    ndc: int
    grade: Literal["acceptable", "marginal", "unacceptable"]  # of GRR: below 10 %, to 30 %, above, of the total
    tolerance: float | None
    warnings: list[str] = field(default_factory=list)

    def component(self, name: SigmaName) -> VariationComponent:
        return next(one for one in self.components if one.name == name)


def analyse_variation(
    values: NDArray[np.float64], tolerance: float | None = None, alpha: float = ALPHA, seed: int = 0
) -> GaugeRR:
    """Gauge R&R of measurements (P, A, R), in their own unit; `tolerance` is its width.

    With one appraiser nothing is known of reproducibility, and it says so. Intervals are generalized confidence
    intervals (Burdick, Borror and Montgomery 2005, chapter 3): mean squares over chi-square draws. Raises DataError for
    a study without repeats, with one part, or whose repeats never differ.
    """
    parts, appraisers, repeats = values.shape
    if parts < 2 or repeats < 2:
        raise DataError("a gauge R&R study has at least two parts and two repeats of each by every appraiser")
    squares, degrees = sums_of_squares(values)
    if not np.ptp(values, axis=2).any():
        raise DataError("repeats do not differ at all: the resolution is too coarse, or results were copied")
    rows = _anova_rows(squares, degrees, values)
    interaction = next(row for row in rows if row.source == "interaction")
    pooled = appraisers > 1 and (interaction.p is None or interaction.p >= alpha)
    means = {name: squares[name] / degrees[name] for name in squares if degrees[name]}
    used, used_degrees = dict(means), dict(degrees)
    if pooled:
        used_degrees["repeatability"] = degrees["repeatability"] + degrees["interaction"]
        used["repeatability"] = (squares["repeatability"] + squares["interaction"]) / used_degrees["repeatability"]
        used["interaction"], used_degrees["interaction"] = used["repeatability"], used_degrees["repeatability"]
    sigma = _components({name: np.array([value]) for name, value in used.items()}, values.shape, pooled)
    drawn = _components(_draw(used, used_degrees, pooled, seed), values.shape, pooled)
    total = float(sigma["TV"][0])
    components = []
    for name, own in sigma.items():
        share = np.divide(drawn[name], drawn["TV"])
        low, high = np.quantile(share, (0.025, 0.975))
        value = float(own[0])
        of_tolerance = None if tolerance is None else 6 * value / tolerance
        components.append(VariationComponent(name, value, value / total, of_tolerance, float(low), float(high)))
    grr = float(sigma["GRR"][0])
    return GaugeRR(
        parts=parts,
        appraisers=appraisers,
        repeats=repeats,
        anova=rows,
        pooled=pooled,
        components=components,
        ndc=distinct_categories(float(sigma["PV"][0]), grr),
        grade="acceptable" if grr < 0.1 * total else "marginal" if grr <= 0.3 * total else "unacceptable",
        tolerance=tolerance,
        warnings=_warnings(values.shape, used, pooled),
    )


def sums_of_squares(values: NDArray[np.float64]) -> tuple[dict[str, float], dict[str, int]]:
    """Sums of squares and degrees of freedom of a balanced crossed study (P, A, R)."""
    parts, appraisers, repeats = values.shape
    mean, cell = values.mean(), values.mean(axis=2)
    part, appraiser = values.mean(axis=(1, 2)), values.mean(axis=(0, 2))
    squares = {
        "appraiser": parts * repeats * float(((appraiser - mean) ** 2).sum()),
        "part": appraisers * repeats * float(((part - mean) ** 2).sum()),
        "interaction": repeats * float(((cell - part[:, None] - appraiser + mean) ** 2).sum()),
        "repeatability": float(((values - cell[..., None]) ** 2).sum()),
    }
    degrees = {
        "appraiser": appraisers - 1,
        "part": parts - 1,
        "interaction": (appraisers - 1) * (parts - 1),
        "repeatability": parts * appraisers * (repeats - 1),
    }
    return squares, degrees


def distinct_categories(part_sigma: float, gauge_sigma: float) -> int:
    """ndc: 1.41 PV / GRR without its fraction, at least 1."""
    return max(1, math.floor(1.41 * part_sigma / gauge_sigma))


def _anova_rows(squares: dict[str, float], degrees: dict[str, int], values: NDArray[np.float64]) -> list[AnovaRow]:
    """F of appraiser and part is against the interaction, that of the interaction against the repeatability."""
    try:
        from scipy.stats import f as f_distribution
    except ModuleNotFoundError as error:
        raise MissingExtraError("SciPy is not installed; pip install 'blemish[qualify]'") from error
    against = {"appraiser": "interaction", "part": "interaction", "interaction": "repeatability"}
    if not degrees["interaction"]:
        against["part"] = "repeatability"
    rows = []
    for source in ("appraiser", "part", "interaction", "repeatability"):
        mean = squares[source] / degrees[source] if degrees[source] else None
        other = against.get(source)
        f = p = None
        if mean is not None and other is not None and squares[other] > 0:
            f = mean / (squares[other] / degrees[other])
            p = float(f_distribution.sf(f, degrees[source], degrees[other]))
        rows.append(AnovaRow(source, degrees[source], squares[source], mean, f, p))
    total = float(((values - values.mean()) ** 2).sum())
    return [*rows, AnovaRow("total", values.size - 1, total, None, None, None)]


def _draw(means: dict[str, float], degrees: dict[str, int], pooled: bool, seed: int) -> dict[str, Scores]:
    """Mean squares as their distribution given the study has them: each times its degrees over a chi-square draw."""
    rng = np.random.default_rng(seed)
    drawn = {name: value * degrees[name] / rng.chisquare(degrees[name], DRAWS) for name, value in means.items()}
    if pooled:
        drawn["interaction"] = drawn["repeatability"]
    return drawn


def _components(means: dict[str, Scores], shape: tuple[int, ...], pooled: bool) -> dict[SigmaName, Scores]:
    """Sigmas of all components from mean squares; a negative estimate of a variance is 0."""
    parts, appraisers, repeats = shape
    error = means["repeatability"]
    interaction = means.get("interaction", error)
    variance: dict[SigmaName, Scores] = {"EV": error}
    variance["AV"] = np.zeros_like(error)
    if appraisers > 1:
        variance["AV"] = np.maximum(0, (means["appraiser"] - interaction) / (parts * repeats))
    variance["INT"] = np.zeros_like(error) if pooled else np.maximum(0, (interaction - error) / repeats)
    variance["GRR"] = variance["EV"] + variance["AV"] + variance["INT"]
    variance["PV"] = np.maximum(0, (means["part"] - interaction) / (appraisers * repeats))
    variance["TV"] = variance["GRR"] + variance["PV"]
    return {name: np.sqrt(own) for name, own in variance.items()}


def _warnings(shape: tuple[int, ...], means: dict[str, float], pooled: bool) -> list[str]:
    found = []
    for number, least, name in zip(shape, MIN_STUDY, ("parts", "appraisers", "repeats"), strict=True):
        if number < least and not (name == "appraisers" and number == 1):
            found.append(f"{number} {name} are few: use {least} or more")
    if shape[1] == 1:
        found.append("one appraiser: nothing is known of reproducibility (AV), which counts as 0 here")
    if not pooled and shape[1] > 1:
        found.append("appraisers differ by part (interaction): find out on which parts before trusting AV")
    if means["part"] <= means.get("interaction", means["repeatability"]):
        found.append("parts do not differ beyond the gauge's own variation: take parts that span the process")
    return found
