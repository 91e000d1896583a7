"""The moving average of scores, and the density of defects."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from station_helpers import inspected

from blemish.inspection.manifest import Decision
from blemish.qualify.control_charts import compute_ewma
from blemish.station import drift, recipes, thresholds
from blemish.station.database import Database
from blemish.station.models import InspectionRow, RecipeRow
from blemish.station.repository import IncomingPart, NewInspection, add_review, store_inspections


def test_the_moving_average_follows_its_definition() -> None:
    rng = np.random.default_rng(0)
    scores = [*rng.normal(5, 1, 200), *rng.normal(7, 1, 50)]
    found = compute_ewma(scores, baseline=100, weight=0.2)
    mean, deviation = np.mean(scores[:100]), np.std(scores[:100], ddof=1)
    weights = 0.2 * 0.8 ** np.arange(150)[::-1]
    assert found.values[149] == pytest.approx(weights @ scores[:150] + 0.8**150 * mean)
    assert found.high[-1] - found.mean == pytest.approx(3 * deviation * math.sqrt(0.2 / 1.8))
    assert found.drifted
    assert not compute_ewma(scores[:200], baseline=100).drifted


def test_a_defect_is_spread_evenly_over_its_box() -> None:
    cells = drift.spread_box((0.25, 0.5, 0.75, 1.0), side=4)
    assert cells.sum() == pytest.approx(1)
    assert (np.argwhere(cells > 0) == [[2, 1], [2, 2], [3, 1], [3, 2]]).all()
    assert drift.spread_box((0.5, 0.5, 0.5, 0.5), side=4).sum() == pytest.approx(1, abs=1e-3)


def test_scores_are_those_of_one_station_and_recipe_and_of_each_part_once(
    database: Database, recipe_id: int, bundle_file: Path
) -> None:
    """Of two stations, two products of one bundle, two versions, parts that came again, and pictures alone."""
    found = inspected(bundle_file, 50)
    with database.writing() as session:
        plates = session.get_one(RecipeRow, recipe_id)
        second = recipes.revise_decision(session, plates, Decision(review=0.5, reject=0.6), "anna", "x").id
        castings = recipes.make_recipe(session, "castings", plates.bundle, "anna").id
    random, expected, ids = np.random.default_rng(0), [], []
    for number in range(300):
        station, recipe = random.choice(["A", "B"]), int(random.choice([recipe_id, second, castings]))
        part_id = random.choice([None, f"p{random.integers(20)}"])
        sha256 = f"{random.integers(20):064d}"
        part = IncomingPart(recipe, sha256, 10, "api", part_id=part_id, lot=random.choice(["x", "y"]))
        own = NewInspection(part, replace(found, score=number / 1000))
        with database.writing() as session:
            stored = store_inspections(session, [own], record="r", station=str(station))
        ids.append(stored[0].columns["id"])
        expected.append((str(station), "castings" if recipe == castings else "plates", part_id, part.lot, sha256))

    def once(station: str | None, name: str, newest: bool = False) -> list[float]:
        seen: dict[object, float] = {}
        for number, (where, recipe, part_id, lot, sha256) in enumerate(expected):
            if where in (station or where,) and recipe == name:
                key = (part_id, lot) if part_id else sha256
                if newest or key not in seen:
                    seen[key] = number / 1000
        return sorted(seen.values())

    with database.reading() as session:
        for recipe in (session.get_one(RecipeRow, key) for key in (recipe_id, second, castings)):
            for station in ("A", "B"):
                keys, scores = drift.good_scores(session, recipe, station)
                assert scores == pytest.approx(once(station, recipe.name))
                assert keys == [ids[round(1000 * score)] for score in scores]
            parts = thresholds.load_scored_parts(session, recipe)
            assert [part.score for part in parts] == pytest.approx(once(None, recipe.name, newest=True))
        assert drift.good_scores(session, recipe, "C") == ([], [])


def test_one_part_that_is_sent_again_and_again_proves_nothing(
    database: Database, recipe_id: int, bundle_file: Path
) -> None:
    found = inspected(bundle_file, 220)
    with database.writing() as session:
        plates = session.get_one(RecipeRow, recipe_id)
        empty = recipes.make_recipe(session, "empty", plates.bundle, "anna")
        part = IncomingPart(recipe_id, "0" * 64, 10, "api", part_id="PLATE-1")
        stored = store_inspections(session, [NewInspection(part, found)] * 60, record="r", station="s")
        add_review(session, session.get_one(InspectionRow, stored[10].columns["id"]), "anna", "defect")
        session.flush()
        parts = thresholds.load_scored_parts(session, plates)
        assert [(one.id, one.true_label) for one in parts] == [(stored[10].columns["id"], "defect")]
        effect = thresholds.preview_decision(parts, Decision.model_validate(plates.decision))
        assert effect.proof.defective == 1
        assert thresholds.load_scored_parts(session, empty) == []
