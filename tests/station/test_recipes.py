"""Versions and activation of recipes, in the record."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from station_helpers import inspected, store

from blemish.errors import DataError
from blemish.inspection.manifest import Decision
from blemish.station import recipes
from blemish.station.alarms import SENTENCES
from blemish.station.database import Database
from blemish.station.models import AuditRow, RecipeRow
from blemish.station.pages import camera_settings, decision_change
from blemish.station.populations import used_recipes
from blemish.station.recipe_changes import StaleRecipeError
from blemish.station.recipe_faults import RecipeFaults, warn_of_faults
from blemish.station.repository import InspectionFilter, find_inspections


def test_recipes_are_versioned_and_every_change_is_logged(database: Database, recipe_id: int) -> None:
    with database.writing() as session:
        first = session.get_one(RecipeRow, recipes.resolve_recipe(session, None))
        second = recipes.revise_decision(session, first, Decision(review=0.1, reject=0.2), "anna", "too many escapes")
        assert (second.version, second.activation) == (2, None)
        with pytest.raises(DataError, match="activated"):
            recipes.resolve_recipe(session, str(second.id))
        assert recipes.resolve_recipe(session, "plates") == first.id
        recipes.activate(session, second, "anna")
        assert recipes.resolve_recipe(session, None) == recipes.resolve_recipe(session, "plates") == second.id
        assert recipes.resolve_recipe(session, str(first.id)) == first.id
        recipes.activate(session, first, "otto", "back")
        assert recipes.resolve_recipe(session, None) == first.id
        assert first.decision != second.decision
    with database.reading() as session:
        log = list(session.scalars(select(AuditRow).order_by(AuditRow.id)))
    assert [(row.created_by, row.action) for row in log] == [
        ("anna", "bundle"), ("anna", "recipe"), ("anna", "activate"), ("anna", "recipe"), ("anna", "decision"),
        ("anna", "activate"), ("otto", "activate"),
    ]  # fmt: skip
    assert log[4].before["reject"] == 0.6  # type: ignore[index]
    assert log[4].after["reject"] == 0.2  # type: ignore[index]
    assert log[4].comment == "too many escapes"


def test_pages_change_only_the_version_that_they_show(database: Database, recipe_id: int) -> None:
    with database.writing() as session:
        first, decision = session.get_one(RecipeRow, recipe_id), Decision(review=0.1, reject=0.2)
        second = decision_change._revise(session, "plates v1", decision, None, "anna", "x")
        recipes.activate(session, second, "anna")
        with pytest.raises(StaleRecipeError, match="made for plates v1, but plates v2 is active"):
            decision_change._revise(session, "plates v1", decision, None, "otto", "y")
        other = recipes.make_recipe(session, "castings", first.bundle, "anna")
        recipes.activate(session, other, "anna")
        with pytest.raises(StaleRecipeError, match="castings v1 is active"):
            decision_change._revise(session, "plates v2", decision, None, "otto", "y")
        kept = camera_settings._revise(session, second.id, {}, "otto", "the newest of its name, not active")
        assert (kept.name, kept.version) == ("plates", 3)
        with pytest.raises(StaleRecipeError, match="plates v2"):
            camera_settings._revise(session, second.id, {}, "otto", "z")
        assert len(session.scalars(select(RecipeRow)).all()) == 4


def test_the_active_recipe_is_known_without_a_query(
    database: Database, recipe_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = recipes.KnownRecipes(database)
    assert known.resolve(None) == known.resolve("plates") == recipe_id
    assert (known.ref(recipe_id).name, known.ref(recipe_id).version) == ("plates", 1)
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "resolve_recipe", None)
        assert known.resolve(None) == recipe_id
    with database.writing() as session:
        second = recipes.make_recipe(session, "plates", session.get_one(RecipeRow, recipe_id).bundle, "anna")
    with pytest.raises(DataError):
        known.resolve("no such recipe")
    with database.writing() as session:
        recipes.activate(session, session.get_one(RecipeRow, second.id), "anna")
    assert known.resolve(None) == known.resolve("plates") == second.id  # at once, in this process
    monkeypatch.setattr(recipes, "REFRESH_S", -1.0)
    with database.writing() as session:
        recipes.activate(session, session.get_one(RecipeRow, recipe_id), "anna")
        session.info.clear()  # as another station would
    assert known.resolve(None) == recipe_id


def test_a_number_is_no_name_of_a_recipe(
    database: Database, recipe_id: int, bundle_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with database.writing() as session:
        first = session.get_one(RecipeRow, recipe_id)
        for name in ("1", "007", "12345678901", "\u0663"):
            with pytest.raises(DataError, match="not a number alone"):
                recipes.make_recipe(session, name, first.bundle, "anna")
        old = recipes.make_recipe(session, "old", first.bundle, "anna")
        old.name = str(recipe_id)  # as an earlier version allowed
        recipes.activate(session, old, "anna")
        new = recipes.revise_decision(session, old, Decision(review=0.1, reject=0.2), "anna", "x")
        assert (new.name, new.version) == (str(recipe_id), 2)
        assert recipes.resolve_recipe(session, str(old.id)) == old.id
        assert recipes.resolve_recipe(session, str(recipe_id)) == recipe_id
        recipes.warn_of_numbers(session)
        assert f"by its id, {old.id}" in caplog.text
        assert "plates" not in caplog.text
        keys = old.id
    ids = {store(database, recipe, inspected(bundle_file, 50)) for recipe in (recipe_id, keys)}
    with database.reading() as session:
        found = find_inspections(session, InspectionFilter(recipe=str(recipe_id)))  # either may be meant
        assert {row.id for row in found} == ids
        assert [row.recipe_id for row in find_inspections(session, InspectionFilter(recipe=str(keys)))] == [keys]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rules": ["reject if hole.count > 0"]}, "unknown class 'hole'"),
        ({"rules": ["reject if count > 0 in zone rim"]}, "unknown zone 'rim'"),
        ({"rules": ["reject if score > 0.5 and circularity > 4"]}, "can never be"),
        ({"rules": ["reject if length_mm > 3"]}, "is in mm"),
        ({"class_thresholds": {"hole": 0.5}}, "unknown class 'hole'"),
        ({"rules": ["reject if count > 2"]}, None),
    ],
)
def test_rules_of_earlier_versions_that_cannot_occur_are_said(
    changes: dict[str, Any],
    fault: str | None,
    database: Database,
    recipe_id: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with database.writing() as session, monkeypatch.context() as earlier:
        earlier.setattr(recipes, "check_bundle_decision", lambda *_: None)
        first = session.get_one(RecipeRow, recipe_id)
        decision = Decision.model_validate({**first.decision, **changes})
        recipes.activate(session, recipes.revise_decision(session, first, decision, "anna", ""), "anna")
    with database.reading() as session:
        warn_of_faults(session)
        found = RecipeFaults().conditions(session, used_recipes(session, "s"))
    said = [record.getMessage() for record in caplog.records]
    if fault is None:
        assert (said, found) == ([], [])
        return
    (condition,), (line,) = found, said
    assert line.startswith("recipe plates v2 has a fault")
    assert fault in line
    assert (condition.kind, condition.subject.startswith("plates v2: ")) == ("recipe_fault", True)
    assert fault in condition.subject
    assert condition.kind in SENTENCES
    with database.writing() as session:  # and edited
        first = session.get_one(RecipeRow, recipe_id)
        recipes.activate(session, first, "anna")
        assert RecipeFaults().conditions(session, used_recipes(session, "s")) == []
