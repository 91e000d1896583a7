"""The effect of other thresholds on parts that were inspected already."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD
from blemish.errors import DataError
from blemish.evaluation.intervals import Proof, RateEstimate, estimate_rate, prove_escape_rate
from blemish.inspection.decide import decide_kept, drop_ignored, reduce_score
from blemish.inspection.manifest import Decision, Manifest
from blemish.inspection.result import Inspection, ReasonKind, Region, Verdict
from blemish.inspection.rule_parser import parse_rule
from blemish.station.models import InspectionRow, RecipeRow
from blemish.station.populations import each_once, recipe_parts
from blemish.station.repository import decode_mask, reviewed_label, to_inspection

BINS = 48  # of the histogram of scores
MAX_PARTS = 5000  # the newest, whose verdicts are recomputed
IgnoreRule = tuple[str, tuple[tuple[float, float], ...]]  # its text, and the points of its zone
RATES = (0.05, 0.01, 0.001)  # escape rates to prove


@dataclass(frozen=True, slots=True)
class ScoredPart:
    """A part that the same network has scored, and its true label where a review gave one."""

    id: int
    part_id: str | None
    true_label: str | None
    verdict: Verdict
    score: float
    inspection: Inspection
    image_stored: bool
    ignoring: frozenset[IgnoreRule] = frozenset()  # of the decision that it was inspected by
    is_mean: bool = False  # the score is that of the worst pixels together
    masks: tuple[bytes | None, ...] = ()  # of its regions, as PNGs, which take far less room than their pixels


@dataclass(frozen=True, slots=True)
class DecisionEffect:
    """The verdicts that a decision gives, and its error rates over the parts of which the record tells the verdict.

    What is proven holds even if all others that are known to be defective pass.
    """

    verdicts: list[Verdict | None]  # None: cannot be told from the record
    escape: RateEstimate | None  # defective parts that pass
    overkill: RateEstimate | None  # good parts that are rejected
    review: RateEstimate | None  # of all parts
    proof: Proof
    changed: list[int]  # indices of the parts whose verdict differs from the recorded one, the worst first
    escapes: int  # known defective parts that pass
    overkills: int  # known good parts that are rejected
    untold: int = 0  # parts whose verdict cannot be told
    untold_defects: int = 0  # those of them that are known to be defective

    def is_worse_than(self, other: "DecisionEffect") -> bool:
        """Whether more known defective parts pass, or may, or more known good ones are rejected."""
        passing, before = (own.escapes + own.untold_defects for own in (self, other))
        return passing > before or self.overkills > other.overkills


def load_scored_parts(session: Session, recipe: RecipeRow) -> list[ScoredPart]:
    """The newest parts of a recipe on all stations, which share its thresholds, oldest first; known parts too.

    Each part once: its newest reviewed inspection, or else its newest. None of a recipe of several views, whose parts
    have one score and one verdict of several bundles.
    """
    if recipe.views is not None:
        return []
    row = InspectionRow
    query = select(row).where(recipe_parts(session, recipe), row.score.is_not(None))
    newest = session.scalars(query.order_by(row.id.desc()).limit(MAX_PARTS)).all()
    reviewed_first = sorted(newest, key=lambda part: not part.reviews)  # and the newest first among each
    kept = {*each_once(reviewed_first)}
    used = {part.recipe_id: part.recipe for part in newest}
    ignoring = {key: _ignore_rules(Decision.model_validate(own.decision)) for key, own in used.items()}
    manifest = Manifest.model_validate(recipe.bundle.manifest)
    is_mean = manifest.score_source == "map" and manifest.worst_share > 0
    return [_scored_part(part, ignoring[part.recipe_id], is_mean) for part in reversed(newest) if part.id in kept]


def _scored_part(row: InspectionRow, ignoring: frozenset[IgnoreRule], is_mean: bool) -> ScoredPart:
    inspection, stored = to_inspection(row, masks=False), row.image_path is not None
    return ScoredPart(
        row.id,
        row.part_id,
        reviewed_label(row),
        inspection.verdict,
        inspection.score,
        inspection,
        stored,
        ignoring,
        is_mean,
        tuple(region.mask for region in row.regions),
    )


def preview_decision(parts: Sequence[ScoredPart], decision: Decision) -> DecisionEffect:
    """The effect of a decision with other image thresholds."""
    ignoring = _ignore_rules(decision)
    verdicts = [_verdict(part, decision, ignoring) for part in parts]
    told = [verdict for verdict in verdicts if verdict is not None]
    labels = [part.true_label for part in parts]
    pairs = [(label, own) for label, own in zip(labels, verdicts, strict=True) if own is not None]
    untold_defects = sum(own is None and label not in (None, GOOD) for label, own in zip(labels, verdicts, strict=True))
    defective = [verdict for label, verdict in pairs if label not in (None, GOOD)]
    good = [verdict for label, verdict in pairs if label == GOOD]
    escapes = defective.count(Verdict.PASS)
    return DecisionEffect(
        verdicts=verdicts,
        escape=estimate_rate(escapes, len(defective)) if defective else None,
        overkill=estimate_rate(good.count(Verdict.REJECT), len(good)) if good else None,
        review=estimate_rate(told.count(Verdict.REVIEW), len(told)) if told else None,
        proof=prove_escape_rate(escapes + untold_defects, len(defective) + untold_defects, RATES),
        changed=sorted((i for i, part in enumerate(parts) if verdicts[i] not in (None, part.verdict)),
                       key=lambda i: (_severity(parts[i].true_label, verdicts[i]), -i)),
        escapes=escapes,
        overkills=good.count(Verdict.REJECT),
        untold=len(verdicts) - len(told),
        untold_defects=untold_defects,
    )  # fmt: skip


def is_escape(label: str | None, verdict: str | None) -> bool:
    """Whether a part that is known to be defective passes."""
    return label not in (None, GOOD) and verdict == Verdict.PASS


def _severity(label: str | None, verdict: Verdict | None) -> int:
    """Escapes are 0, then overkill, parts that pass and nobody has reviewed, and the rest."""
    if is_escape(label, verdict):
        return 0
    if label == GOOD and verdict == Verdict.REJECT:
        return 1
    return 2 if label is None and verdict == Verdict.PASS else 3


def _ignore_rules(decision: Decision) -> frozenset[IgnoreRule]:
    rules = [rule for rule in map(parse_rule, decision.rules) if rule.action == "ignore"]
    return frozenset(
        (rule.text, () if rule.zone is None else tuple((x, y) for x, y in decision.zones.get(rule.zone, ())))
        for rule in rules
    )


def _verdict(part: ScoredPart, decision: Decision, ignoring: frozenset[IgnoreRule]) -> Verdict | None:
    """The verdict of a decision, or None where the record does not tell it.

    The record has no heat map, and no regions that were ignored. Without a region's share, the score lies between that
    of the strongest region left and the recorded one: the verdict is known where all of these give the same. Where a
    rule is gone that ignored regions, others may be there again: then only a rejection is sure.
    """
    inspection, kept_rules = part.inspection, part.ignoring <= ignoring
    if kept_rules and any(reason.kind == ReasonKind.IGNORED for reason in inspection.reasons):
        return part.verdict  # its regions were dropped, and are not in the record; no threshold brings them back
    classes = inspection.class_scores
    defects = None if classes is None else {name: value for name, value in classes.items() if name != GOOD}
    try:
        regions = _regions(part, decision)
    except DataError:
        return None  # a mask of the record is damaged
    kept, ignored = drop_ignored(regions, decision)
    bounds, labels = [(part.score, defects)], {inspection.label}
    if ignored:
        peak, rest = (max((region.score for region in own), default=0.0) for own in (regions, kept))
        bounds.append(reduce_score(part.score, peak, 0.0 if part.is_mean else rest, ignored, defects))
    if ignored or defects is None:
        labels |= decision.class_thresholds.keys()  # of masks and boxes, the record has the score of one class
    found = {
        decide_kept(score, label, kept, decision, scores, ignored=len(ignored)).verdict
        for score, scores in bounds
        for label in labels
    }
    return found.pop() if len(found) == 1 and (kept_rules or Verdict.REJECT in found) else None


def _regions(part: ScoredPart, decision: Decision) -> list[Region]:
    """The regions of a part, with their pixels where a rule in a zone asks for them, as in the inspection."""
    regions = part.inspection.regions
    if not part.masks or all(parse_rule(text).zone is None for text in decision.rules):
        return regions
    masks = [None if png is None else decode_mask(png) for png in part.masks]
    return [replace(region, mask=mask) for region, mask in zip(regions, masks, strict=True)]


def score_histogram(
    parts: Sequence[ScoredPart], decision: Decision
) -> tuple[NDArray[np.float64], dict[str, list[int]]]:
    """Edges (BINS + 1,), and the counts in each bin by true label: "good", "defective", "unknown".

    The axis includes both thresholds; the 0.5 % most extreme scores at either end count in the outer bins.
    """
    scores = np.array([part.score for part in parts], np.float64)
    marks = [value for value in (decision.review, decision.reject) if value is not None]
    low, high = np.quantile(scores, [0.005, 0.995]) if len(scores) else (0.0, 1.0)
    low, high = min([low, *marks]), max([high, *marks])
    margin = 0.08 * (high - low) or 0.5
    edges = np.linspace(low - margin, high + margin, BINS + 1)
    kinds = np.array([_kind(part.true_label) for part in parts], object)
    inside = scores.clip(edges[0], edges[-1])
    return edges, {k: np.histogram(inside[kinds == k], edges)[0].tolist() for k in ("good", "defective", "unknown")}


def _kind(label: str | None) -> str:
    return "unknown" if label is None else "good" if label == GOOD else "defective"
