"""Records the results of a batch in one transaction, before any of them is answered."""

import logging
from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blemish.errors import BlemishError
from blemish.inspection.result import Inspection, Verdict
from blemish.station import repository
from blemish.station.database import Database
from blemish.station.image_store import is_disk_full, should_store, store_image
from blemish.station.schemas import InspectionOut, inspection_out
from blemish.station.settings import Settings
from blemish.station.sinks import sink_key
from blemish.station.tickets import NotAnsweredError, Ticket, TicketResult

log = logging.getLogger("blemish.station")
TicketAnswer = InspectionOut | BlemishError


def persist_batch(database: Database, settings: Settings, results: Sequence[TicketResult]) -> list[TicketAnswer]:
    """The answer to each result; every InspectionOut among them is committed."""
    wanted = [(ticket, result, _store_image(settings, ticket, result)) for ticket, result in results
              if ticket.record_failure or isinstance(result, Inspection)]  # fmt: skip
    try:
        with database.writing() as session:
            made: list[TicketAnswer] = [_store(session, settings, *entry) for entry in wanted]
    except IntegrityError:  # another station on the same database has one of the keys
        made = [_store_alone(database, settings, *entry) for entry in wanted]
    except Exception as error:
        log.exception("%d inspections could not be recorded", len(wanted))
        made = [not_recorded(error) for _ in wanted]
    answers = {id(ticket): answer for (ticket, _, _), answer in zip(wanted, made, strict=True)}
    # An unreadable image is the sender's error, who may send another one, so it has an answer of its own.
    return [answers.get(id(ticket), result) for ticket, result in results]  # type: ignore[arg-type]


def not_recorded(error: Exception) -> NotAnsweredError:
    return NotAnsweredError(f"the inspection could not be recorded ({type(error).__name__}); no verdict is given")


def _store_image(settings: Settings, ticket: Ticket, result: Inspection | BlemishError) -> str | None:
    verdict = result.verdict if isinstance(result, Inspection) else Verdict.REVIEW
    try:
        return store_image(ticket.file, settings.images) if should_store(settings.keep, verdict) else None
    except OSError as error:
        if is_disk_full(error):
            raise
        log.exception("an image could not be stored; its inspection is recorded without it")
        return None


def _store(
    session: Session, settings: Settings, ticket: Ticket, result: Inspection | BlemishError, path: str | None
) -> InspectionOut:
    row = repository.store_inspection(
        session,
        ticket.part,
        result,
        station=settings.station,
        image_path=path,
        sinks=[sink_key(settings.station, sink) for sink in settings.sinks],
        image_quality=ticket.image_quality,
    )
    return inspection_out(row)


def _store_alone(
    database: Database, settings: Settings, ticket: Ticket, result: Inspection | BlemishError, path: str | None
) -> TicketAnswer:
    """One result; where its key was recorded meanwhile, the answer that was given then."""
    try:
        with database.writing() as session:
            return _store(session, settings, ticket, result, path)
    except IntegrityError as error:
        with database.reading() as session:
            row = repository.find_by_key(session, ticket.part.key or "")
            return not_recorded(error) if row is None else inspection_out(row)
    except Exception as error:
        log.exception("an inspection could not be recorded")
        return not_recorded(error)
