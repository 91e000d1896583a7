"""The outcomes of a batch written down in one transaction, before any of them is answered."""

import logging
from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blemish.errors import BlemishError
from blemish.inspection.result import Inspection
from blemish.station import repository as record
from blemish.station.database import Database
from blemish.station.image_store import keep, keeps
from blemish.station.schemas import InspectionOut, inspection_out
from blemish.station.settings import Settings
from blemish.station.sinks import sink_key
from blemish.station.tickets import NotAnsweredError, Outcome, Ticket

log = logging.getLogger("blemish.station")
Answer = InspectionOut | BlemishError


def record_all(database: Database, settings: Settings, outcomes: Sequence[Outcome]) -> list[Answer]:
    """What to answer to each outcome; every InspectionOut among them is committed."""
    wanted = [(ticket, found, _kept(settings, ticket, found)) for ticket, found in outcomes if _is_kept(ticket, found)]
    try:
        with database.writing() as session:
            made: list[Answer] = [_store(session, settings, *outcome) for outcome in wanted]
    except IntegrityError:  # another station on the same database has one of the keys
        made = [_record_alone(database, settings, *outcome) for outcome in wanted]
    except Exception as error:
        log.exception("%d inspections could not be recorded", len(wanted))
        made = [unrecorded(error) for _ in wanted]
    answers = {id(ticket): answer for (ticket, _, _), answer in zip(wanted, made, strict=True)}
    return [answers[id(ticket)] if id(ticket) in answers else _as_error(found) for ticket, found in outcomes]


def unrecorded(error: Exception) -> NotAnsweredError:
    return NotAnsweredError(f"the inspection could not be recorded ({type(error).__name__}); no verdict is given")


def _is_kept(ticket: Ticket, found: Inspection | BlemishError) -> bool:
    """A sender is told that an image is unreadable, and may send another; nobody waits for a file from a folder."""
    return ticket.record_failure or isinstance(found, Inspection)


def _as_error(found: Inspection | BlemishError) -> BlemishError:
    return found if isinstance(found, BlemishError) else NotAnsweredError("the inspection was not recorded")


def _kept(settings: Settings, ticket: Ticket, found: Inspection | BlemishError) -> str | None:
    verdict = found.verdict.value if isinstance(found, Inspection) else "review"
    try:
        return keep(ticket.file, settings.images) if keeps(settings.keep, verdict) else None
    except OSError:
        log.exception("an image could not be kept; its inspection is recorded without it")
        return None


def _store(
    session: Session, settings: Settings, ticket: Ticket, found: Inspection | BlemishError, path: str | None
) -> InspectionOut:
    row = record.store(
        session,
        ticket.arrival,
        found if isinstance(found, Inspection) else None,
        station=settings.station,
        image_path=path,
        sinks=[sink_key(settings.station, sink) for sink in settings.sinks],
        error=None if isinstance(found, Inspection) else str(found),
        quality=ticket.quality,
    )
    return inspection_out(row)


def _record_alone(
    database: Database, settings: Settings, ticket: Ticket, found: Inspection | BlemishError, path: str | None
) -> Answer:
    """One outcome; where its key was recorded meanwhile, the answer that was given then."""
    try:
        with database.writing() as session:
            return _store(session, settings, ticket, found, path)
    except IntegrityError as error:
        with database.reading() as session:
            row = record.by_key(session, ticket.arrival.key or "")
            return unrecorded(error) if row is None else inspection_out(row)
    except Exception as error:
        log.exception("an inspection could not be recorded")
        return unrecorded(error)
