"""The effect of other thresholds on inspected parts."""

import math
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import grey_anomaly, make_bundle, two_masks
from station_helpers import BAD_GREY, store

from blemish.evaluation.intervals import clopper_pearson
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Inspection, Reason, ReasonKind, Region, Verdict
from blemish.station import thresholds
from blemish.station.database import Database
from blemish.station.models import RecipeRow
from blemish.station.thresholds import IgnoreRule, ScoredPart


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


IGNORE = "ignore if area_px > 60"


@pytest.mark.parametrize("kind", ["score", "mean", "masks"])
@pytest.mark.parametrize(
    ("old_rules", "new_rules"),
    [((), (IGNORE,)), ((IGNORE,), ()), ((IGNORE,), (IGNORE, "ignore if area_px > 20")), ((), ("reject if count > 2",))],
)
def test_a_preview_is_what_another_inspection_gives_or_says_that_it_cannot_tell(
    kind: str, old_rules: tuple[str, ...], new_rules: tuple[str, ...], tmp_path: Path
) -> None:
    """Pictures with up to three blobs of different sizes, of which some are too faint to be regions."""
    masks = kind == "masks"
    fields: dict[str, Any] = {"channels": 2, "classes": ["good", "crack", "stain"]} if masks else {}
    fields |= {"score_source": "map", "worst_share": 0.01} if kind == "mean" else {}
    outputs = ["mask_scores"] if masks else ["anomaly_score", "anomaly_map"]
    own = {"crack": 0.3} if masks else {}
    old = Decision(review=0.3, reject=0.6, map_low=0.4, map_high=0.5, class_thresholds=own, rules=list(old_rules))
    new = old.model_copy(update={"rules": list(new_rules), "review": 0.35})
    graph = two_masks() if masks else grey_anomaly()
    before, after = (
        Inspector.open(make_bundle(tmp_path / f"{name}.blemish", graph, outputs, decision, **fields))
        for name, decision in (("old", old), ("new", new))
    )
    ignoring: frozenset[IgnoreRule] = frozenset((rule, ()) for rule in old_rules)
    rng, parts, truths = np.random.default_rng(0), [], []
    for i in range(60):
        picture = np.zeros((64, 64, fields.get("channels", 1)), np.float32)
        for column, side in rng.permutation([(2, 4), (20, 7), (40, 10)])[: rng.integers(0, 4)]:
            picture[8 : 8 + side, column : column + side, rng.integers(picture.shape[2])] = rng.uniform(0.2, 1)
        found = before.inspect(picture)
        part = ScoredPart(i, None, None, found.verdict, found.score, found, True, ignoring, kind == "mean")
        parts.append(part)
        truths.append(after.inspect(picture).verdict)
    outcome = thresholds.preview_decision(parts, new)
    told = [(verdict, truth) for verdict, truth in zip(outcome.verdicts, truths, strict=True) if verdict is not None]
    wrong = [(parts[i], v, truths[i]) for i, v in enumerate(outcome.verdicts) if v not in (None, truths[i])]
    assert wrong == []
    assert outcome.untold == 60 - len(told)
    assert len(told) > 10
    if old_rules != new_rules and IGNORE in (*old_rules, *new_rules) and not set(old_rules) <= set(new_rules):
        assert outcome.untold
    assert all(outcome.verdicts[i] is not None for i in outcome.changed)


def test_defective_parts_that_cannot_be_told_prove_nothing() -> None:
    region = Region("defect", 0.9, (0, 0, 8, 8), measurements=None)
    found = [case(i, 0.9, "scratch", Verdict.REJECT, regions=[region]) for i in range(100)]
    decision = Decision(review=0.3, reject=0.6, rules=["ignore if score > 0.5"])
    outcome = thresholds.preview_decision(found, decision)
    assert Counter(outcome.verdicts) == {None: 100}
    assert (outcome.untold, outcome.untold_defects, outcome.escape, outcome.changed) == (100, 100, None, [])
    assert outcome.proof.proven == 1
    assert outcome.is_worse_than(thresholds.preview_decision(found, Decision(review=0.3, reject=0.6)))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_rule_in_a_zone_is_previewed_by_the_recorded_pixels_of_regions(
    database: Database, recipe_id: int, bundle_file: Path
) -> None:
    """The defect is an angle; a zone in the free corner of its box touches no pixel of it."""
    angle = np.zeros((64, 80), bool)
    angle[10:40, 20:26] = angle[34:40, 20:60] = True
    found = Inspector.open(bundle_file).inspect(np.where(angle, BAD_GREY, 50).astype(np.uint8))
    store(database, recipe_id, found)
    with database.reading() as session:
        parts = thresholds.load_scored_parts(session, session.get_one(RecipeRow, recipe_id))
    (region,) = found.regions
    x0, y0, x1, y1 = region.box
    for x, y in product(range(x0, x1 - 5, 4), range(y0, y1 - 5, 4)):
        zone = [(float(a), float(b)) for a, b in ((x, y), (x + 5, y), (x + 5, y + 5), (x, y + 5))]
        decision = Decision(reject=1e6, rules=["reject if count > 0 in zone here"], zones={"here": zone})
        (verdict,) = thresholds.preview_decision(parts, decision).verdicts
        assert verdict == (Verdict.REJECT if angle[y : y + 5, x : x + 5].any() else Verdict.PASS), (x, y)
    damaged = [replace(parts[0], masks=(b"no picture",))]
    assert thresholds.preview_decision(damaged, decision).verdicts == [None]
