"""Parts in groups for control charts, on both databases."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from station_helpers import inspected, store

from blemish.inspection.manifest import Decision
from blemish.station import recipes, subgroups
from blemish.station.database import Database
from blemish.station.models import InspectionRow, RecipeRow


@pytest.mark.parametrize("by", subgroups.GROUPED_BY)
def test_parts_are_grouped_as_they_came(database: Database, recipe_id: int, bundle_file: Path, by: str) -> None:
    good, bad = inspected(bundle_file, 50), inspected(bundle_file, 220)
    start = datetime.now(UTC).replace(minute=5) - timedelta(days=3)
    kinds = [bad, good, bad, good, good, bad]
    hours, lots = [0, 0, 9, 9, 20, 20], ["a", "a", "b", None, "b", "a"]
    keys = [store(database, recipe_id, kind, lot=lot) for kind, lot in zip(kinds, lots, strict=True)]
    keys.append(store(database, recipe_id, bad, lot="known"))
    with database.writing() as session:
        for key, hour in zip(keys, hours, strict=False):
            session.get_one(InspectionRow, key).created_at = start + timedelta(hours=hour)
        session.get_one(InspectionRow, keys[-1]).origin = "dataset"
    with database.reading() as session:
        recipe = session.get_one(RecipeRow, recipe_id)
        found = subgroups.load_groups(session, "s", recipe, by, ["06:00", "14:00", "22:00"])
        other = subgroups.load_groups(session, "another", recipe, by, [])
        names = subgroups.local_names(session, keys[:-1])
    counts = [(group.parts, group.rejects, group.defects) for group in found.groups]
    length = bad.regions[0].measurements.length_px  # type: ignore[union-attr]
    assert counts == ([(3, 2, 2), (2, 1, 1)] if by == "lot" else [(2, 1, 1)] * 3)
    assert [value for group in found.groups for value in group.lengths] == pytest.approx([length] * 3)
    assert [one.value for one in found.lengths] == pytest.approx([length] * 3)
    assert [one.time for one in found.lengths] == [start + timedelta(hours=hours[k]) for k in (0, 2, 5)]
    assert found.unit == "px"
    local = [(start + timedelta(hours=hour)).astimezone() for hour in hours]
    assert names == [f"{time:%m-%d %H:%M:%S}" for time in local]
    if by == "hour":
        assert [group.name for group in found.groups] == [f"{time:%Y-%m-%d %H:00}" for time in local[::2]]
    if by == "shift":
        for time, group in zip(local[::2], found.groups, strict=True):
            assert group.name.split()[1] in ("06:00", "14:00", "22:00")
            assert timedelta(0) <= time.replace(tzinfo=None) - datetime.fromisoformat(group.name) < timedelta(hours=8)
    assert other.groups == []


def test_the_parts_of_another_recipe_are_in_charts_of_their_own(
    database: Database, recipe_id: int, bundle_file: Path
) -> None:
    """Castings, of which each is rejected, between plates, of which none is; and a later version of the plates."""
    good, bad = inspected(bundle_file, 50), inspected(bundle_file, 220)
    with database.writing() as session:
        plates = session.get_one(RecipeRow, recipe_id)
        castings = recipes.make_recipe(session, "castings", plates.bundle, "anna").id
        second = recipes.revise_decision(session, plates, Decision(reject=0.9), "anna", "").id
    for number in range(12):
        store(
            database, (recipe_id, castings, second)[number % 3], bad if number % 3 == 1 else good, lot=f"{number // 6}"
        )
    with database.reading() as session:
        counts = {}
        for key in (recipe_id, castings, second):
            found = subgroups.load_groups(session, "s", session.get_one(RecipeRow, key), "lot", [])
            counts[key] = [(group.parts, group.rejects, group.defects) for group in found.groups]
            assert len(found.lengths) == (4 if key == castings else 0)
    assert counts == {recipe_id: [(4, 0, 0)] * 2, castings: [(2, 2, 2)] * 2, second: [(4, 0, 0)] * 2}


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_the_hour_that_comes_twice_is_two_groups(database: Database, recipe_id: int, bundle_file: Path) -> None:
    good, bad = inspected(bundle_file, 50), inspected(bundle_file, 220)
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 2:30 in summer time, and an hour later 2:30 again
    for hour, kind in ((0, good), (0, good), (1, bad), (2, good)):
        key = store(database, recipe_id, kind)
        with database.writing() as session:
            session.get_one(InspectionRow, key).created_at = first + timedelta(hours=hour)
    with database.reading() as session:
        found = subgroups.load_groups(session, "s", session.get_one(RecipeRow, recipe_id), "hour", ["06:00"]).groups
    assert [(group.name, group.parts, group.rejects) for group in found] == [
        ("2026-10-25 02:00 +0200", 2, 0), ("2026-10-25 02:00 +0100", 1, 1), ("2026-10-25 03:00", 1, 0),
    ]  # fmt: skip


def test_a_group_that_is_cut_is_left_out_and_counted(
    database: Database, recipe_id: int, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = inspected(bundle_file, 50)
    start = datetime.now(UTC).replace(minute=5) - timedelta(days=3)
    for number, lot in enumerate("aabbbcca"):
        key = store(database, recipe_id, good, lot=lot)
        with database.writing() as session:
            session.get_one(InspectionRow, key).created_at = start + timedelta(hours=number // 2)

    def load(by: str, newest: int) -> tuple[list[tuple[str, int]], int]:
        monkeypatch.setattr(subgroups, "MAX_PARTS", newest)
        with database.reading() as session:
            found = subgroups.load_groups(session, "s", session.get_one(RecipeRow, recipe_id), by, ["06:00"])
        return [(group.name if by == "lot" else "", group.parts) for group in found.groups], found.cut

    assert load("lot", 8) == ([("a", 3), ("b", 3), ("c", 2)], 0)
    assert load("lot", 6) == ([("b", 3), ("c", 2)], 1)  # two of lot a came before
    assert load("lot", 5) == ([("c", 2)], 2)
    assert load("hour", 8) == ([("", 2)] * 4, 0)
    assert load("hour", 6) == ([("", 2)] * 3, 0)  # cut between two hours
    assert load("hour", 5) == ([("", 2)] * 2, 1)
