"""Alarms and counts of the line, without known parts."""

import time
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy.orm import Session
from station_helpers import inspected, make_client, picture, run_station, send, wait_until

from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Inspection
from blemish.station import (
    alarms,
    drift,
    image_quality,
    populations,
    production_counts,
    recipes,
    repository,
    status,
)
from blemish.station.alarms import AlarmCondition
from blemish.station.database import Database
from blemish.station.models import RecipeRow, now
from blemish.station.repository import IncomingPart, NewInspection, store_inspections
from blemish.station.settings import Settings
from blemish.station.station import Station
from blemish.station.station_lease import StationLease
from blemish.station.status import StationStatus
from blemish.translation import translator


def test_an_alarm_is_raised_ends_and_returns_as_one_until_it_is_acknowledged(database: Database) -> None:
    def update(*conditions: AlarmCondition) -> list[tuple[str, bool, str | None]]:
        with database.writing() as session:
            changed = alarms.find_changes(session, "s", conditions)
            alarms.update(session, "s", conditions)
            assert not alarms.find_changes(session, "s", conditions)
            found = [(row.kind, row.ended_at is None, row.acknowledged_by) for row in alarms.list_alarms(session, "s")]
        assert changed == (found != before)
        before[:] = found
        return found

    before: list[tuple[str, bool, str | None]] = []
    full, stuck = AlarmCondition("disk", value=0.5), AlarmCondition("sink", "csv:x")
    assert update(full) == [("disk", True, None)]
    assert update(full, stuck) == [("sink", True, None), ("disk", True, None)]
    assert update(full) == [("sink", False, None), ("disk", True, None)]
    assert update(full, stuck) == [("sink", True, None), ("disk", True, None)]  # nobody has seen the first one yet
    with database.writing() as session:
        for row in alarms.list_open(session, "s"):
            alarms.acknowledge(session, row, "anna")
            alarms.acknowledge(session, row, "berta")  # the first one stays
        assert alarms.list_open(session, "other") == []
    before[:] = [("sink", True, "anna"), ("disk", True, "anna")]
    assert update() == [("sink", False, "anna"), ("disk", False, "anna")]
    assert update(stuck)[0] == ("sink", True, None)


def test_rejects_and_repeated_images_raise_alarms(station: Station) -> None:
    client = make_client(station)
    settings = station.settings.model_copy(update={"max_reject_run": 3, "max_reject_rate": 0.4})

    def kinds() -> set[str]:
        with station.database.reading() as session:
            return {condition.kind for condition in alarms.part_conditions(session, settings)}

    for seed in range(20):
        assert send(client, picture(defect=seed % 2 == 0, seed=seed)).status_code == 200
    assert kinds() == {"reject_rate"}
    for seed in range(20, 23):
        send(client, picture(defect=True, seed=seed))
    assert kinds() == {"reject_rate", "reject_run"}
    send(client, picture(seed=1))
    assert kinds() == {"reject_rate", "same_image"}


@pytest.mark.parametrize("longest", [50, 51, 120])
def test_a_run_of_rejects_of_any_length_raises_its_alarm(
    database: Database, recipe_id: int, bundle_file: Path, tmp_path: Path, longest: int
) -> None:
    settings = Settings(data=tmp_path, station="s", max_reject_run=longest, max_reject_rate=None)
    passed, rejected = inspected(bundle_file, 60), inspected(bundle_file, 255)

    def add(*results: Inspection) -> list[AlarmCondition]:
        with database.writing() as session:
            new = [NewInspection(IncomingPart(recipe_id, uuid4().hex * 2, 10, "api"), result) for result in results]
            store_inspections(session, new, record=database.record, station="s")
            return alarms.part_conditions(session, settings)

    assert add(passed, *[rejected] * (longest - 1)) == []
    assert add(rejected) == [AlarmCondition("reject_run", value=longest)]
    assert add(passed) == []


