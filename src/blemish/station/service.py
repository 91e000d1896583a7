"""From images that come in to recorded answers: a bounded queue, small batches, and a commit before every answer."""

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blemish.errors import BlemishError, DataError, ImageError
from blemish.inspection.inspector import Inspector
from blemish.inspection.pipeline import Unreadable
from blemish.inspection.result import Inspection
from blemish.station import record
from blemish.station.database import Database
from blemish.station.keeping import keep, keeps
from blemish.station.models import RecipeRow
from blemish.station.recipes import Inspectors
from blemish.station.record import Arrival
from blemish.station.schemas import InspectionOut, inspection_out
from blemish.station.settings import Settings

log = logging.getLogger("blemish.station")


class QueueFullError(BlemishError):
    """As many parts as the station takes are waiting; come again."""


class NotAnsweredError(BlemishError):
    """There is no valid answer for a part, through no fault of its image. Never a pass."""


@dataclass(slots=True)
class Ticket:
    """A part that waits for its answer; the file is the service's own from now on."""

    arrival: Arrival
    file: Path
    record_failure: bool = False  # an unreadable image too is recorded, with the verdict to review
    taken: float = field(default_factory=time.monotonic)
    answer: "Future[InspectionOut]" = field(default_factory=Future)


Outcome = tuple[Ticket, Inspection | str]  # a string: why there is no inspection


