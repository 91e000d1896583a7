"""How far a measurement may be from the truth: defined here, and nowhere else.

The uncertainty u of a measured value v is the half width of the range v ± u that holds the true value in 90 % of cases:
an expanded uncertainty as in JCGM 100 (GUM), but from a quantile of errors and not from their standard deviation, so
that no shape of their distribution is assumed and a bias is part of it. It comes from defects of known geometry that
the bundle was not trained on: of the n of them that were measured at about the same size, u / v is the
ceil(0.9 (n + 1))-th smallest |true - measured| / measured (split conformal prediction by classes, Vovk, Gammerman &
Shafer 2005). Below the smallest size class u stays as large, in px, as at its lower end, and is never less than
MIN_UNCERTAINTY_PX; above the largest class nothing is known, nor where a bundle refines regions and was not sure of
this one's border. In mm the scale's own uncertainty is added in quadrature, twice for an area; where that is not known,
that of a value in mm is not either.

A value is *reliable* where u is known and at most half of it. Any other is shown as "≈", and rules about it are warned
of.
"""

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np

from blemish.arrays import Scores
from blemish.inspection.manifest import Decision, Manifest, MeasurementUncertainty, Scale, SizeClassError
from blemish.inspection.result import Measurements
from blemish.inspection.rule_parser import parse_rule
from blemish.inspection.rules import DecisionRule, Operand

CONFIDENCE = 0.9
MAX_RELATIVE_UNCERTAINTY = 0.5  # of a reliable value
MIN_UNCERTAINTY_PX = 0.5  # px, or px² of an area: a mask has whole pixels
MIN_DEFECTS = 20  # of a size class: with fewer than 19 a quantile of 90 % is the largest error, or beyond it
_SUFFIX = "_u"
_UNITS = ("_px", "_mm2", "_mm")
UNCERTAINTIES = tuple(f.name for f in fields(Measurements) if f.name.endswith(_SUFFIX))
_MEASURED = tuple((name.removesuffix(_SUFFIX), name) for name in UNCERTAINTIES)


def with_uncertainty(
    measured: Measurements,
    known: MeasurementUncertainty | None,
    scale: Scale | None = None,
    refined: bool | None = None,
) -> Measurements:
    """The measurements of a region with the uncertainty of each, where it is known: a look-up in the bundle's tables.

    `refined` is the region's; of one that should have been refined and was not, nothing is known.
    """
    if known is None or refined is False:
        return measured
    relative_to_px = {name: _relative(known.errors, name, getattr(measured, f"{name}_px")) for name in known.errors}
    values = {}
    for name, own in _MEASURED:
        quantity, unit = split_name(name)
        value, relative = getattr(measured, name), relative_to_px.get(quantity)
        if value is not None and relative is not None:
            of_scale = 0.0 if unit == "px" or scale is None else scale.uncertainty
            if of_scale is not None:
                values[own] = value * math.hypot(relative, (1 + (unit == "mm2")) * of_scale)
    return replace(measured, **values)


def split_name(name: str) -> tuple[str, str]:
    """Quantity and unit of a measurement's name: `mean_width_mm` is ("mean_width", "mm"); the unit is "" of others."""
    unit = next((unit for unit in _UNITS if name.endswith(unit)), "")
    return name.removesuffix(unit), unit[1:]


def is_reliable(value: float, uncertainty: float | None) -> bool:
    """Whether a measured value deserves to be shown and compared as a number."""
    return uncertainty is not None and uncertainty <= MAX_RELATIVE_UNCERTAINTY * abs(value)


def size_class_errors(true: Scores, measured: Scores) -> list[SizeClassError]:
    """Errors by size class from the true and measured values (N,) of one quantity, all above 0.

    The classes double in size, by the *measured* value, since that is all that is known of a new defect; neighbours
    with fewer than MIN_DEFECTS are joined. No class where there are fewer in all.
    """
    if len(true) < MIN_DEFECTS:
        return []
    steps = np.floor(np.log2(measured)).astype(int)
    bounds = [int(steps.min())]
    for step in range(bounds[0], int(steps.max()) + 1):
        inside = (steps >= bounds[-1]) & (steps <= step)
        if inside.sum() >= MIN_DEFECTS and (steps > step).sum() >= MIN_DEFECTS:
            bounds.append(step + 1)
    bounds.append(int(steps.max()) + 1)
    return [
        _size_class(2.0**low, 2.0**high, true[own], measured[own])
        for low, high in pairwise(bounds)
        if (own := (steps >= low) & (steps < high)).any()
    ]


