"""Backup of a record while its station runs, and its restoration into an empty one, of either kind of database.

A backup is a ZIP file: `backup.json`, a file of JSON lines for each table, and the stored images and bundles. Sessions
and the signing key are left out: everybody signs in again.
"""

import base64
import json
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, LargeBinary, Table, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from blemish.errors import OptionError
from blemish.files import atomic_path
from blemish.station.audit_chain import verify_chain
from blemish.station.data_folder import adopt_folder, check_folder
from blemish.station.database import open_database
from blemish.station.models import Base, InspectionRow, LeaseRow, RecordRow, SessionRow, UtcDateTime, now
from blemish.station.settings import Settings

FORMAT = 1
_ABOUT = "backup.json"
_OWN = (
    RecordRow.__tablename__,
    LeaseRow.__tablename__,
    SessionRow.__tablename__,
)  # of one record alone, and in no backup
_ROWS = 500  # read and written at a time


def write_backup(settings: Settings, file: Path, images: bool = True) -> dict[str, int]:
    """Write a backup; returns the number of rows of each table. The station may run meanwhile.

    All tables are read in one transaction. An image that is deleted meanwhile, because it has expired, is left out.
    """
    database = open_database(settings.url)
    counts: dict[str, int] = {}
    try:
        check_folder(database, settings)
        with (
            database.engine.connect() as connection,
            atomic_path(file) as partial,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive,
        ):
            _begin_snapshot(connection)
            for table in _tables():
                counts[table.name] = _write_table(connection, table, archive)
            count, head = _verified(connection)
            about = {
                "format": FORMAT, "revision": MigrationContext.configure(connection).get_current_revision(),
                "created": now().isoformat(), "rows": counts, "audit_rows": count, "audit_sha256": head,
            }  # fmt: skip
            archive.writestr(_ABOUT, json.dumps(about, indent=2))
            for folder in (settings.bundles, *([settings.images] if images else [])):
                _write_files(folder, archive)
    finally:
        database.engine.dispose()
    return counts


def _begin_snapshot(connection: Connection) -> None:
    """SQLite's readers see one state anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))


def _verified(connection: Connection) -> tuple[int, str]:
    try:
        return verify_chain(connection)
    except ValueError as error:
        raise OptionError(f"{error}; nothing was written") from error


def _tables() -> list[Table]:
    """In an order in which rows may be inserted."""
    return [table for table in Base.metadata.sorted_tables if table.name not in _OWN]


def _write_table(connection: Connection, table: Table, archive: zipfile.ZipFile) -> int:
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_ROWS)
    count = 0
    with archive.open(f"tables/{table.name}.jsonl", "w", force_zip64=True) as stream:
        for row in connection.execute(query).mappings():
            stream.write(json.dumps({name: _to_json(value) for name, value in row.items()}).encode() + b"\n")
            count += 1
    return count


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _write_files(folder: Path, archive: zipfile.ZipFile) -> None:
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file():
                name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
                archive.write(path, name, zipfile.ZIP_STORED)  # images and bundles are compressed already
        except FileNotFoundError:
            continue


def restore_backup(settings: Settings, file: Path) -> dict[str, int]:
    """Restore a backup into an empty record and folder; returns the number of rows of each table, as they were written.

    Raises OptionError, and changes nothing, where they are not empty, or the backup lacks rows that it had.
    """
    database = open_database(settings.url)
    try:
        with zipfile.ZipFile(file) as archive, database.writing() as session:
            connection = session.connection()
            about = json.loads(archive.read(_ABOUT))
            tables = {table.name for table in _tables()}
            if about["format"] != FORMAT or any(rows and name not in tables for name, rows in about["rows"].items()):
                raise OptionError(f"{file} was written by a newer version of blemish; update blemish")
            used = next((t.name for t in _tables() if connection.execute(select(t).limit(1)).first()), None)
            if used is not None:
                raise OptionError(f"the record is not empty: it has {used}; restore into a new --data or --db")
            counts = {}
            for table in _tables():
                counts[table.name] = found = _read_table(connection, table, archive)
                number = about["rows"].get(table.name, 0)
                if found != number:
                    raise OptionError(f"{file} has {found} of its {number} rows of {table.name}; nothing was restored")
            unnamed = update(InspectionRow).where(InspectionRow.record.is_(None))  # of an older backup
            connection.execute(unnamed.values(record=database.record))
            if _verified(connection) != (about["audit_rows"], about["audit_sha256"]):
                raise OptionError(f"the audit log in {file} is not the one that was written; nothing was restored")
            adopt_folder(session, database.record, settings)
            _extract_files(archive, settings)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, IntegrityError) as error:
        reason = getattr(error, "orig", None) or error
        raise OptionError(f"{file} is no sound backup: {reason}") from error
    finally:
        database.engine.dispose()
    return counts


def _read_table(connection: Connection, table: Table, archive: zipfile.ZipFile) -> int:
    """The number of rows."""
    name = f"tables/{table.name}.jsonl"
    if name not in archive.namelist():  # of a table that came later
        return 0
    rows: list[dict[str, Any]] = []
    count = 0
    with archive.open(name) as stream:
        for row in _parse_rows(table, stream):
            rows.append(row)
            count += 1
            if len(rows) == _ROWS:
                connection.execute(insert(table), rows)
                rows = []
    if rows:
        connection.execute(insert(table), rows)
    if connection.dialect.name == "postgresql" and "id" in table.c:
        following = f"(SELECT COALESCE(MAX(id), 0) + 1 FROM {table.name})"  # the tables' own names
        connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {following}, false)"))
    return count


def _parse_rows(table: Table, stream: Any) -> Iterator[dict[str, Any]]:
    for line in stream:
        yield {name: _from_json(table, name, value) for name, value in json.loads(line).items()}


def _from_json(table: Table, name: str, value: Any) -> Any:
    kind = table.c[name].type
    if value is not None and isinstance(kind, UtcDateTime):
        return datetime.fromisoformat(value)
    return base64.b64decode(value) if value is not None and isinstance(kind, LargeBinary) else value


def count_missing_images(settings: Settings) -> int:
    """Inspections whose image was stored and is not in the folder, such as after a backup without images."""
    database = open_database(settings.url)
    try:
        with database.reading() as session:
            paths = session.scalars(select(InspectionRow.image_path).where(InspectionRow.image_path.is_not(None)))
            return sum(not (settings.images / str(path)).is_file() for path in paths)
    finally:
        database.engine.dispose()


def _extract_files(archive: zipfile.ZipFile, settings: Settings) -> None:
    for name in archive.namelist():
        folder, _, rest = name.partition("/")
        target = {"images": settings.images, "bundles": settings.bundles}.get(folder)
        if target is None:
            continue
        path = (target / rest).resolve()
        if not path.is_relative_to(target.resolve()):
            raise OptionError(f"the backup names a file outside its folders: {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(name) as source, path.open("wb") as stream:
            while block := source.read(2**20):
                stream.write(block)
