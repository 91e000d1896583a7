"""The record of inspections, on both databases."""

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from station_helpers import inspected, make_client, picture, run_station, store

from blemish.errors import DataError, ImageError
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Verdict
from blemish.station import production_counts, repository
from blemish.station.database import Database
from blemish.station.models import InspectionRow, OutboxRow, now
from blemish.station.replay import find_differences
from blemish.station.repository import IncomingPart, InspectionFilter, to_inspection
from blemish.station.schemas import RecipeRef, inspection_out, stored_out


def test_an_inspection_comes_back_as_it_was(database: Database, recipe_id: int, bundle_file: Path) -> None:
    found = inspected(bundle_file, 220)
    key = store(database, recipe_id, found, part_id="p", lot="l", sinks=["one", "two"])
    with database.reading() as session:
        row = session.get_one(InspectionRow, key)
        back = repository.to_inspection(row)
        assert find_differences(found, back) == []
        assert len(back.regions) == len(found.regions) == 1
        assert np.array_equal(back.regions[0].mask, found.regions[0].mask)  # type: ignore[arg-type]
        assert back.regions[0].measurements == found.regions[0].measurements
        assert back.size == (64, 80)
        assert back.reasons == found.reasons
        assert row.created_at.tzinfo is not None
        assert now() - row.created_at < timedelta(minutes=1)
        assert sorted(session.scalars(select(OutboxRow.sink))) == ["one", "two"]


def test_no_valid_answer_is_never_a_pass(database: Database, recipe_id: int, bundle_file: Path) -> None:
    unsure = replace(inspected(bundle_file, 50), score=math.nan)
    assert unsure.verdict == Verdict.PASS
    for found in (unsure, ImageError("damaged")):
        key = store(database, recipe_id, found)
        with database.reading() as session:
            row = session.get_one(InspectionRow, key)
            assert (row.verdict, row.score) == ("review", None)
            assert row.error


def test_find_agrees_with_a_search_by_hand(database: Database, recipe_id: int, bundle_file: Path) -> None:
    good, bad = inspected(bundle_file, 50), inspected(bundle_file, 220)
    known = {}
    for index in range(24):
        values = {"part_id": f"p{index % 5}", "lot": f"l{index % 3}"}
        found = bad if index % 4 == 0 else good
        known[store(database, recipe_id, found, **values)] = (values["part_id"], values["lot"], found.verdict.value)

    def by_hand(part: str | None, lot: str | None, verdict: str | None) -> list[int]:
        wanted = (part, lot, verdict)
        return sorted((k for k, v in known.items() if all(w in (None, x) for w, x in zip(wanted, v, strict=True))))[
            ::-1
        ]

    with database.reading() as session:
        for part in (None, "p2"):
            for lot in (None, "l1"):
                for verdict in (None, "pass", "reject", "review"):
                    where = InspectionFilter(part_id=part, lot=lot, verdict=verdict)
                    pages, before = [], None
                    while page := repository.find_inspections(session, where, limit=2, before=before):
                        pages += [row.id for row in page]
                        before = page[-1].id
                    assert pages == by_hand(part, lot, verdict)
                    assert repository.count_inspections(session, where) == len(pages)
        rejects = by_hand(None, None, "reject")
        for where in (
            InspectionFilter(label="defect"),
            InspectionFilter(min_area_px=600),
            InspectionFilter(min_length_px=30),
            InspectionFilter(recipe="plates", verdict="reject"),
        ):
            assert [row.id for row in repository.find_inspections(session, where)] == rejects
        assert repository.find_inspections(session, InspectionFilter(min_area_px=601)) == []
        assert (
            repository.find_inspections(session, InspectionFilter(min_length_mm=0.1)) == []
        )  # no scale, no millimetres
        assert repository.find_inspections(session, InspectionFilter(since=now() + timedelta(hours=1))) == []
        assert repository.count_inspections(session, InspectionFilter(until=now() + timedelta(hours=1))) == 24


def test_parts_are_found_by_millimetres(database: Database, recipe_id: int, bundle_file: Path) -> None:
    image = np.full((64, 80), 50, np.uint8)
    image[10:30, 20:50] = 220
    key = store(database, recipe_id, Inspector.open(bundle_file, px_per_mm=10.0).inspect(image))
    with database.reading() as session:
        for conditions, ids in (
            ({"min_length_mm": 2.9}, [key]),
            ({"min_length_mm": 3.1}, []),
            ({"min_area_mm2": 6.0}, [key]),
            ({"min_area_mm2": 6.1}, []),
        ):
            where = InspectionFilter(**conditions)
            assert [row.id for row in repository.find_inspections(session, where)] == ids


