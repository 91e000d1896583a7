"""Delivery of results: each sink receives its rows of the outbox in order, and a row is marked when it is delivered.

A row may be delivered twice when the station is stopped between the two (at least once); its `id` identifies it.
"""

import csv
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from blemish.errors import OptionError
from blemish.inspection.convert import IMAGE_COLUMNS, MEASUREMENTS, REGION_COLUMNS, from_dict, to_rows
from blemish.report.sinks import escape_formula
from blemish.station.database import Database
from blemish.station.models import InspectionRow, OutboxRow, now
from blemish.station.redaction import redact
from blemish.station.repository import log_change
from blemish.station.schemas import InspectionOut, inspection_out
from blemish.station.sink_keys import is_pending, sink_keys
from blemish.station.webhook_signature import load_key, signed_headers

log = logging.getLogger("blemish.station")
Deliver = Callable[[InspectionOut], None]  # returns when the sink has the result, and raises otherwise
RECORD_COLUMNS = ("id", "created_at", "station", "part_id", "lot", "recipe", "recipe_version", "image_sha256", "error",
                  "reasons")  # fmt: skip
COLUMNS = (*RECORD_COLUMNS, *IMAGE_COLUMNS, *REGION_COLUMNS, *MEASUREMENTS, "record")
TIMEOUT_S = 10.0
FIRST_WAIT_S, MAX_WAIT_S, IDLE_S = 0.5, 60.0, 0.2
MAX_ATTEMPTS = 3  # of a result that its sink refuses; others follow it then
PATIENCE = 6  # failures of one result, after which the next one shows whether the sink or the result is at fault
_REFUSED = (400, 405, 409, 410, 411, 413, 414, 415, 422)  # HTTP statuses that a repetition does not change
_BATCH = 50
_MAX_HEADER = 1 << 16  # bytes
# Names of files after `#` in an address, by scheme.
_FILES = {"http": ("key",), "https": ("key",), "mqtt": ("password",), "mqtts": ("ca", "cert", "key", "password")}


def check_sink(text: str) -> None:
    """Raise OptionError for a sink of an unknown kind, or without its address."""
    kind, _, rest = text.partition(":")
    parts = urlsplit(text)
    if kind in ("csv", "jsonl"):
        valid = bool(rest)
    elif kind in ("mqtt", "mqtts"):
        valid = bool(parts.hostname and parts.path.strip("/"))
    else:
        valid = kind in ("http", "https") and bool(parts.hostname)
    if not valid:
        raise OptionError(f"invalid sink '{text}'; use csv:FILE, jsonl:FILE, http(s)://... or mqtt(s)://HOST/TOPIC")
    if kind in _FILES:
        files = sink_files(text)
        if kind.startswith("http") and "key" in files:
            load_key(files["key"])


def sink_files(text: str) -> dict[str, Path]:
    """The files that a sink's address names after `#`, such as `#ca=FILE&password=FILE`; raises OptionError.

    They stay on this machine: secrets are neither in the command line nor in the record.
    """
    parts = urlsplit(text)
    files = {name: Path(value) for name, value in parse_qsl(parts.fragment)}
    known = _FILES[parts.scheme]
    for name, path in files.items():
        if name not in known:
            raise OptionError(f"unknown file '{name}' of the sink {redact(text)}; known: {', '.join(known)}")
        if not path.is_file():
            raise OptionError(f"the sink {redact(text)} names the file {path}, which does not exist")
    if parts.fragment and not files:
        raise OptionError(f"give files of the sink {redact(text)} as #NAME=FILE; known: {', '.join(known)}")
    return files


@contextmanager
def open_sink(text: str) -> Iterator[Deliver]:
    kind, _, rest = text.partition(":")
    if kind == "csv":
        yield lambda result: _append_csv(Path(rest), result)
    elif kind == "jsonl":
        yield lambda result: _append(Path(rest), result.model_dump_json() + "\n")
    else:
        with _mqtt(text) if kind in ("mqtt", "mqtts") else _webhook(text) as deliver:
            yield deliver


def without_password(text: str) -> str:
    """The address of a sink without its secrets."""
    return redact(text)


def count_pending(database: Database, station: str = "", texts: Sequence[str] = ()) -> dict[str, int]:
    """Undelivered results of each sink: those that the station was started with, and those that it once had."""
    query = select(OutboxRow.sink, func.count()).where(is_pending()).group_by(OutboxRow.sink)
    counts = dict.fromkeys(sink_keys(station, texts), 0)
    with database.reading() as session:
        return counts | {sink: count for sink, count in session.execute(query)}


