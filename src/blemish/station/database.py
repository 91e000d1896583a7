"""The database: connected, migrated, and with one writer at a time where it is SQLite."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from blemish.errors import BlemishError, OptionError
from blemish.station.models import RecordRow

ACCESS, RECIPES = "access", "recipes"  # what changes are counted of: tokens, users and sessions; the active recipe
TIME_LIMIT_S = 30.0
IDLE_LIMIT_S = 60.0  # of a transaction whose process has died or hangs; its locks are freed then
POOL_SIZE = 20
_CHANGED = "changed"  # in a session's `info`
_MIGRATION_LOCK = 0x626C656D  # any number that no other program uses


class DatabaseBusyError(BlemishError):
    """Another writer has the database for longer than an answer may take."""


class Database:
    """An engine, the id of its record and, for SQLite, the lock of its writers."""

    def __init__(self, engine: Engine, record: str, wait_s: float) -> None:
        self.engine = engine
        self.record = record
        self.changes: Counter[str] = Counter()  # by this process, so that what is kept in memory is read again
        self._wait_s = wait_s
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._writing = engine.execution_options(writing=True)
        self._writer = threading.Lock() if self.is_sqlite else None

    @contextmanager
    def reading(self) -> Iterator[Session]:
        _check_thread()
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back by an exception."""
        _check_thread()
        with self._one_writer(), Session(self._writing, expire_on_commit=False) as session:
            with session.begin():
                yield session
            self.changes.update(session.info.get(_CHANGED, ()))

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        if self._writer is None:
            yield
            return
        if not self._writer.acquire(timeout=self._wait_s):
            raise DatabaseBusyError("the database is busy; retry later")
        try:
            yield
        finally:
            self._writer.release()


def mark_changed(session: Session, what: str) -> None:
    """Count a change of `what` when the session is committed."""
    session.info.setdefault(_CHANGED, set()).add(what)


def _check_thread() -> None:
    """Raise RuntimeError on an event loop: a query there would stop every other request while it lasts."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("a query on the event loop; run it in a thread")


def open_database(url: str, time_limit_s: float = TIME_LIMIT_S) -> Database:
    """Connect and migrate; raises OptionError, one line without the password, for a URL that does not work.

    Connecting, a statement, and waiting for a lock take less than half of `time_limit_s`, that of an answer.
    """
    wait_s = time_limit_s / 4
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise OptionError(f"databases of kind {backend} are not supported; use sqlite or postgresql")
        if backend == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        if backend == "sqlite":
            engine = create_engine(parsed, connect_args={"timeout": wait_s})
            event.listen(engine, "connect", _on_sqlite_connect)
            event.listen(engine, "begin", _on_sqlite_begin)
        else:
            limits = f"-c statement_timeout={wait_s * 1000:.0f} -c lock_timeout={wait_s * 500:.0f}"
            limits += f" -c idle_in_transaction_session_timeout={IDLE_LIMIT_S * 1000:.0f}"
            given = {"connect_timeout": max(2, round(wait_s)), "options": limits}  # those of the URL go first
            arguments = {name: value for name, value in given.items() if name not in parsed.query}
            engine = create_engine(
                parsed, pool_pre_ping=True, pool_size=POOL_SIZE, pool_timeout=wait_s, connect_args=arguments
            )
        migrate(engine)
        with Session(engine) as session:
            record = session.scalars(select(RecordRow.id)).one()
    except (ArgumentError, SQLAlchemyError, OSError, ModuleNotFoundError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise OptionError(f"the database {shown_url(url)} cannot be used: {reason}") from error
    return Database(engine, record, wait_s)


def migrate(engine: Engine) -> None:
    """Bring the tables up to date, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.execution_options(writing=True).begin() as connection:
        if engine.dialect.name == "postgresql":  # two stations may start at once
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        present = MigrationContext.configure(connection).get_current_revision()
        if present is not None and present not in known:
            raise OptionError(
                f"the record was written by a newer version of blemish (revision {present}); update blemish, or use "
                "another record"
            )
        command.upgrade(config, "head")


def _on_sqlite_connect(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin in `_on_sqlite_begin`
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    # A transaction that turns from reading to writing midway may be refused; a writer locks at once, and waits.
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def shown_url(url: str) -> str:
    """Without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url)
