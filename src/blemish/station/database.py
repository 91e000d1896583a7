"""The database: connected, migrated, and with one writer at a time where it is SQLite."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from blemish.errors import OptionError

_MIGRATION_LOCK = 0x626C656D  # any number that no other program uses


class Database:
    """An engine and, for SQLite, the lock of its writers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._writing = engine.execution_options(writing=True)
        self._writer = threading.Lock() if self.is_sqlite else nullcontext()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back by an exception."""
        with self._writer, Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session


def open_database(url: str) -> Database:
    """Connect and migrate; raises OptionError, one line without the password, for a URL that does not work."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise OptionError(f"databases of kind {backend} are not supported; use sqlite or postgresql")
        if backend == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, pool_pre_ping=backend != "sqlite")
        if backend == "sqlite":
            event.listen(engine, "connect", _on_sqlite_connect)
            event.listen(engine, "begin", _on_sqlite_begin)
        migrate(engine)
    except (ArgumentError, SQLAlchemyError, OSError, ModuleNotFoundError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise OptionError(f"the database {_without_password(url)} cannot be used: {reason}") from error
    return Database(engine)


def migrate(engine: Engine) -> None:
    """Bring the tables up to date, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.execution_options(writing=True).begin() as connection:
        if engine.dialect.name == "postgresql":  # two stations may start at once
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _on_sqlite_connect(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin in `_on_sqlite_begin`
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    # A transaction that turns from reading to writing midway may be refused; a writer locks at once, and waits.
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url)