class Service:
    """The threads of a station. `take` a place, then `submit` a ticket, or `give_up` the place."""

    def __init__(
        self, settings: Settings, database: Database, on_answer: Callable[[InspectionOut, float], None]
    ) -> None:
        self.settings = settings
        self.database = database
        self.inspectors = Inspectors(settings)
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._taken = 0  # places: parts on their way in, waiting, or in work
        self._coming = 0  # of them, on their way in
        self._by_key: dict[str, Ticket] = {}
        self._waiting: queue.Queue[Ticket | None] = queue.Queue()
        self._outcomes: queue.Queue[list[Outcome] | None] = queue.Queue()
        self._runners: list[threading.Thread] = []
        self._recorder = threading.Thread(target=self._record_all, name="blemish-record", daemon=True)
        self._busy: dict[int, float] = {}  # runner -> since when

    def start(self) -> None:
        self._recorder.start()
        for index in range(self.settings.runners):
            runner = threading.Thread(target=self._run, args=(index,), name=f"blemish-run-{index}", daemon=True)
            self._runners.append(runner)
            runner.start()

    def stop(self) -> None:
        """Answer what waits, then end."""
        for _ in self._runners:
            self._waiting.put(None)
        for runner in self._runners:
            runner.join()
        self._outcomes.put(None)
        self._recorder.join()

    @property
    def depth(self) -> int:
        """Parts taken in and not yet answered."""
        return self._taken

    def stalled(self) -> bool:
        """Whether a thread has died, or a batch has been in work for longer than an answer may take."""
        alive = self._recorder.is_alive() and all(runner.is_alive() for runner in self._runners)
        limit = time.monotonic() - self.settings.time_limit_s
        return not alive or any(since < limit for since in list(self._busy.values()))

    def take(self) -> None:
        """Take a place in the queue; raises QueueFullError."""
        with self._lock:
            if self._taken >= self.settings.queue_depth:
                raise QueueFullError(f"all {self.settings.queue_depth} places in the queue are taken; come again")
            self._taken += 1
            self._coming += 1

    def give_up(self) -> None:
        """Leave a place that no ticket was submitted for."""
        with self._lock:
            self._taken -= 1
            self._coming -= 1

    def submit(self, ticket: Ticket) -> "Future[InspectionOut]":
        """The answer to come, in the place that was taken. A key that is known gets the answer of its first part.

        Raises DataError for a key that was used for another image; the place is free again then.
        """
        key = ticket.arrival.key
        try:
            with self._lock:
                twin = None if key is None else self._by_key.get(key)
                if twin is None:
                    earlier = None if key is None else self._recorded(key)
                    if earlier is None:
                        if key is not None:
                            self._by_key[key] = ticket
                        self._coming -= 1
                        self._waiting.put(ticket)
                        return ticket.answer
            known = earlier.image_sha256 if twin is None else twin.arrival.image_sha256
            if known != ticket.arrival.image_sha256:
                raise DataError("this idempotency key was used for another image; take a new one for each part")
        except BaseException:
            ticket.file.unlink(missing_ok=True)
            self.give_up()
            raise
        ticket.file.unlink(missing_ok=True)
        self.give_up()
        if twin is not None:
            return twin.answer
        ticket.answer.set_result(earlier)
        return ticket.answer

    def _recorded(self, key: str) -> InspectionOut | None:
        with self.database.reading() as session:
            row = record.by_key(session, key)
            return None if row is None else inspection_out(row)

    def _run(self, index: int) -> None:
        while (batch := self._next_batch()) is not None:
            self._busy[index] = time.monotonic()
            by_recipe = defaultdict(list)
            for ticket in batch:
                by_recipe[ticket.arrival.recipe_id].append(ticket)
            for recipe_id, tickets in by_recipe.items():
                self._outcomes.put(self._inspect(recipe_id, tickets))
            self._busy.pop(index, None)

    def _next_batch(self) -> list[Ticket] | None:
        """The parts that wait; a little is waited for more only while some are on their way in."""
        first = self._waiting.get()
        if first is None:
            return None
        batch = [first]
        until = time.monotonic() + self.settings.batch_wait_ms / 1000
        while len(batch) < self.settings.batch_size:
            left = until - time.monotonic()
            try:
                more = self._waiting.get(timeout=left) if self._coming and left > 0 else self._waiting.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._waiting.put(None)
                break
            batch.append(more)
        return batch

    def _inspect(self, recipe_id: int, tickets: list[Ticket]) -> list[Outcome]:
        try:
            with self.database.reading() as session:
                inspector = self.inspectors.get(session.get_one(RecipeRow, recipe_id))
            return list(zip(tickets, _inspected(inspector, [ticket.file for ticket in tickets]), strict=True))
        except Exception as error:  # whatever it is: these parts have no valid answer, and the others go on
            log.exception("a batch of %d could not be inspected", len(tickets))
            return [(ticket, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") for ticket in tickets]

    def _record_all(self) -> None:
        while (outcomes := self._outcomes.get()) is not None:
            self._record(outcomes)

    def _record(self, outcomes: list[Outcome]) -> None:
        """Commit first, answer then."""
        wanted = [outcome for outcome in outcomes if _is_recorded(outcome)]
        answers: dict[int, InspectionOut | Exception] = {}
        paths = {id(ticket): self._kept(ticket, found) for ticket, found in wanted}
        try:
            with self.database.writing() as session:
                answers |= {id(t): self._store(session, t, found, paths[id(t)]) for t, found in wanted}
        except IntegrityError:  # another station on the same database has one of the keys
            answers |= {id(t): self._store_alone(t, found, paths[id(t)]) for t, found in wanted}
        except Exception as error:
            log.exception("%d inspections could not be recorded", len(wanted))
            reason = NotAnsweredError(
                f"the inspection could not be recorded ({type(error).__name__}); no verdict is given"
            )
            answers |= {id(ticket): reason for ticket, _ in wanted}
        for ticket, found in outcomes:
            self._answer(ticket, answers.get(id(ticket)) or ImageError(str(found)))

    def _kept(self, ticket: Ticket, found: Inspection | str) -> str | None:
        verdict = "review" if isinstance(found, str) else found.verdict.value
        try:
            return keep(ticket.file, self.settings.images) if keeps(self.settings.keep, verdict) else None
        except OSError:
            log.exception("an image could not be kept; its inspection is recorded without it")
            return None

    def _store(self, session: Session, ticket: Ticket, found: Inspection | str, path: str | None) -> InspectionOut:
        row = record.store(
            session,
            ticket.arrival,
            None if isinstance(found, str) else found,
            station=self.settings.station,
            image_path=path,
            sinks=[f"{self.settings.station}/{sink}" for sink in self.settings.sinks],
            error=found if isinstance(found, str) else None,
        )
        return inspection_out(row)

    def _store_alone(self, ticket: Ticket, found: Inspection | str, path: str | None) -> InspectionOut | Exception:
        try:
            with self.database.writing() as session:
                return self._store(session, ticket, found, path)
        except IntegrityError as error:
            earlier = self._recorded(ticket.arrival.key or "")
            return (
                NotAnsweredError(f"the inspection could not be recorded: {error.orig}") if earlier is None else earlier
            )
        except Exception as error:
            log.exception("an inspection could not be recorded")
            return NotAnsweredError(
                f"the inspection could not be recorded ({type(error).__name__}); no verdict is given"
            )

    def _answer(self, ticket: Ticket, answer: InspectionOut | Exception) -> None:
        with self._lock:
            self._taken -= 1
            if ticket.arrival.key is not None:
                self._by_key.pop(ticket.arrival.key, None)
        ticket.file.unlink(missing_ok=True)
        if isinstance(answer, Exception):
            ticket.answer.set_exception(answer)
            return
        ticket.answer.set_result(answer)
        self._on_answer(answer, time.monotonic() - ticket.taken)


def _inspected(inspector: Inspector, files: list[Path]) -> list[Inspection | str]:
    if len(files) == 1:  # without the pipeline's threads
        try:
            return [inspector.inspect(files[0])]
        except ImageError as error:
            return [_unnamed(str(error), files[0])]
    found = inspector.inspect(files, on_error="report", workers=2)
    return [_unnamed(f.message, p) if isinstance(f, Unreadable) else f for f, p in zip(found, files, strict=True)]


def _unnamed(message: str, file: Path) -> str:
    """A message without our own name of the file, which tells nobody anything."""
    return message.replace(f" {file}", "").replace(str(file), "the image")


def _is_recorded(outcome: Outcome) -> bool:
    """A sender is told that an image is unreadable, and may send another; nobody waits for a file from a folder."""
    ticket, found = outcome
    return ticket.record_failure or not isinstance(found, str)
