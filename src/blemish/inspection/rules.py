"""Rules over regions, such as `reject if scratch.length_mm > 0.5`; `rule_parser` makes them from text.

A rule holds when there is one region for which the whole test is true; a class before a measurement selects regions
of that class, under `not` too, which only turns comparisons round. `count`, `sum`, `max`, `min` and `mean` speak of
all regions at once (a comparison with the largest, smallest or mean of no region is false). `in zone NAME` limits the
rule to regions whose centroid lies in that zone. `ignore` drops the regions that it holds for, before all other rules.
"""

import difflib
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from blemish.errors import DecisionError
from blemish.inspection.result import Measurements, Region

Action = Literal["reject", "review", "ignore"]
MEASUREMENTS = ("score", *(f.name for f in fields(Measurements)))
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_OPPOSITE = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}
AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "max": max,
    "min": min,
    "mean": lambda values: math.fsum(values) / len(values),
}


@dataclass(frozen=True, slots=True)
class Value:
    """A number, a region's measurement, or an aggregate over regions."""

    number: float | None = None
    name: str = ""  # of the measurement; "" for a number or a count
    label: str | None = None  # class that the regions must have
    aggregate: str | None = None  # "count", "sum", "max", "min" or "mean"

    @property
    def of_one_region(self) -> bool:
        return self.number is None and self.aggregate is None

    def of(self, region: Region | None, regions: Sequence[Region]) -> float | None:
        """The value for a region; None where there is none (another class, no region)."""
        if self.number is not None:
            return self.number
        if self.aggregate is None:
            if region is None or self.label not in (None, region.label):
                return None
            return measured(region, self.name)
        chosen = [r for r in regions if self.label in (None, r.label)]
        if self.aggregate == "count":
            return float(len(chosen))
        values = [measured(r, self.name) for r in chosen]
        return AGGREGATES[self.aggregate](values) if values or self.aggregate == "sum" else None


@dataclass(frozen=True, slots=True)
class Comparison:
    left: Value
    sign: str
    right: Value

    def holds(self, region: Region | None, regions: Sequence[Region]) -> bool:
        left, right = self.left.of(region, regions), self.right.of(region, regions)
        return left is not None and right is not None and _COMPARE[self.sign](left, right)

    def values(self) -> list[Value]:
        return [self.left, self.right]

    def negated(self) -> "Test":
        return Comparison(self.left, _OPPOSITE[self.sign], self.right)


@dataclass(frozen=True, slots=True)
class Combination:
    word: Literal["and", "or"]
    parts: tuple["Test", ...]

    def holds(self, region: Region | None, regions: Sequence[Region]) -> bool:
        return (all if self.word == "and" else any)(part.holds(region, regions) for part in self.parts)

    def values(self) -> list[Value]:
        return [value for part in self.parts for value in part.values()]

    def negated(self) -> "Test":
        return Combination("or" if self.word == "and" else "and", tuple(part.negated() for part in self.parts))


Test = Comparison | Combination


@dataclass(frozen=True, slots=True)
class Rule:
    text: str
    action: Action
    test: Test
    zone: str | None = None

    def holds(self, regions: Sequence[Region]) -> bool:
        """Whether the rule applies, given the regions of its zone."""
        if any(value.of_one_region for value in self.test.values()):
            return any(self.test.holds(region, regions) for region in regions)
        return self.test.holds(None, regions)

    def holds_for(self, region: Region, regions: Sequence[Region]) -> bool:
        return self.test.holds(region, regions)


def measured(region: Region, name: str) -> float:
    """A measurement of a region by name; DecisionError for one in mm where the scale is not known."""
    if name == "score":
        return region.score
    value = None if region.measurements is None else getattr(region.measurements, name)
    if value is None:
        raise DecisionError(f"{name} is not known; " + ("give px_per_mm" if "mm" in name else "regions are unmeasured"))
    return float(value)


def check_rule(rule: Rule, zones: Iterable[str], classes: Iterable[str] | None = None, scaled: bool = True) -> None:
    """Raise DecisionError for a zone or class that there is not, or mm without a scale."""
    zones = list(zones)
    if rule.zone is not None and rule.zone not in zones:
        raise DecisionError(f"rule '{rule.text}': there is no zone '{rule.zone}'{near(rule.zone, zones)}")
    for value in rule.test.values():
        if classes is not None and value.label is not None and value.label not in classes:
            raise DecisionError(
                f"rule '{rule.text}': there is no class '{value.label}'{near(value.label, list(classes))}"
            )
        if not scaled and value.name.endswith(("_mm", "_mm2")):
            raise DecisionError(f"rule '{rule.text}' speaks of mm, and the scale is not known; give px_per_mm")


def near(name: str, known: list[str]) -> str:
    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=3) or known[:8]
    return f"; did you mean {', '.join(near)}?" if near else "; none is defined"