def conformal_quantile(errors: Scores) -> float:
    """The ceil(CONFIDENCE (n + 1))-th smallest of n errors: a further one is at most as large with that probability.

    The largest of them where there are too few.
    """
    rank = min(math.ceil(CONFIDENCE * (len(errors) + 1) - 1e-9), len(errors))
    return float(np.sort(errors)[rank - 1])


def unreliable_rules(decision: Decision, manifest: Manifest) -> list[str]:
    """A line for each rule about a measurement that the bundle does not measure reliably, at the value it compares."""
    lines = []
    for text in decision.rules:
        rule = parse_rule(text)
        doubts = (_doubt(operand, limit, manifest) for operand, limit in _measured_operands(rule))
        if (doubt := next(filter(None, doubts), None)) is not None:
            lines.append(f"rule '{rule.text}': {doubt}")
    return lines


def _size_class(low: float, high: float, true: Scores, measured: Scores) -> SizeClassError:
    ratios = measured / true
    ratio_low, ratio_high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return SizeClassError(
        low=low,
        high=high,
        bias=round(float(np.median(ratios)) - 1, 4),
        ratio_low=round(float(ratio_low), 4),
        ratio_high=round(float(ratio_high), 4),
        uncertainty=round(conformal_quantile(np.abs(true - measured) / measured), 4),
        defects=len(true),
    )


def _relative(errors: dict[str, list[SizeClassError]], quantity: str, value: float) -> float | None:
    """Uncertainty of a value in px (or px²) as a share of it; None where it is not known."""
    classes = errors.get(quantity, ())
    if not value > 0 or not classes or value >= classes[-1].high:
        return None
    own = next(one for one in classes if value < one.high)
    return max(own.uncertainty * max(value, own.low), MIN_UNCERTAINTY_PX) / value


def _measured_operands(rule: DecisionRule) -> Iterator[tuple[Operand, float | None]]:
    """The operands of a rule that are measurements with an uncertainty, and the numbers they are compared with."""
    for comparison in rule.condition.comparisons():
        for own, other in ((comparison.left, comparison.right), (comparison.right, comparison.left)):
            if own.number is None and f"{own.name}{_SUFFIX}" in UNCERTAINTIES:
                yield own, None if own.aggregate in ("sum", "mean") else other.number


def _doubt(operand: Operand, limit: float | None, manifest: Manifest) -> str | None:
    """Why an operand is not reliable near the number that it is compared with, by default at any size."""
    known, (quantity, unit) = manifest.measurement_uncertainty, split_name(operand.name)
    if known is None or not known.errors.get(quantity):
        return f"how exactly this bundle measures {operand.name} is not known"
    if limit is None or limit <= 0:
        best = min(one.uncertainty for one in known.errors[quantity])
        return None if best <= MAX_RELATIVE_UNCERTAINTY else f"{operand.name} is uncertain by ± {best:.0%} or more"
    per_unit = 1.0
    if unit != "px":
        if manifest.scale is None:
            return None  # another message says that the scale is missing
        if manifest.scale.uncertainty is None:
            return f"how exact the scale is, and with it {operand.name}, is not known"
        x, y = manifest.scale.x, manifest.scale.y
        per_unit = x * y if unit == "mm2" else max(x, y)
    relative = _relative(known.errors, quantity, limit * per_unit)
    if relative is None:
        return f"how exactly this bundle measures {operand.name} at {limit:g} is not known"
    if relative > MAX_RELATIVE_UNCERTAINTY:
        return f"{operand.name} at {limit:g} is uncertain by ± {relative:.0%}"
    return None
