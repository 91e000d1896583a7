"""Migrations, and databases that cannot be opened."""

import asyncio
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from station_helpers import inspected, store

from blemish.errors import OptionError
from blemish.station import recipes
from blemish.station.database import Database, DatabaseBusyError, open_database
from blemish.station.models import Base, InspectionRow


def test_migrations_make_the_tables_that_the_models_describe(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_every_record_has_an_id_of_its_own_and_keeps_it(database_url: str, database: Database, tmp_path: Path) -> None:
    ids = []
    for url in (database_url, f"sqlite:///{tmp_path / 'other.db'}"):
        found = open_database(url)
        ids.append(found.record)
        found.engine.dispose()
    assert ids[0] == database.record
    assert len(set(ids)) == 2
    assert {len(record) for record in ids} == {32}


def test_inspections_of_an_older_record_get_its_id(
    database_url: str, database: Database, recipe_id: int, bundle_file: Path
) -> None:
    key = store(database, recipe_id, inspected(bundle_file, 50))
    with database.writing() as session:
        for change in ("ALTER TABLE inspections DROP COLUMN record", "DROP TABLE record", "DROP TABLE station_leases",
                       "UPDATE alembic_version SET version_num = '0006'"):  # fmt: skip
            session.execute(text(change))
    database.engine.dispose()
    newer = open_database(database_url)
    with newer.reading() as session:
        assert session.get_one(InspectionRow, key).record == newer.record != database.record
    newer.engine.dispose()


def test_opening_again_keeps_the_record(database_url: str, database: Database, recipe_id: int) -> None:
    again = open_database(database_url)
    with again.reading() as session:
        assert recipes.active_recipe(session).id == recipe_id  # type: ignore[union-attr]
    again.engine.dispose()


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


def test_a_newer_record_is_one_line(database_url: str, database: Database) -> None:
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(OptionError, match=r"newer version of blemish \(revision 9999\)"):
        open_database(database_url)


def test_a_lock_of_another_program_ends_in_an_error_in_time(database_url: str) -> None:
    found = open_database(database_url, time_limit_s=1.2)
    lock = "BEGIN IMMEDIATE" if found.is_sqlite else "LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE"
    with found.engine.connect() as other:
        other.exec_driver_sql(lock) if not found.is_sqlite else other.execution_options(writing=True).begin()
        begin = time.monotonic()
        with pytest.raises(OperationalError), found.writing() as session:
            session.execute(text("UPDATE tokens SET role = 'line'"))
        assert time.monotonic() - begin < 1.2
    found.engine.dispose()


def test_a_writer_waits_for_another_thread_no_longer_than_stated(tmp_path: Path) -> None:
    found = open_database(f"sqlite:///{tmp_path / 'record.db'}", time_limit_s=0.4)
    with found.writing(), pytest.raises(DatabaseBusyError), found.writing():
        pass
    found.engine.dispose()


def test_no_query_runs_on_an_event_loop(database: Database) -> None:
    """There it would stop every other request; the tests of routes and pages fail by this where one does."""

    async def ask(session: object) -> None:
        with session:  # type: ignore[attr-defined]
            pass

    for made in (database.reading(), database.writing()):
        with pytest.raises(RuntimeError, match="event loop"):
            asyncio.run(ask(made))