def list_dead_letters(session: Session, limit: int = 100) -> list[OutboxRow]:
    """Results that their sinks refused, the newest first; the sinks got the ones after them."""
    query = select(OutboxRow).where(OutboxRow.dead_at.is_not(None)).order_by(OutboxRow.id.desc()).limit(limit)
    return list(session.scalars(query))


def count_all_dead_letters(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(OutboxRow).where(OutboxRow.dead_at.is_not(None))) or 0


def count_dead_letters(database: Database) -> dict[str, int]:
    query = select(OutboxRow.sink, func.count()).where(OutboxRow.dead_at.is_not(None)).group_by(OutboxRow.sink)
    with database.reading() as session:
        return {sink: count for sink, count in session.execute(query)}


def retry_dead_letters(session: Session, user: str) -> int:
    """Send them again; returns how many."""
    rows = list(session.scalars(select(OutboxRow).where(OutboxRow.dead_at.is_not(None))))
    for row in rows:
        row.dead_at, row.attempts = None, 0
    if rows:
        log_change(session, user, "retry", "dead letters", after={"number": len(rows)})
    return len(rows)


def prune_outbox(session: Session, days: float) -> None:
    """Delete rows that were delivered long ago; the record itself stays."""
    session.execute(delete(OutboxRow).where(OutboxRow.delivered_at < now() - timedelta(days=days)))


def deliver_results(text: str, key: str, database: Database, stop: threading.Event) -> None:
    """Deliver what waits under a sink's key until `stop` is set; while the sink fails, retry at growing intervals."""
    wait = FIRST_WAIT_S
    while not stop.is_set():
        try:
            with open_sink(text) as deliver:
                while not stop.is_set():
                    if not _deliver_some(key, deliver, database, stop):
                        stop.wait(IDLE_S)
                    wait = FIRST_WAIT_S
        except Exception as error:
            reason = redact(str(error))
            log.warning("sink %s does not accept results (%s); next try in %.1f s", redact(text), reason, wait)
            stop.wait(wait)
            wait = min(2 * wait, MAX_WAIT_S)


def _deliver_some(sink: str, deliver: Deliver, database: Database, stop: threading.Event) -> int:
    """Deliver the oldest rows, and return how many; raises the sink's errors.

    A result that the sink refuses, or that fails while the next one arrives, becomes a dead letter, so that it keeps no
    other from being delivered.
    """
    row = OutboxRow
    query = select(row.id, row.inspection_id, row.attempts).where(row.sink == sink, is_pending()).order_by(row.id)
    with database.reading() as session:
        rows = session.execute(query.limit(_BATCH)).all()
    delivered: list[int] = []
    doubtful: tuple[int, Exception] | None = None
    try:
        for outbox_id, inspection_id, attempts in rows:
            if stop.is_set():
                break
            try:
                with database.reading() as session:
                    result = inspection_out(session.get_one(InspectionRow, inspection_id))
                deliver(result)
            except SQLAlchemyError:
                raise
            except Exception as error:
                dead = attempts + 1 >= MAX_ATTEMPTS and _is_refused(error)
                _mark(database, [outbox_id], error, dead)
                if dead:
                    continue
                if attempts + 1 >= PATIENCE and doubtful is None:
                    doubtful = outbox_id, error
                    continue
                raise
            delivered.append(outbox_id)
            if doubtful is not None:
                _mark(database, [doubtful[0]], doubtful[1], dead=True)
                doubtful = None
    finally:
        _mark(database, delivered)
    if doubtful is not None:
        raise doubtful[1]
    return len(delivered)


def _is_refused(error: Exception) -> bool:
    """Whether it is this result that the sink does not take, and not that the sink is away or busy."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return isinstance(error, ValueError | TypeError | KeyError) if status is None else status in _REFUSED


def _describe(error: Exception) -> str:
    """An answer by its status alone: the client's own text says no more, and refers to a page on the internet."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status is None:
        return f"{type(error).__name__}: {error}"
    return f"HTTP {status} {getattr(response, 'reason_phrase', '')}".strip()


