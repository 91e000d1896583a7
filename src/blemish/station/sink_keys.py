"""The names under which results wait for their sinks in the outbox.

A sink is known by its address without secrets, so that a new password finds what waited before it.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session, aliased

from blemish.station.models import InspectionRow, OutboxRow
from blemish.station.redaction import redact

MAX_SHOWN = 150  # characters of an address in its key


def sink_keys(station: str, texts: Sequence[str]) -> list[str]:
    """The key of each sink: short, and without user and password, so that the record holds no secrets.

    Sinks that differ in what is hidden alone, such as values of a query, are told apart by the hash of all of it.
    """
    shared = Counter(redact(text) for text in dict.fromkeys(texts))
    return [_key(station, text, redact(text) if shared[redact(text)] == 1 else text) for text in texts]


def _key(station: str, text: str, hashed: str) -> str:
    return f"{_shown(station, text)}#{hashlib.sha256(hashed.encode()).hexdigest()[:12]}"


def _shown(station: str, text: str) -> str:
    return f"{station}/{redact(text)[:MAX_SHOWN]}"


def sink_name(key: str) -> str:
    """The name of a sink in the outbox, as it is shown: without the hash that tells it from others."""
    return key.rpartition("#")[0] or key


def is_pending() -> ColumnElement[bool]:
    return OutboxRow.delivered_at.is_(None) & OutboxRow.dead_at.is_(None)


def adopt_undelivered(session: Session, station: str, texts: Sequence[str]) -> None:
    """Give what waits under an earlier key of a sink to its present one; earlier versions hashed the secrets too.

    Not what the present key has as well: that is another sink's, of an address that looks the same.
    """
    keys = sink_keys(station, texts)
    row, other = OutboxRow, aliased(OutboxRow)
    for text, key in zip(texts, keys, strict=True):
        known = {_key(station, text, text)} - {*keys}  # its key in earlier versions, with the same secrets
        if len(redact(text)) <= MAX_SHOWN and key == _key(station, text, redact(text)):  # whatever the secrets were
            query = select(row.sink).where(row.sink.startswith(_shown(station, text) + "#", autoescape=True)).distinct()
            alike = {sink for sink in session.scalars(query) if sink_name(sink) == sink_name(key)}
            known |= alike - {*keys}
        has = select(other.id).where(other.sink == key, other.inspection_id == row.inspection_id).exists()
        undelivered = row.sink.in_(known) & row.delivered_at.is_(None) & ~has
        change = update(row).where(undelivered).values(sink=key)
        session.execute(change, execution_options={"synchronize_session": False})


def count_unconfigured(session: Session, station: str, texts: Sequence[str]) -> dict[str, int]:
    """Results of this station that wait for sinks which it was not started with, by the sinks' names."""
    row = OutboxRow
    query = select(row.sink, func.count()).join(InspectionRow, InspectionRow.id == row.inspection_id)
    query = query.where(is_pending(), InspectionRow.station == station, row.sink.not_in(sink_keys(station, texts)))
    named: Counter[str] = Counter()
    for sink, number in session.execute(query.group_by(row.sink)):
        named[sink_name(sink).removeprefix(f"{station}/")] += number
    return dict(named)
