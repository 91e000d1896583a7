"""What other thresholds would have made of parts that were inspected already."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD
from blemish.evaluation.intervals import Estimate, Proof, prove, share
from blemish.inspection.decide import judge
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Inspection, Verdict
from blemish.station.models import InspectionRow, RecipeRow
from blemish.station.repository import as_inspection, truth

NEWEST = 5000  # parts that are judged anew
RATES = (0.05, 0.01, 0.001)  # escape rates that one may want to prove


@dataclass(frozen=True, slots=True)
class Case:
    """A part that the same network has scored, and what is known of it."""

    id: int
    part_id: str | None
    truth: str | None
    verdict: Verdict
    score: float
    inspection: Inspection
    image_kept: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision makes of the cases."""

    verdicts: list[Verdict]
    escape: Estimate | None  # defective parts that pass
    overkill: Estimate | None  # good parts that are rejected
    review: Estimate | None  # of all parts
    proof: Proof
    changed: list[int]  # indices of the cases whose verdict is another than was given


def cases(session: Session, recipe: RecipeRow, limit: int = NEWEST) -> list[Case]:
    """The newest parts that any version of recipes with the same bundle has scored, oldest first."""
    row = InspectionRow
    same_bundle = row.recipe.has(RecipeRow.bundle_id == recipe.bundle_id)
    query = select(row).where(same_bundle, row.score.is_not(None)).order_by(row.id.desc()).limit(limit)
    return [_case(found) for found in reversed(session.scalars(query).all())]


def _case(row: InspectionRow) -> Case:
    inspection = as_inspection(row)
    for region in inspection.regions:
        region.mask = None  # not needed, and large
    kept = row.image_path is not None
    return Case(row.id, row.part_id, truth(row), inspection.verdict, inspection.score, inspection, kept)


def judge_anew(found: Sequence[Case], decision: Decision) -> Outcome:
    """The verdicts of a decision with other image thresholds, and what they amount to."""
    verdicts = [_verdict(case, decision) for case in found]
    defective = [v for case, v in zip(found, verdicts, strict=True) if case.truth not in (None, GOOD)]
    good = [v for case, v in zip(found, verdicts, strict=True) if case.truth == GOOD]
    escapes = defective.count(Verdict.PASS)
    return Outcome(
        verdicts=verdicts,
        escape=share(escapes, len(defective)) if defective else None,
        overkill=share(good.count(Verdict.REJECT), len(good)) if good else None,
        review=share(verdicts.count(Verdict.REVIEW), len(verdicts)) if verdicts else None,
        proof=prove(escapes, len(defective), RATES),
        changed=[i for i, case in enumerate(found) if case.verdict != verdicts[i]],
    )


def _verdict(case: Case, decision: Decision) -> Verdict:
    known = case.inspection
    if any(reason.endswith("ignored by a rule") for reason in known.reasons):
        return case.verdict  # its regions were dropped, and are not in the record; no threshold brings them back
    classes = known.class_scores
    defects = None if classes is None else {name: value for name, value in classes.items() if name != GOOD}
    return judge(case.score, known.label, known.regions, decision, defects).verdict


def histogram(
    found: Sequence[Case], decision: Decision, bins: int = 48
) -> tuple[NDArray[np.float64], dict[str, list[int]]]:
    """Edges of the bins (bins + 1), and the numbers in each by truth: "good", "defective", "unknown".

    The axis holds both thresholds; of the scores, the 0.5 % that lie farthest out are counted in the last bins.
    """
    scores = np.array([case.score for case in found], np.float64)
    marks = [value for value in (decision.review, decision.reject) if value is not None]
    low, high = np.quantile(scores, [0.005, 0.995]) if len(scores) else (0.0, 1.0)
    low, high = min([low, *marks]), max([high, *marks])
    margin = 0.08 * (high - low) or 0.5
    edges = np.linspace(low - margin, high + margin, bins + 1)
    kinds = np.array([_kind(case.truth) for case in found], object)
    inside = scores.clip(edges[0], edges[-1])
    return edges, {k: np.histogram(inside[kinds == k], edges)[0].tolist() for k in ("good", "defective", "unknown")}


def _kind(label: str | None) -> str:
    return "unknown" if label is None else "good" if label == GOOD else "defective"