def test_a_key_is_recorded_once(database: Database, recipe_id: int, bundle_file: Path) -> None:
    found = inspected(bundle_file, 50)
    store(database, recipe_id, found, key="k")
    with pytest.raises(IntegrityError):
        store(database, recipe_id, found, key="k")
    with database.reading() as session:
        assert repository.count_inspections(session, InspectionFilter()) == 1
        assert repository.find_by_key(session, "k") is not None


def test_reviews_are_the_ground_truth_and_are_checked(database: Database, recipe_id: int, bundle_file: Path) -> None:
    key = store(database, recipe_id, inspected(bundle_file, 50))
    mask = bytes(cv2.imencode(".png", np.full((64, 80), 255, np.uint8))[1])
    with database.writing() as session:
        row = session.get_one(InspectionRow, key)
        repository.add_review(session, row, "otto", "good")
        made = repository.add_review(session, row, "anna", "scratch", mask, "seen by hand")
        assert made.corrected == ["label", "mask"]
        with pytest.raises(DataError, match="10×10"):
            repository.add_review(session, row, "anna", "scratch", bytes(cv2.imencode(".png", np.zeros((10, 10)))[1]))
        with pytest.raises(DataError):
            repository.add_review(session, row, "anna", "scratch", b"no picture")
    with database.reading() as session:
        row = session.get_one(InspectionRow, key)
        assert (repository.reviewed_label(row), repository.contradicts("scratch", row.verdict)) == ("scratch", True)
        assert repository.count_inspections(session, InspectionFilter(reviewed=True)) == 1
        assert repository.count_inspections(session, InspectionFilter(reviewed=False)) == 0


def test_two_stations_on_one_database_record_a_key_once(database_url: str, bundle_file: Path, tmp_path: Path) -> None:
    url = database_url.replace("+psycopg", "")
    with ExitStack() as stack:
        stations = [
            stack.enter_context(run_station(tmp_path / name, bundle_file, db=url, station=name)) for name in "ab"
        ]
        clients = [make_client(station) for station in stations]

        def send(index: int) -> dict[str, object]:
            headers = {"Idempotency-Key": f"k{index // 2}"}
            files = {"image": ("x.png", picture(seed=index // 2))}
            answer = clients[index % 2].post("/v1/inspections", files=files, headers=headers)
            assert answer.status_code == 200
            return dict(answer.json())

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, range(40)))
        assert all(answers[i] == answers[i + 1] for i in range(0, 40, 2))
        assert clients[0].get("/v1/inspections").json()["total"] == 20
        assert len(clients[0].get("/v1/recipes").json()) == 1
        totals = [clients[0].get("/v1/inspections", params={"station": name}).json()["total"] for name in "ab"]
        with stations[0].database.reading() as session:
            shown = [
                production_counts.count_verdicts(session, name, now() - timedelta(hours=1)).passed for name in "ab"
            ]
        assert shown == totals
        assert sum(totals) == 20


def test_many_inspections_are_stored_in_their_order(database: Database, recipe_id: int, bundle_file: Path) -> None:
    levels = [50, 200, 50, 220, 200]
    new = [
        repository.NewInspection(
            IncomingPart(recipe_id, "0" * 64, 10, "dataset" if index == 1 else "api", part_id=f"p{index}"),
            inspected(bundle_file, level),
        )
        for index, level in enumerate(levels)
    ]
    with database.writing() as session:
        stored = repository.store_inspections(session, new, record="r", station="s", sinks=["a", "b"])
    ref = RecipeRef(id=recipe_id, name="plates", version=1)
    with database.reading() as session:
        for entry, made in zip(new, stored, strict=True):
            row = session.get_one(InspectionRow, made.columns["id"])
            assert row.part_id == entry.part.part_id
            assert inspection_out(row) == stored_out(made, ref)
            assert find_differences(entry.result, to_inspection(row)) == []  # type: ignore[arg-type]
        entries = session.query(OutboxRow).order_by(OutboxRow.id).all()
        line = [made.columns["id"] for index, made in enumerate(stored) if index != 1]
        assert [(row.inspection_id, row.sink) for row in entries] == [(key, sink) for key in line for sink in "ab"]
