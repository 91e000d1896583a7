"""Until when recipes are qualified, and reminders of it."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from station_helpers import inspected, store

from blemish.errors import DataError
from blemish.station import qualifications, recipes
from blemish.station.alarms import SENTENCES, AlarmCondition
from blemish.station.models import RecipeRow, now
from blemish.station.populations import used_recipes
from blemish.station.qualifications import qualification_conditions, qualify_recipe


def test_reminders_come_before_and_after_the_day(database, recipe_id, monkeypatch):
    start = now()
    with database.writing() as session:
        assert qualification_conditions(session, used_recipes(session, "s")) == []
        recipe = session.get_one(RecipeRow, recipe_id)
        qualify_recipe(session, recipe, start + timedelta(days=100), "dossier 7", "anna")
    expected = {50: [], 87: [("qualification_ends", 13)], 101: [("qualification_ended", None)]}
    for days, found in expected.items():
        monkeypatch.setattr(qualifications, "now", lambda days=days: start + timedelta(days=days))
        with database.reading() as session:
            conditions = qualification_conditions(session, used_recipes(session, "s"))
        assert [(c.kind, c.value and round(c.value)) for c in conditions] == found
        assert all(c.subject == "plates v1" and c.kind in SENTENCES for c in conditions)
    with database.writing() as session:  # qualified again
        qualify_recipe(session, session.get_one(RecipeRow, recipe_id), start + timedelta(days=400), "", "ben")
        assert qualification_conditions(session, used_recipes(session, "s")) == []
    assert AlarmCondition("x").subject == ""


def test_a_recipe_that_decides_parts_without_being_active_is_reminded_of(database, recipe_id, bundle_file, monkeypatch):
    start = now()
    with database.writing() as session:
        qualify_recipe(session, session.get_one(RecipeRow, recipe_id), start + timedelta(days=5), "", "anna")
        other = recipes.make_recipe(session, "other", session.get_one(RecipeRow, recipe_id).bundle, "anna")
        recipes.activate(session, other, "anna")
        assert qualification_conditions(session, used_recipes(session, "s")) == []
    store(database, recipe_id, inspected(bundle_file, 50))
    with database.reading() as session:
        assert [c.subject for c in qualification_conditions(session, used_recipes(session, "s"))] == ["plates v1"]


def test_a_day_that_is_past_or_far_away_is_refused(database, recipe_id):
    for days in (-1, 5000):
        with database.writing() as session, pytest.raises(DataError, match="a day to come"):
            qualify_recipe(session, session.get_one(RecipeRow, recipe_id), now() + timedelta(days=days), "", "anna")


def test_by_the_api(client: TestClient):
    assert client.get("/v1/recipes/1/qualification").status_code == 404
    until = (now() + timedelta(days=30)).isoformat()
    made = client.post("/v1/recipes/1/qualification", json={"until": until, "note": "dossier 7"})
    assert made.status_code == 201
    assert client.get("/v1/recipes/1/qualification").json() == made.json()
    assert client.post("/v1/recipes/9/qualification", json={"until": until}).status_code == 404
    assert client.post("/v1/recipes/1/qualification", json={"until": "2001-01-01T00:00:00Z"}).status_code == 422
    assert client.get("/v1/audit").json()[0]["action"] == "qualification"
