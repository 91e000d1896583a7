"""The uncertainty budget of a measured length, width or area, combined as in JCGM 100:2008 (GUM), section 5.1.

Components are standard uncertainties relative to the measured value, taken as independent, and are combined in
quadrature; the expanded uncertainty is COVERAGE times the result, about 95 % for a normal distribution.

- scale: the bundle's relative uncertainty, within which 90 % lie, over 1.645 (normal); twice for an area.
- border: where the region ends, from defects of known geometry, by size class; 90 % lie within, over 1.645. A bias of
  the border is part of it (see `inspection.uncertainty`).
- repeatability and reproducibility: EV and AV of a gauge study, in its unit, as a share of the size.
- bias: that of a type-1 study over the square root of 3 (rectangular), as it is not corrected.

Border errors and repeatability overlap where noise moves the border, so the result is rather too large.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from blemish.errors import OptionError, unknown
from blemish.inspection.manifest import Manifest, SizeClassError
from blemish.inspection.uncertainty import MIN_UNCERTAINTY_PX

COVERAGE = 2.0
NORMAL_90 = 1.645  # 90 % of a normal distribution lie within so many standard deviations
QUANTITIES = ("length", "mean_width", "max_width", "area")
BudgetSource = Literal["scale", "border", "repeatability", "reproducibility", "bias"]
SOURCES: tuple[BudgetSource, ...] = ("scale", "border", "repeatability", "reproducibility", "bias")


@dataclass(frozen=True)
class BudgetLine:
    """One size class of one quantity; all uncertainties are shares of `size`, the geometric mean of the class.

    Where the scale differs in x and y, the class covers what its pixels are in any direction, and the uncertainties are
    those of the worst.
    """

    low: float  # of the class, in `unit`
    high: float
    size: float
    components: dict[BudgetSource, float]  # standard uncertainties that are known
    combined: float

    @property
    def expanded(self) -> float:
        return COVERAGE * self.combined


@dataclass(frozen=True)
class UncertaintyBudget:
    quantity: str
    unit: str  # mm, mm², px or px²
    lines: list[BudgetLine]
    missing: list[BudgetSource]  # components of which nothing is known: the combination is without them
    tolerance: float | None  # of the gauge study, where it measured this quantity

    def of_tolerance(self, line: BudgetLine) -> float | None:
        """2 U over the tolerance, as VDA 5 relates them."""
        return None if self.tolerance is None else 2 * line.expanded * line.size / self.tolerance


def make_budgets(manifest: Manifest, gauge: dict[str, Any], measured: str = "length") -> list[UncertaintyBudget]:
    """Budgets of every quantity whose border errors the bundle knows, and of the one that the gauge study `measured`.

    `gauge` is what `blemish qualify gauge --json` writes; its values are in mm where the bundle has a scale, else in px
    (or their squares). Raises OptionError for an unknown quantity.
    """
    if measured not in QUANTITIES:
        raise OptionError(unknown("quantity", measured, QUANTITIES))
    known = {} if manifest.measurement_uncertainty is None else manifest.measurement_uncertainty.errors
    return [
        _budget(manifest, quantity, known[quantity], gauge if quantity == measured else {})
        for quantity in QUANTITIES
        if known.get(quantity)
    ]


def _budget(
    manifest: Manifest, quantity: str, classes: list[SizeClassError], gauge: dict[str, Any]
) -> UncertaintyBudget:
    power, scale = 1 + (quantity == "area"), manifest.scale
    few, many = (1.0, 1.0) if scale is None else sorted((scale.x, scale.y))  # px per mm, by direction
    few, many = (few * many, few * many) if power == 2 else (few, many)
    absolute: dict[BudgetSource, float] = {}
    if "variable" in gauge:
        sigma = {one["name"]: one["sigma"] for one in gauge["variable"]["components"]}
        absolute["repeatability"] = sigma["EV"]
        if gauge["variable"]["appraisers"] > 1:
            absolute["reproducibility"] = math.hypot(sigma["AV"], sigma["INT"])
    if "type_1" in gauge:
        own = gauge["type_1"]
        absolute["bias"] = abs(own["bias"]) / math.sqrt(3)
        absolute.setdefault("repeatability", own["sigma"])
    lines = []
    for one in classes:
        size = math.sqrt(max(one.low, 1.0) * one.high)
        border = max(one.uncertainty, MIN_UNCERTAINTY_PX / size) / NORMAL_90
        shares: dict[BudgetSource, float] = {"border": border}
        if scale is not None and scale.uncertainty:
            shares["scale"] = power * scale.uncertainty / NORMAL_90
        shares |= {name: value * many / size for name, value in absolute.items()}
        ordered = {name: shares[name] for name in SOURCES if name in shares}
        combined = math.sqrt(sum(share**2 for share in ordered.values()))
        lines.append(BudgetLine(one.low / many, one.high / few, size / few, ordered, combined))
    # In pixels there is no scale that could be wrong.
    missing = [name for name in SOURCES if name not in lines[0].components and not (name == "scale" and scale is None)]
    tolerance = next(
        (own["tolerance"] for own in gauge.values() if isinstance(own, dict) and own.get("tolerance")), None
    )
    unit = ("px" if scale is None else "mm") + ("²" if power == 2 else "")
    return UncertaintyBudget(quantity, unit, lines, missing, tolerance)