def _mark(database: Database, ids: list[int], error: Exception | None = None, dead: bool = False) -> None:
    """Mark rows as delivered, or as failed with an error."""
    if not ids:
        return
    with database.writing() as session:
        for row in session.scalars(select(OutboxRow).where(OutboxRow.id.in_(ids))):
            row.attempts += 1
            row.delivered_at = now() if error is None else None
            row.error = None if error is None else redact(_describe(error))[:500]
            if dead:
                row.dead_at = now()
                log.error("sink %s refuses the result of inspection %d: %s", row.sink, row.inspection_id, row.error)


def _append(path: Path, text: str) -> None:
    """Append lines to a file, and wait until they are on the disk. Half a line, left by a power cut, is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        if size := stream.seek(0, os.SEEK_END):
            stream.seek(size - 1)
            text = text if stream.read(1) == b"\n" else "\n" + text
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())


def _append_csv(path: Path, result: InspectionOut) -> None:
    """Append a result in the columns of the file's header, which may be that of another version."""
    columns = _read_columns(path)
    _append(path, csv_lines(result, columns) if columns else csv_header() + csv_lines(result))


def _read_columns(path: Path) -> list[str]:
    """The columns of a file of results; none where there is no file, an empty one, or half a header, which is removed.

    Raises OptionError for another file.
    """
    if not path.exists():
        return []
    with path.open("rb+") as stream:
        first = stream.readline(_MAX_HEADER).decode("utf-8", "replace").removeprefix("\ufeff")
        columns = next(csv.reader([first]), [])
        if first.endswith("\n") and {"id", "created_at"} <= set(columns):
            return columns
        if not csv_header().startswith(first):
            raise OptionError(f"{path} is not a file of results: its first line is no header; choose another file")
        stream.truncate(0)
    return []


def csv_header() -> str:
    return _csv([COLUMNS])


def csv_note(text: str) -> str:
    """A line that is no result: the text in the place of the id."""
    return _csv([[text, *[None] * (len(COLUMNS) - 1)]])


def csv_lines(result: InspectionOut, columns: Sequence[str] = COLUMNS) -> str:
    """A line a region, and one for an image without regions; columns of other names stay empty."""
    values = result.model_dump(mode="json")
    inspection = from_dict(values)
    values |= {"recipe": result.recipe.name, "recipe_version": result.recipe.version}
    values["reasons"] = "; ".join(map(str, inspection.reasons))
    rows = [values | row for row in to_rows(inspection)]
    return _csv([[escape_formula(row.get(name)) for name in columns] for row in rows])


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


@contextmanager
def _webhook(url: str) -> Iterator[Deliver]:
    import httpx

    files = sink_files(url)
    key = load_key(files["key"]) if "key" in files else None
    url = urlsplit(url)._replace(fragment="").geturl()
    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:

        def deliver(result: InspectionOut) -> None:
            headers = {"Content-Type": "application/json", "Idempotency-Key": result.identity}
            body = result.model_dump_json().encode()
            if key is not None:
                headers |= signed_headers(key, int(time.time()), body)
            client.post(url, content=body, headers=headers).raise_for_status()

        yield deliver


@contextmanager
def _mqtt(url: str) -> Iterator[Deliver]:
    """Quality of service 1: a result is delivered when the broker has acknowledged it.

    With mqtts:// the broker's certificate must hold for its name, by the file `ca` or else the system's authorities.
    """
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    parts, files = urlsplit(url), sink_files(url)
    topic = unquote(parts.path.strip("/"))
    client = Client(CallbackAPIVersion.VERSION2)
    if parts.username:
        own = files["password"].read_text(encoding="utf-8").strip() if "password" in files else None
        client.username_pw_set(unquote(parts.username), unquote(parts.password or "") if own is None else own)
    if parts.scheme == "mqtts":
        names = {"ca": "ca_certs", "cert": "certfile", "key": "keyfile"}
        given: dict[str, Any] = {names[name]: str(path) for name, path in files.items() if name in names}
        client.tls_set(**given)
    client.connect_timeout = TIMEOUT_S
    client.connect(parts.hostname or "", parts.port or (8883 if parts.scheme == "mqtts" else 1883))
    client.loop_start()

    def deliver(result: InspectionOut) -> None:
        sent = client.publish(topic, result.model_dump_json(), qos=1)
        sent.wait_for_publish(TIMEOUT_S)
        if not sent.is_published():
            raise TimeoutError("the broker did not acknowledge the message")

    try:
        yield deliver
    finally:
        client.disconnect()
        client.loop_stop()
