"""The effect of other thresholds on inspected parts."""

import math
from typing import Any

from blemish.evaluation.intervals import clopper_pearson
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Inspection, Reason, ReasonKind, Verdict
from blemish.station import thresholds
from blemish.station.thresholds import ScoredPart


def case(id_: int, score: float, truth: str | None, verdict: Verdict = Verdict.PASS, **known: Any) -> ScoredPart:
    inspection = Inspection(verdict, "defect", score, known.pop("regions", []), (8, 8), **known)
    return ScoredPart(id_, None, truth, verdict, score, inspection, True)


def test_other_thresholds_are_counted_by_true_label() -> None:
    found = [case(i, i / 10, "good" if i < 6 else "scratch") for i in range(10)] + [case(10, 0.95, None)]
    outcome = thresholds.preview_decision(found, Decision(review=0.45, reject=0.75))
    assert [verdict.value for verdict in outcome.verdicts] == ["pass"] * 5 + ["review"] * 3 + ["reject"] * 3
    assert outcome.escape is not None
    assert outcome.overkill is not None
    assert (outcome.escape.value, outcome.escape.n, outcome.overkill.n) == (0.0, 4, 6)
    assert (outcome.escape.low, outcome.escape.high) == clopper_pearson(0, 4)
    assert sorted(outcome.changed) == [5, 6, 7, 8, 9, 10]
    assert outcome.proof.needed[1]["parts"] == math.ceil(math.log(0.05) / math.log(0.99))
    edges, counts = thresholds.score_histogram(found, Decision(review=0.45, reject=3.0))
    assert edges[0] < 0
    assert edges[-1] > 3.0
    assert {kind: sum(bars) for kind, bars in counts.items()} == {"good": 6, "defective": 4, "unknown": 1}


def test_rules_are_included_and_ignored_regions_stay_ignored() -> None:
    decision = Decision(review=0.5, reject=0.6, class_thresholds={"scratch": 0.2})
    scored = case(1, 0.3, None, class_scores={"good": 0.7, "scratch": 0.3})
    ignored = case(2, 0.9, None, reasons=[Reason(ReasonKind.IGNORED, Verdict.PASS, value=2.0)])
    outcome = thresholds.preview_decision([scored, ignored], decision)
    assert [verdict.value for verdict in outcome.verdicts] == ["reject", "pass"]


def test_the_worst_changes_come_first_and_known_losses_are_counted() -> None:
    truths = ["good", "scratch", None, "scratch", "good", None]
    before = [Verdict.PASS, Verdict.REJECT, Verdict.REJECT, Verdict.REVIEW, Verdict.REVIEW, Verdict.PASS]
    scores = [0.9, 0.1, 0.1, 0.1, 0.1, 0.9]
    found = [case(i, score, truths[i], before[i]) for i, score in enumerate(scores)]
    outcome = thresholds.preview_decision(found, Decision(review=0.4, reject=0.5))
    # Escapes, the newest first; overkill; a part that nobody knows and that passes now; the rest.
    assert outcome.changed == [3, 1, 0, 2, 5, 4]
    assert (outcome.escapes, outcome.overkills) == (2, 1)
    strict = thresholds.preview_decision(found, Decision(review=0.0, reject=0.5))
    assert (strict.escapes, strict.overkills) == (0, 1)
    assert outcome.is_worse_than(strict)
    assert not strict.is_worse_than(outcome)
    assert not outcome.is_worse_than(outcome)
