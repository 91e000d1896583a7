"""The record on both databases."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from station_helpers import client_of, picture, running

from blemish.errors import BlemishError, DataError, ImageError, OptionError
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Inspection, Verdict
from blemish.station import production_counts, recipes, repository
from blemish.station.database import Database, open_database
from blemish.station.image_store import delete_expired, delete_orphans, find_expired, receive_file, store_image
from blemish.station.models import AuditRow, Base, InspectionRow, OutboxRow, RecipeRow, now
from blemish.station.replay import find_differences
from blemish.station.repository import IncomingPart, InspectionFilter
from blemish.station.settings import Settings


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = open_database(database_url)
    yield found
    found.engine.dispose()


@pytest.fixture
def recipe_id(database: Database, bundle_file: Path, tmp_path: Path) -> int:
    with bundle_file.open("rb") as stream:
        file = receive_file(stream, tmp_path / "incoming", 2**20)
    bundle = recipes.import_bundle(database, file, tmp_path / "bundles", "anna")
    with database.writing() as session:
        recipe = recipes.make_recipe(session, "plates", session.merge(bundle), "anna")
        recipes.activate(session, recipe, "anna")
        return recipe.id


def inspected(bundle: Path, grey: int) -> Inspection:
    image = np.full((64, 80), 50, np.uint8)
    image[10:30, 20:50] = grey
    return Inspector.open(bundle).inspect(image)


def store(database: Database, recipe_id: int, found: Inspection | BlemishError, **fields: object) -> int:
    sinks = fields.pop("sinks", ())
    arrival = IncomingPart(recipe_id, "0" * 64, 10, "api", **fields)  # type: ignore[arg-type]
    with database.writing() as session:
        row = repository.store_inspection(session, arrival, found, station="s", image_path=None, sinks=sinks)  # type: ignore[arg-type]
        return row.id


def test_migrations_make_the_tables_that_the_models_describe(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_opening_again_keeps_the_record(database_url: str, database: Database, recipe_id: int) -> None:
    again = open_database(database_url)
    with again.reading() as session:
        assert recipes.active_recipe(session).id == recipe_id  # type: ignore[union-attr]
    again.engine.dispose()


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
        for least, found in ((InspectionFilter(min_length_mm=2.9), [key]), (InspectionFilter(min_length_mm=3.1), []),
                             (InspectionFilter(min_area_mm2=6.0), [key]), (InspectionFilter(min_area_mm2=6.1), [])):  # fmt: skip
            assert [row.id for row in repository.find_inspections(session, least)] == found


def test_a_key_is_recorded_once(database: Database, recipe_id: int, bundle_file: Path) -> None:
    found = inspected(bundle_file, 50)
    store(database, recipe_id, found, key="k")
    with pytest.raises(IntegrityError):
        store(database, recipe_id, found, key="k")
    with database.reading() as session:
        assert repository.count_inspections(session, InspectionFilter()) == 1
        assert repository.find_by_key(session, "k") is not None


def test_reviews_are_the_truth_and_are_checked(database: Database, recipe_id: int, bundle_file: Path) -> None:
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


def test_images_go_by_age_and_size_but_not_reviewed_ones(
    database: Database, recipe_id: int, bundle_file: Path, tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path / "s", station="s", keep_gib=2500 / 2**30)
    keys = []
    for index in range(5):
        file = tmp_path / f"{index}"
        file.write_bytes(b"\x89PNG" + bytes([index]) * 996)
        keys.append(store(database, recipe_id, inspected(bundle_file, 50)))
        with database.writing() as session:
            row = session.get_one(InspectionRow, keys[-1])
            row.image_path, row.image_bytes = store_image(file, settings.images), 1000
    with database.writing() as session:
        repository.add_review(session, session.get_one(InspectionRow, keys[1]), "anna", "good")
    with database.writing() as session:
        assert [row.id for row in find_expired(session, settings)] == [keys[0], keys[2], keys[3]]
        assert delete_expired(session, settings) == 3
    with database.reading() as session:
        assert find_expired(session, settings) == []
        left = {session.get_one(InspectionRow, key).image_path for key in keys} - {None}
        assert {p.relative_to(settings.images).as_posix() for p in settings.images.glob("*/*")} == left
        assert len(left) == 2
        assert find_expired(session, Settings(data=tmp_path / "s", station="s", keep_days=1)) == []
        old = find_expired(session, Settings(data=tmp_path / "s", station="s", keep_days=1e-9))
        assert [row.id for row in old] == [keys[4]]
        shared = Settings(data=tmp_path / "t", station="t", db="postgresql://host/shared", keep_days=1e-9)
        assert find_expired(session, shared) == []  # not its images
    stray = settings.images / "2020-01-01" / "x.png"
    stray.parent.mkdir()
    stray.touch()
    with database.reading() as session:
        assert delete_orphans(session, settings, min_age_s=-1) == 1
    assert not stray.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://x/y", "sqlite or postgresql"),
        ("nonsense", "cannot be used"),
        ("postgresql+psycopg://u:geheim@127.0.0.1:1/x", "cannot be used"),
    ],
)
def test_a_wrong_database_is_one_line_without_the_password(url: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        open_database(url)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_stations_on_one_database_record_a_key_once(database_url: str, bundle_file: Path, tmp_path: Path) -> None:
    url = database_url.replace("+psycopg", "")
    with ExitStack() as stack:
        stations = [stack.enter_context(running(tmp_path / name, bundle_file, db=url, station=name)) for name in "ab"]
        clients = [client_of(station) for station in stations]

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
