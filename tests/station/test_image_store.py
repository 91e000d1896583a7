"""Deletion of stored images."""

import errno
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from station_helpers import inspected, picture, send, store

from blemish.errors import ImageError
from blemish.station import image_store, repository
from blemish.station.database import Database
from blemish.station.image_store import delete_expired, find_expired, set_orphans_aside, store_image
from blemish.station.models import InspectionRow
from blemish.station.settings import Settings
from blemish.station.station import Station


def test_images_are_deleted_by_age_and_size_but_not_reviewed_ones(
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
        assert set_orphans_aside(session, settings, min_age_s=-1) == 1
    assert not stray.exists()
    assert (settings.orphans / "2020-01-01" / "x.png").exists()


def test_images_of_parts_that_wait_for_a_person_stay(
    database: Database, recipe_id: int, bundle_file: Path, tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path / "s", station="s", keep_days=1e-9, keep_gib=1e-9)
    keys = [store(database, recipe_id, found) for found in (ImageError("x"), inspected(bundle_file, 220))]
    keys.append(store(database, recipe_id, inspected(bundle_file, 50)))
    with database.writing() as session:
        for key in keys:
            session.get_one(InspectionRow, key).image_path = f"2026-01-01/{key}.png"
        assert [row.id for row in find_expired(session, settings)] == [keys[2]]


def test_a_full_disk_takes_no_part_and_loses_none(
    station: Station, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = image_store.shutil.disk_usage
    monkeypatch.setattr(image_store.shutil, "disk_usage", lambda path: usage(path)._replace(free=2**20))
    refused = send(client, picture(), key="a")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
    assert "disk of the station is full" in refused.json()["detail"]
    ready = client.get("/readyz")
    assert (ready.status_code, "full" in ready.json()["detail"]) == (503, True)
    monkeypatch.undo()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("os.replace", "Path.open"):  # it fills up while a part is stored, or while it arrives
        with monkeypatch.context() as patch:
            target = image_store.os if name == "os.replace" else image_store.Path
            patch.setattr(target, name.partition(".")[2], full)
            assert send(client, picture(), key="b").status_code == 503
    assert client.get("/readyz").status_code == 200
    assert client.get("/v1/inspections").json()["total"] == 0
    assert [send(client, picture(), key=key).json()["verdict"] for key in "ab"] == ["pass", "pass"]
    assert station.service.depth == 0


def test_keys_of_senders_expire(database: Database, recipe_id: int, bundle_file: Path) -> None:
    for key in ("api-1", "known-1"):
        store(database, recipe_id, inspected(bundle_file, 50), key=key, request_sha256="0" * 64)
    for days, left in ((1, ["api-1", "known-1"]), (1e-9, ["known-1"])):
        with database.writing() as session:
            repository.expire_keys(session, days)
            assert sorted(row.key for row in session.query(InspectionRow) if row.key) == left