def test_the_state_of_a_station_raises_alarms(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_alarms() -> set[str]:
        with station.database.reading() as session:
            return {row.kind for row in alarms.list_alarms(session, station.settings.station)}

    monkeypatch.setattr(status, "_clock_offset", lambda: 3600.0)
    station.service.sources.lost("camera-0")
    wait_until(lambda: {"clock", "source"} <= open_alarms())
    assert {(c.kind, c.state) for c in station.status.components()} == {
        ("source", "lost"), ("engine", "ok"), ("certificate", "ok"), ("database", "ok"), ("disk", "ok"),
    }  # fmt: skip
    station.service.sources.works("camera-0", silent_s=0.0)  # and then gives no further image
    assert station.status.components()[0].state == "lost"


def test_a_check_that_cannot_be_made_is_an_alarm_and_keeps_no_other_from_being_made(
    tmp_path: Path, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a row that cannot be read")

    def held() -> set[tuple[str, str]]:
        return {(row.kind, row.subject) for row in station.status.alarms if row.ended_at is None}

    monkeypatch.setattr(status, "CHECK_S", 0.1)
    monkeypatch.setattr(status, "SLOW_CHECK_S", 0.3)
    with run_station(tmp_path / "s", bundle_file, max_reject_run=3, no_part_s=600.0) as station:
        client = make_client(station)
        with monkeypatch.context() as patch:
            patch.setattr(alarms, "trend_conditions", broken)
            for seed in range(4):
                send(client, picture(defect=True, seed=seed))
            wait_until(lambda: held() == {("check", "trends"), ("reject_run", "")})
            patch.setattr(alarms, "part_conditions", broken)
            wait_until(lambda: ("check", "parts") in held())
            assert held() == {("check", "trends"), ("check", "parts"), ("reject_run", "")}  # it held, and is not over
            assert client.get("/v1/status").json()["alarms"] == 3
        wait_until(lambda: held() == {("reject_run", "")})
        monkeypatch.setattr(alarms, "find_changes", broken)
        wait_until(lambda: client.get("/v1/status").json()["problem"] == {"kind": "database", "name": "sqlite"})


def test_parts_that_come_and_get_no_verdict_are_seen_everywhere(
    tmp_path: Path, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("device lost")

    with run_station(tmp_path / "s", bundle_file, no_part_s=1.5) as station:
        client = make_client(station)

        def state() -> tuple[int, object, str]:
            lines = client.get("/metrics").text.splitlines()
            problem = client.get("/v1/status").json()["problem"]
            (counted,) = (
                line.split()[-1] for line in lines if line.startswith('blemish_unanswered_total{cause="engine')
            )
            return client.get("/readyz").status_code, problem and problem["kind"], counted

        assert send(client, picture()).status_code == 200
        assert state() == (200, None, "0.0")
        with monkeypatch.context() as patch:
            patch.setattr(Inspector, "inspect_batch", broken)
            for number in range(1, 12):  # for longer than a line may be without parts
                assert send(client, picture(seed=number)).status_code == 503
                assert state() == (503, "engine", f"{number}.0")
                time.sleep(0.2)
            wait_until(lambda: [row.kind for row in station.status.alarms] == ["engine"])
            with station.database.reading() as session:
                assert [row.kind for row in alarms.list_alarms(session, "station")] == ["engine"]  # and never "no_part"
        with monkeypatch.context() as patch:
            patch.setattr(repository, "store_inspections", broken)
            assert send(client, picture(seed=12)).status_code == 503
            assert state()[:2] == (200, "database")
        assert send(client, picture(seed=13)).status_code == 200
        assert state() == (200, None, "11.0")
        wait_until(lambda: [row.ended_at is None for row in station.status.alarms] == [False])


def test_a_sink_that_takes_nothing_is_lost(tmp_path: Path, bundle_file: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with run_station(tmp_path / "s", bundle_file, sinks=[f"csv:{tmp_path}/file/x.csv"]) as station:
        send(make_client(station), picture())
        sinks = [("sink", "lost")]
        wait_until(lambda: [(c.kind, c.state) for c in station.status.components() if c.kind == "sink"] == sinks)
        wait_until(lambda: [row.kind for row in station.status.alarms] == ["sink"])


def test_every_recipe_that_decided_parts_lately_is_watched(
    database: Database, recipe_id: int, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a PLC names the recipe of each part: the active one decides none."""
    found = inspected(bundle_file, 50)

    def add(recipe: int, light: float, score: float, number: int, station: str = "s") -> None:
        quality = {"brightness": light, "sharpness": 1.0, "shift": 0.0, "confidence": 0.0}
        part = IncomingPart(recipe, "0" * 64, 10, "api")
        for _ in range(number):
            part = replace(part, image_sha256=f"{next(hashes):064d}")
            own = replace(found, score=score + 0.001 * random.random())
            with database.writing() as session:
                store_inspections(
                    session, [NewInspection(part, own, image_quality=quality)], record="r", station=station
                )

    def raised(station: str = "s") -> set[tuple[str, str]]:
        with database.reading() as session:
            return {(c.kind, c.subject) for c in alarms.trend_conditions(session, station)}

    hashes, random = count(), np.random.default_rng(0)
    with database.writing() as session:
        bundle = session.get_one(RecipeRow, recipe_id).bundle
        loose = recipes.make_recipe(session, "loose", bundle, "anna")
        recipes.activate(session, loose, "anna")
        recipes.activate(session, session.get_one(RecipeRow, recipe_id), "anna")
        loose_id = loose.id
    add(loose_id, 0.5, 0.1, 60)
    assert raised() == set()
    add(loose_id, 0.1, 0.1, 8)
    assert raised() == {("dark", "loose")}
    add(loose_id, 0.5, 0.12, 30)
    assert raised() == {("drift", "loose")}
    assert raised("other") == set()
    monkeypatch.setattr(populations, "RECENT_PARTS", 20)
    add(recipe_id, 0.5, 0.1, 20)  # from now on the line makes another product
    assert raised() == set()


def test_the_status_names_the_recipe_of_the_newest_part(station: Station) -> None:
    client = make_client(station)
    first = client.get("/v1/recipes").json()[0]
    other = client.post("/v1/recipes", json={"name": "strict", "bundle": first["bundle"]}).json()
    client.post(f"/v1/recipes/{other['id']}/activate")
    send(client, picture(seed=1), recipe=first["name"])
    wait_until(lambda: client.get("/v1/status").json()["recipe"] == "strict v1")
    assert client.get("/v1/status").json()["last"]["recipe"] == f"{first['name']} v1"
    lease = StationLease(station.database, station.settings.station, "holder")
    status = StationStatus(station.settings, station.database, station.service, lease)  # after a start, from the record
    with station.database.reading() as session:
        status._load_last(session)
    assert status.last is not None
    assert status.last.recipe == f"{first['name']} v1"


def test_a_check_of_the_status_asks_once_which_recipes_are_in_use(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, find = [], populations.recent_recipes

    def count_calls(session: Session, name: str) -> list[RecipeRow]:
        asked.append(session)
        return find(session, name)

    monkeypatch.setattr(populations, "recent_recipes", count_calls)
    lease = StationLease(station.database, station.settings.station, "holder")
    checked = StationStatus(station.settings, station.database, station.service, lease)
    with station.database.reading() as session:
        checked._conditions(session)
        assert sum(own is session for own in asked) == 1  # others are of the running station


def test_known_parts_are_no_production(tmp_path: Path, bundle_file: Path) -> None:
    for kind, defect in (("good", False), ("defect", True)):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for seed in range(3):
            (tmp_path / "data" / kind / f"{seed}.png").write_bytes(picture(defect=defect, seed=seed))
    sink = tmp_path / "results.jsonl"
    settings = {"known": [tmp_path / "data"], "sinks": [f"jsonl:{sink}"]}
    with run_station(tmp_path / "s", bundle_file, **settings) as station:
        client, name, since = make_client(station), station.settings.station, now() - timedelta(hours=1)
        wait_until(lambda: client.get("/v1/inspections", params={"reviewed": True}).json()["total"] == 6)
        part = send(client, picture(defect=True, seed=9), lot="L1").json()
        wait_until(lambda: sink.exists() and sink.read_text().count("\n") == 1)
        assert f'"id":{part["id"]},' in sink.read_text().replace(" ", "")
        with station.database.reading() as session:
            recipe = session.get_one(RecipeRow, 1)
            counts = production_counts.count_verdicts(session, name, since)
            assert (counts.parts, counts.reject, counts.first_pass_yield) == (1, 1, 0.0)
            assert [number for _, number in production_counts.defect_pareto(session, name, since)] == [1]
            assert [(lot, n.parts) for lot, n in production_counts.count_by_lot(session, name, since)] == [("L1", 1)]
            assert len(production_counts.latencies(session, name)) == 1
            assert drift.good_scores(session, recipe, name) == ([], [])
            assert drift.defect_density(session, recipe, name)[1] == 1
            assert [id_ for id_, _ in image_quality.quality_history(session, 1, name)] in ([], [part["id"]])
            assert alarms.part_conditions(session, station.settings) == []
        assert station.status.last is not None
        assert station.status.last.id == part["id"]
        metrics = client.get("/metrics").text
        assert 'blemish_inspections_total{recipe="test",verdict="reject"} 1.0' in metrics
        assert 'verdict="pass"' not in metrics


def test_shifts_follow_the_wall_clock() -> None:
    time = datetime(2026, 3, 10, 5, 30).astimezone()
    found = production_counts.last_shifts(time, ["14:00", "06:00", "22:00"], 3)
    assert [f"{since:%d %H:%M} {until:%d %H:%M}" for since, until in found] == [
        "09 22:00 10 06:00", "09 14:00 09 22:00", "09 06:00 09 14:00",
    ]  # fmt: skip
    assert production_counts.last_shifts(time.replace(hour=6, minute=0), ["06:00"], 1)[0][0].hour == 6
    hours = production_counts.last_hours(time, 2)
    assert [f"{since:%H:%M} {until:%H:%M}" for since, until in hours] == ["05:00 06:00", "04:00 05:00"]


def test_every_alarm_has_a_sentence_in_each_language() -> None:
    for language in ("en", "zh"):
        for sentence in alarms.SENTENCES.values():
            assert "{" not in translator(language)(sentence, subject="x", value=0.5)
