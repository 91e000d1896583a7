"""The hash chain of the audit log: a row that is changed, removed or added later does not fit its neighbours."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

CHAIN_LOCK = 0x626C6563  # of PostgreSQL: writers append one at a time
COLUMNS = ("id", "created_at", "created_by", "action", "subject", "before", "after", "comment")
_JSON = sa.JSON(none_as_null=True)
_TYPES: dict[str, Any] = {"id": sa.Integer(), "created_at": sa.DateTime(), "before": _JSON, "after": _JSON}
_TABLE = sa.table("audit_log", *(sa.column(name, _TYPES.get(name, sa.String())) for name in (*COLUMNS, "sha256")))


def row_hash(previous: str, values: Mapping[str, Any]) -> str:
    """SHA-256 of the hash before and of a row's values."""
    content = {name: _plain(values[name]) for name in COLUMNS}
    text = json.dumps([previous, content], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Times in UTC without a zone, whatever the database gives."""
    if not isinstance(value, datetime):
        return value
    return (value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)).isoformat()


def chain_rows(connection: Connection) -> None:
    """Give every row its hash, as the migration does that brings the column."""
    previous = ""
    for row in connection.execute(sa.select(_TABLE).order_by(_TABLE.c.id)).mappings().all():
        previous = row_hash(previous, dict(row))
        connection.execute(_TABLE.update().where(_TABLE.c.id == row["id"]).values(sha256=previous))


def last_hash(connection: Connection) -> str:
    """Hash of the newest row, or "" of an empty log; the next writer waits until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": CHAIN_LOCK})
    return connection.scalar(sa.select(_TABLE.c.sha256).order_by(_TABLE.c.id.desc()).limit(1)) or ""


def verify_chain(connection: Connection) -> tuple[int, str]:
    """The number of rows, and the hash of the last one; ValueError names the first row that does not fit."""
    previous, count = "", 0
    rows = connection.execute(sa.select(_TABLE).order_by(_TABLE.c.id).execution_options(yield_per=1000))
    for row in rows.mappings():
        if row["sha256"] != row_hash(previous, dict(row)):
            raise ValueError(f"row {row['id']} of the audit log, or the one before it, was changed or removed")
        previous, count = row["sha256"], count + 1
    return count, previous
