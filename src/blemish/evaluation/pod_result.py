"""The result of a sweep of synthetic defects: trials, curves, and what a reader of them must know."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from blemish.evaluation.intervals import RateEstimate
from blemish.evaluation.pod import PodFit, PodProblem
from blemish.translation import Message

ASSUMPTIONS = (
    "The defects are synthetic: drawn on the good images by rule. The curve holds for real defects as far as they look "
    "like these; compare the examples with your own.",
    "Each curve holds for the contrast stated: the strength of the drawing, a share of the surface's brightness.",
    "The logit of the probability of detection rises linearly with the logarithm of the size, to 1 for large defects.",
    "Trials are independent. Several of them share a good image, so the intervals are too narrow where images differ "
    "much from one another.",
    "Found means: an image that passes as it is does not pass with the defect on it. Good images that do not pass as "
    "they are count as false alarms and carry no defect.",
)  # fmt: skip
PROBLEM_TEXTS = {
    PodProblem.TOO_FEW: "no curve: {trials} trials are too few",
    PodProblem.ALL_FOUND: "no curve: all {trials} are found, the smallest at {smallest:.3g} px; try smaller ones",
    PodProblem.NONE_FOUND: "no curve: none of {trials} is found, up to {largest:.3g} px",
    PodProblem.SEPARATED: "no curve: all are missed up to {largest_miss:.3g} px and all found from "
    "{smallest_hit:.3g} px; more trials are needed in between",
    PodProblem.NOT_RISING: "no curve: larger defects are not found more often",
    PodProblem.FEW: "{trials} trials; 60 are advised",
    PodProblem.A50_OUTSIDE: "a50 lies beyond the sizes tried, {smallest:.3g} to {largest:.3g} px",
    PodProblem.A90_OUTSIDE: "a90 lies beyond the sizes tried, {smallest:.3g} to {largest:.3g} px",
    PodProblem.A90_95_OUTSIDE: "a90/95 lies beyond the sizes tried, {smallest:.3g} to {largest:.3g} px",
    PodProblem.POOR_FIT: "the observed rates contradict the curve; do not rely on it",
}


@dataclass(frozen=True)
class PodTrial:
    """One synthetic defect and what the bundle made of it; `located`: a region touches it, None without regions."""

    kind: str
    strength: float
    size_px: float  # length: the longest way through the defect
    width_px: float
    contrast: float  # measured: mean absolute change inside the defect, share of full scale
    image: str
    seed: tuple[int, ...]
    box: tuple[int, int, int, int]
    hit: bool
    located: bool | None
    score: float


@dataclass(frozen=True)
class PodCurve:
    """All trials of one kind of defect at one contrast."""

    kind: str
    strength: float
    contrast: float | None  # median of the measured ones
    fit: PodFit
    located: RateEstimate | None  # share of those found that a region touches
    not_drawn: int  # defects that fitted on no image

    def notes(self) -> list[Message]:
        """Problems of the curve, or the reason why there is none."""
        values = {
            name: 0.0 if value is None else value
            for name, value in asdict(replace(self.fit, curve=(), groups=())).items()
        }
        return [Message(PROBLEM_TEXTS[problem], values) for problem in self.fit.problems]


@dataclass(frozen=True)
class PodResult:
    """The result of `pod`."""

    curves: list[PodCurve]
    false_alarms: RateEstimate  # share of the untouched good images that do not pass
    surfaces: int  # good images that pass and carry defects
    trials: list[PodTrial]
    warnings: list[Message]
    px_per_mm: tuple[float, float] | None  # along x and y
    bundle: dict[str, Any]
    data: dict[str, Any]
    seed: int
    complete: bool = True  # False where it was interrupted

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; sizes in px, and in mm where the bundle has a scale.

        Where that differs in x and y, mm are those of a defect along the axis of fewer pixels per mm, the longest that
        it may be, and `_mm_low` those along the other.
        """
        curves = []
        for curve in self.curves:
            fit = asdict(curve.fit) | {"problems": [str(problem) for problem in curve.fit.problems]}
            if self.px_per_mm is not None:
                ends = {"_mm": min(self.px_per_mm)}
                ends |= {"_mm_low": max(self.px_per_mm)} if self.px_per_mm[0] != self.px_per_mm[1] else {}
                fit |= {
                    name + end: None if fit[name] is None else fit[name] / own
                    for name in ("a50", "a90", "a90_95")
                    for end, own in ends.items()
                }
            own = {"kind": curve.kind, "strength": curve.strength, "contrast": curve.contrast, **fit}
            located = None if curve.located is None else asdict(curve.located)
            own |= {"located": located, "not_drawn": curve.not_drawn, "notes": [str(note) for note in curve.notes()]}
            curves.append(own)
        return {
            "bundle": self.bundle,
            "data": self.data,
            "false_alarms": asdict(self.false_alarms),
            "surfaces": self.surfaces,
            "px_per_mm": None if self.px_per_mm is None else min(self.px_per_mm),
            "seed": self.seed,
            "complete": self.complete,
            "assumptions": list(ASSUMPTIONS),
            "warnings": [str(warning) for warning in self.warnings],
            "curves": curves,
            "trials": [
                asdict(trial) | {"score": None if np.isnan(trial.score) else trial.score} for trial in self.trials
            ],
        }
