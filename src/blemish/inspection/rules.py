"""Rules about regions, such as `reject if scratch.length_mm > 0.5`; `rule_parser` parses their text.

A rule holds when the whole condition is true for at least one region; a class before a measurement selects regions of
that class, also after `not`, which only inverts comparisons. `count`, `sum`, `max`, `min` and `mean` aggregate over all
regions (a comparison with the max, min or mean of no region is false). `in zone NAME` limits the rule to regions
that touch that zone, with at least one pixel, and an `ignore` rule to regions that lie inside it with all their pixels.
`ignore` drops the regions that it matches, before all other rules.
"""

import math
import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from blemish.errors import DecisionError, unknown
from blemish.inspection.result import Measurements, Region

Action = Literal["reject", "review", "ignore"]
MEASUREMENTS = ("score", *(f.name for f in fields(Measurements) if not f.name.endswith("_u")))
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "==": "==", "!=": "!="}
_OPPOSITE = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}
# Smallest and largest value of a measurement; of all others, 0 and no limit.
_RANGES = {
    "score": (-math.inf, math.inf),
    "centroid_x": (-math.inf, math.inf),
    "centroid_y": (-math.inf, math.inf),
    "orientation_deg": (-90.0, 90.0),
    "circularity": (0.0, 1.0),
    "contrast": (-1.0, 1.0),
}
AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "max": max,
    "min": min,
    "mean": lambda values: math.fsum(values) / len(values),
}


@dataclass(frozen=True, slots=True)
class Operand:
    """A number, a region's measurement, or an aggregate over regions."""

    number: float | None = None
    name: str = ""  # of the measurement; "" for a number or a count
    label: str | None = None  # class that the regions must have
    aggregate: str | None = None  # "count", "sum", "max", "min" or "mean"

    @property
    def is_per_region(self) -> bool:
        return self.number is None and self.aggregate is None

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value that a measurement or an aggregate may have."""
        low, high = _RANGES.get(self.name, (0.0, math.inf))
        return (low, high) if self.aggregate != "sum" else (low if low >= 0 else -math.inf, math.inf)

    def evaluate(self, region: Region | None, regions: Sequence[Region]) -> float | None:
        """The value for a region; None for a region of another class, or an aggregate of no region."""
        if self.number is not None:
            return self.number
        if self.aggregate is None:
            if region is None or self.label not in (None, region.label):
                return None
            return get_measurement(region, self.name)
        chosen = [r for r in regions if self.label in (None, r.label)]
        if self.aggregate == "count":
            return float(len(chosen))
        values = [get_measurement(r, self.name) for r in chosen]
        return AGGREGATES[self.aggregate](values) if values or self.aggregate == "sum" else None


@dataclass(frozen=True, slots=True)
class Comparison:
    left: Operand
    sign: str
    right: Operand

    def holds(self, region: Region | None, regions: Sequence[Region]) -> bool:
        left, right = self.left.evaluate(region, regions), self.right.evaluate(region, regions)
        return left is not None and right is not None and _COMPARE[self.sign](left, right)

    def values(self) -> list[Operand]:
        return [self.left, self.right]

    def comparisons(self) -> list["Comparison"]:
        return [self]

    def limits(self) -> list[tuple[Operand, str, float]]:
        """The operand that is compared with a number, the sign as read from it, and the number."""
        pairs = ((self.left, self.sign, self.right), (self.right, _MIRRORED[self.sign], self.left))
        return [
            (own, sign, other.number) for own, sign, other in pairs if own.number is None and other.number is not None
        ]

    def negated(self) -> "Condition":
        return Comparison(self.left, _OPPOSITE[self.sign], self.right)


@dataclass(frozen=True, slots=True)
class Combination:
    word: Literal["and", "or"]
    terms: tuple["Condition", ...]

    def holds(self, region: Region | None, regions: Sequence[Region]) -> bool:
        return (all if self.word == "and" else any)(term.holds(region, regions) for term in self.terms)

    def values(self) -> list[Operand]:
        return [value for term in self.terms for value in term.values()]

    def comparisons(self) -> list[Comparison]:
        return [comparison for term in self.terms for comparison in term.comparisons()]

    def negated(self) -> "Condition":
        return Combination("or" if self.word == "and" else "and", tuple(term.negated() for term in self.terms))


Condition = Comparison | Combination


@dataclass(frozen=True, slots=True)
class DecisionRule:
    text: str
    action: Action
    condition: Condition
    zone: str | None = None

    def holds(self, regions: Sequence[Region]) -> bool:
        """Whether the rule holds for the regions of its zone."""
        if any(value.is_per_region for value in self.condition.values()):
            return any(self.condition.holds(region, regions) for region in regions)
        return self.condition.holds(None, regions)

    def matches(self, region: Region, regions: Sequence[Region]) -> bool:
        return self.condition.holds(region, regions)


def get_measurement(region: Region, name: str) -> float:
    """A measurement of a region by name; DecisionError for one in mm where the scale is unknown."""
    if name == "score":
        return region.score
    value = None if region.measurements is None else getattr(region.measurements, name)
    if value is None:
        raise DecisionError(f"{name} is unknown; " + ("give px_per_mm" if "mm" in name else "regions are not measured"))
    return float(value)


def check_rule(
    rule: DecisionRule, zones: Collection[str], classes: Collection[str] | None = None, scaled: bool = True
) -> None:
    """Raise DecisionError for an unknown zone or class, a limit that nothing can reach, or for mm without a scale."""
    if rule.zone is not None and rule.zone not in zones:
        raise DecisionError(f"rule '{rule.text}': {unknown('zone', rule.zone, zones)}")
    for value in rule.condition.values():
        if classes is not None and value.label is not None and value.label not in classes:
            raise DecisionError(f"rule '{rule.text}': {unknown('class', value.label, classes)}")
        if not scaled and value.name.endswith(("_mm", "_mm2")):
            raise DecisionError(f"rule '{rule.text}' is in mm, and the scale is unknown; give px_per_mm")
    for comparison in rule.condition.comparisons():
        for operand, sign, limit in comparison.limits():
            if not _is_possible(operand, sign, limit):
                low, high = operand.range
                name = operand.name or "count"
                raise DecisionError(
                    f"rule '{rule.text}': {name} {sign} {limit:g} can never be; it lies from {low:g} to {high:g}"
                )


def _is_possible(operand: Operand, sign: str, limit: float) -> bool:
    """Whether the limit is a value that the operand may have, and not one that it cannot pass."""
    low, high = operand.range
    return math.isfinite(limit) and low <= limit <= high and (sign, limit) not in ((">", high), ("<", low))
