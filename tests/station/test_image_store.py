"""Deletion of stored images."""

from pathlib import Path

from station_helpers import inspected, store

from blemish.station import repository
from blemish.station.database import Database
from blemish.station.image_store import delete_expired, delete_orphans, find_expired, store_image
from blemish.station.models import InspectionRow
from blemish.station.settings import Settings


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
        assert delete_orphans(session, settings, min_age_s=-1) == 1
    assert not stray.exists()
