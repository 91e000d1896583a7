"""Where results go: each sink takes its rows from the outbox in order, and a row is struck off when it has been taken.

A row may be delivered twice when the station is stopped between the two (at least once): `id` tells them apart.
"""

import csv
import hashlib
import io
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import func, select, update

from blemish.errors import OptionError
from blemish.station.database import Database
from blemish.station.models import InspectionRow, OutboxRow, now
from blemish.station.schemas import InspectionOut, inspection_out

log = logging.getLogger("blemish.station")
Take = Callable[[InspectionOut], None]  # returns when the sink surely has it, and raises otherwise
COLUMNS = (
    "id", "created_at", "station", "part_id", "lot", "recipe", "recipe_version", "verdict", "label", "score", "regions",
    "reasons", "image_sha256", "error",
)  # fmt: skip
TIMEOUT_S = 10.0
FIRST_WAIT_S, LONGEST_WAIT_S, IDLE_S = 0.5, 60.0, 0.2
_BATCH = 50


def check_sink(text: str) -> None:
    """Raise OptionError for a sink that cannot be understood."""
    kind, _, rest = text.partition(":")
    if kind in ("csv", "jsonl") and rest:
        return
    parts = urlsplit(text)
    if kind in ("http", "https") and parts.hostname:
        return
    if kind == "mqtt" and parts.hostname and parts.path.strip("/"):
        return
    raise OptionError(f"sink '{text}' is not understood; give csv:FILE, jsonl:FILE, http(s)://... or mqtt://HOST/TOPIC")


@contextmanager
def open_sink(text: str) -> Iterator[Take]:
    kind, _, rest = text.partition(":")
    if kind == "csv":
        yield lambda result: _append(Path(rest), _csv_line(result), header=_csv([*COLUMNS]))
    elif kind == "jsonl":
        yield lambda result: _append(Path(rest), result.model_dump_json() + "\n")
    elif kind == "mqtt":
        with _mqtt(text) as take:
            yield take
    else:
        with _webhook(text) as take:
            yield take


def sink_key(station: str, text: str) -> str:
    """What the outbox calls a sink: short, and without its name and password, so that the record does not tell them."""
    return f"{station}/{shown(text)[:150]}#{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def deliver_in_background(
    text: str, station: str, database: Database, stop: threading.Event, name: str
) -> threading.Thread:
    """A thread that delivers until `stop`; it tries again, ever more seldom, as long as the sink fails."""
    return threading.Thread(target=_deliver, args=(text, station, database, stop), name=name, daemon=True)


def pending(database: Database, station: str = "", texts: Sequence[str] = ()) -> dict[str, int]:
    """How many results each sink has yet to take: those that a station was started with, and those that it once had."""
    query = select(OutboxRow.sink, func.count()).where(OutboxRow.delivered_at.is_(None)).group_by(OutboxRow.sink)
    found = dict.fromkeys((sink_key(station, text) for text in texts), 0)
    with database.reading() as session:
        return found | {sink: count for sink, count in session.execute(query)}


def _deliver(text: str, station: str, database: Database, stop: threading.Event) -> None:
    wait = FIRST_WAIT_S
    while not stop.is_set():
        try:
            _rename(database, f"{station}/{text}", sink_key(station, text))
            with open_sink(text) as take:
                while not stop.is_set():
                    if not _deliver_some(sink_key(station, text), take, database, stop):
                        stop.wait(IDLE_S)
                    wait = FIRST_WAIT_S
        except Exception as error:
            log.warning("sink %s takes nothing (%s); next try in %.1f s", shown(text), error, wait)
            stop.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)


def _rename(database: Database, before: str, key: str) -> None:
    """What waits for a sink under the whole of its address, as earlier records name it, waits under its key."""
    with database.writing() as session:
        session.execute(update(OutboxRow).where(OutboxRow.sink == before).values(sink=key))


def _deliver_some(sink: str, take: Take, database: Database, stop: threading.Event) -> int:
    """Deliver the oldest rows, and return how many; raises what the sink raises."""
    row = OutboxRow
    query = select(row.id, row.inspection_id).where(row.sink == sink, row.delivered_at.is_(None)).order_by(row.id)
    with database.reading() as session:
        rows = session.execute(query.limit(_BATCH)).all()
    taken: list[int] = []
    try:
        for outbox_id, inspection_id in rows:
            if stop.is_set():
                break
            with database.reading() as session:
                result = inspection_out(session.get_one(InspectionRow, inspection_id))
            try:
                take(result)
            except Exception as error:
                _note_failure(database, outbox_id, error)
                raise
            taken.append(outbox_id)
    finally:
        _strike_off(database, taken)
    return len(taken)


def _strike_off(database: Database, ids: list[int]) -> None:
    if ids:
        with database.writing() as session:
            for outbox_id in ids:
                row = session.get_one(OutboxRow, outbox_id)
                row.delivered_at, row.attempts, row.error = now(), row.attempts + 1, None


def _note_failure(database: Database, outbox_id: int, error: Exception) -> None:
    with database.writing() as session:
        row = session.get_one(OutboxRow, outbox_id)
        row.attempts, row.error = row.attempts + 1, f"{type(error).__name__}: {error}"[:500]


def _append(path: Path, line: str, header: str = "") -> None:
    """Add a line to a file, and wait until the disk has it. Half a line, left by a power cut, is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size == 0:
            line = header + line
        else:
            stream.seek(size - 1)
            line = line if stream.read(1) == b"\n" else "\n" + line
        stream.write(line.encode())
        stream.flush()
        os.fsync(stream.fileno())


def _csv_line(result: InspectionOut) -> str:
    regions = [{"label": r.label, "score": r.score, "box": r.box} for r in result.regions]
    values: dict[str, Any] = {
        **result.model_dump(mode="json"),
        "recipe": result.recipe.name,
        "recipe_version": result.recipe.version,
        "regions": json.dumps(regions),
        "reasons": "; ".join(result.reasons),
    }
    return _csv([_harmless(values[name]) for name in COLUMNS])


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _csv(values: list[Any]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(values)
    return stream.getvalue()


@contextmanager
def _webhook(url: str) -> Iterator[Take]:
    import httpx

    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:

        def take(result: InspectionOut) -> None:
            headers = {"Content-Type": "application/json", "Idempotency-Key": f"{result.station}-{result.id}"}
            client.post(url, content=result.model_dump_json(), headers=headers).raise_for_status()

        yield take


@contextmanager
def _mqtt(url: str) -> Iterator[Take]:
    """Quality of service 1: a result is taken when the broker has acknowledged it."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    parts = urlsplit(url)
    topic = unquote(parts.path.strip("/"))
    client = Client(CallbackAPIVersion.VERSION2)
    if parts.username:
        client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
    client.connect_timeout = TIMEOUT_S
    client.connect(parts.hostname or "", parts.port or 1883)
    client.loop_start()

    def take(result: InspectionOut) -> None:
        sent = client.publish(topic, result.model_dump_json(), qos=1)
        sent.wait_for_publish(TIMEOUT_S)
        if not sent.is_published():
            raise TimeoutError("the broker did not acknowledge the message")

    try:
        yield take
    finally:
        client.disconnect()
        client.loop_stop()


def shown(text: str) -> str:
    """A sink without its name and password."""
    return re.sub(r"://[^/]*@", "://", text)
