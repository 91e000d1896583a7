"""Records the results of a batch in one transaction, before any of them is answered."""

import logging
from collections.abc import Sequence

from sqlalchemy.exc import DataError as RefusedValueError
from sqlalchemy.exc import IntegrityError

from blemish.errors import BlemishError
from blemish.inspection.result import Inspection, Verdict
from blemish.station import repository
from blemish.station.database import Database
from blemish.station.image_store import is_disk_full, should_store, store_image
from blemish.station.recipes import KnownRecipes
from blemish.station.repository import NewInspection
from blemish.station.schemas import InspectionOut, inspection_out, stored_out
from blemish.station.settings import Settings
from blemish.station.sink_keys import sink_keys
from blemish.station.tickets import NotAnsweredError, Ticket, TicketResult, WithdrawnError

log = logging.getLogger("blemish.station")
TicketAnswer = InspectionOut | BlemishError
NewEntry = tuple[Ticket, NewInspection]


class Recorder:
    """Writes to the record of one station."""

    def __init__(self, database: Database, settings: Settings, recipes: KnownRecipes) -> None:
        self._database = database
        self._settings = settings
        self._recipes = recipes
        self._sinks = sink_keys(settings.station, settings.sinks)

    def persist_batch(self, results: Sequence[TicketResult]) -> list[TicketAnswer]:
        """The answer to each result; every InspectionOut among them is committed; no part taken back is."""
        results = [(ticket, result if ticket.stands() else WithdrawnError()) for ticket, result in results]
        wanted = [(ticket, result) for ticket, result in results if _is_wanted(ticket, result)]
        new = [(ticket, self._prepare(ticket, result)) for ticket, result in wanted]
        try:
            made = self._store(new) if new else []
        except (IntegrityError, RefusedValueError):
            # Another station on the same database has one of the keys, or one row is refused: the others are sound.
            made = [self._store_alone(entry) for entry in new]
        except Exception as error:
            log.exception("%d inspections could not be recorded", len(wanted))
            made = [not_recorded(error) for _ in wanted]
        answers = {id(ticket): answer for (ticket, _), answer in zip(wanted, made, strict=True)}
        # An unreadable image is the sender's error, who may send another one, so it has an answer of its own.
        return [answers.get(id(ticket), result) for ticket, result in results]  # type: ignore[arg-type]

    def _prepare(self, ticket: Ticket, result: Inspection | BlemishError) -> NewInspection:
        return NewInspection(ticket.part, result, _store_image(self._settings, ticket, result), ticket.image_quality)

    def _store(self, new: Sequence[NewEntry]) -> list[TicketAnswer]:
        refs = [self._recipes.ref(entry.part.recipe_id) for _, entry in new]
        with self._database.writing() as session:
            stand = [ticket.stands() for ticket, _ in new]  # again, for the wait for the database may be long
            kept = [entry for (_, entry), stands in zip(new, stand, strict=True) if stands]
            made = repository.store_inspections(
                session, kept, record=self._database.record, station=self._settings.station, sinks=self._sinks
            )
            stored = iter(made)
            return [
                stored_out(next(stored), ref) if stands else WithdrawnError()
                for ref, stands in zip(refs, stand, strict=True)
            ]

    def _store_alone(self, new: NewEntry) -> TicketAnswer:
        """One result; where its key was recorded meanwhile, the answer that was given then."""
        try:
            return self._store([new])[0]
        except IntegrityError as error:
            with self._database.reading() as session:
                row = repository.find_by_key(session, new[1].part.key or "")
                return not_recorded(error) if row is None else inspection_out(row)
        except Exception as error:
            log.exception("an inspection could not be recorded")
            return not_recorded(error)


def _is_wanted(ticket: Ticket, result: Inspection | BlemishError) -> bool:
    """Whether a result is recorded; one that is no inspection is for some senders only."""
    return isinstance(result, Inspection) or (ticket.record_failure and not isinstance(result, WithdrawnError))


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
