"""From images that come in to recorded answers: a bounded queue, small batches, and a commit before every answer."""

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from blemish.errors import BlemishError, DataError, ImageError
from blemish.imaging.read import read_image
from blemish.inspection.inspector import Inspector
from blemish.inspection.pipeline import Unreadable
from blemish.inspection.result import Inspection
from blemish.station import repository as record
from blemish.station.database import Database
from blemish.station.image_store import check_pixels, unnamed
from blemish.station.models import RecipeRow
from blemish.station.persist import record_all, unrecorded
from blemish.station.quality import References
from blemish.station.recipes import Inspectors
from blemish.station.schemas import InspectionOut, inspection_out
from blemish.station.settings import Settings
from blemish.station.tickets import NotAnsweredError, Outcome, QueueFullError, Ticket, new_future

log = logging.getLogger("blemish.station")
QUALITY_S = 1.0  # between two pictures whose quality is measured: drift is slow, and the line is not


class Service:
    """The threads of a station. `take` a place, then `submit` a ticket, or `give_up` the place."""

    def __init__(
        self, settings: Settings, database: Database, on_answer: Callable[[InspectionOut, float], None]
    ) -> None:
        self.settings = settings
        self.database = database
        self.inspectors = Inspectors(settings)
        self._references = References(settings.references)
        self._measured = -QUALITY_S
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
        try:
            with self._lock:
                earlier = self._earlier(ticket.arrival.key)
                if earlier is None:
                    if ticket.arrival.key is not None:
                        self._by_key[ticket.arrival.key] = ticket
                    self._coming -= 1
                    self._waiting.put(ticket)
                    return ticket.answer
        except BaseException:
            self._turn_away(ticket)
            raise
        self._turn_away(ticket)
        sha256, answer = earlier
        if sha256 != ticket.arrival.image_sha256:
            raise DataError("this idempotency key was used for another image; take a new one for each part")
        return answer

    def _turn_away(self, ticket: Ticket) -> None:
        ticket.file.unlink(missing_ok=True)
        self.give_up()

    def _earlier(self, key: str | None) -> "tuple[str, Future[InspectionOut]] | None":
        """The image's hash and the answer of the part that came first with a key."""
        if key is None:
            return None
        if key in self._by_key:
            twin = self._by_key[key]
            return twin.arrival.image_sha256, twin.answer
        known = self._recorded(key)
        if known is None:
            return None
        answer = new_future()
        answer.set_result(known)
        return known.image_sha256, answer

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
        files = [ticket.file for ticket in tickets]
        try:
            inspector = self._inspector(recipe_id)
            outcomes = list(zip(tickets, _inspected(inspector, files, self.settings.max_pixels), strict=True))
            self._measure_quality(outcomes)
            return outcomes
        except Exception as error:  # whatever it is: these parts have no valid answer, and the others go on
            if len(tickets) > 1:  # the fault of one part is not that of its neighbours
                return [outcome for ticket in tickets for outcome in self._inspect(recipe_id, [ticket])]
            log.exception("a part could not be inspected")
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return [(tickets[0], NotAnsweredError(reason))]

    def _inspector(self, recipe_id: int) -> Inspector:
        opened = self.inspectors.opened(recipe_id)
        if opened is not None:
            return opened
        with self.database.reading() as session:
            return self.inspectors.get(session.get_one(RecipeRow, recipe_id))

    def _measure_quality(self, outcomes: list[Outcome]) -> None:
        """Of one picture among them, if it is time; no part goes without an answer because of it."""
        ticket = next((ticket for ticket, found in outcomes if isinstance(found, Inspection)), None)
        if ticket is None or time.monotonic() < self._measured + QUALITY_S:
            return
        self._measured = time.monotonic()
        try:
            image = read_image(ticket.file, self.settings.max_pixels)
            ticket.quality = self._references.measure(image, ticket.arrival.recipe_id)
        except Exception:
            log.exception("the quality of a picture could not be measured")

    def _record_all(self) -> None:
        while (outcomes := self._outcomes.get()) is not None:
            try:
                answers = record_all(self.database, self.settings, outcomes)
                for (ticket, _), answer in zip(outcomes, answers, strict=True):
                    self._answer(ticket, answer)
            except Exception as error:
                log.exception("%d parts could not be answered", len(outcomes))
                for ticket, _ in outcomes:
                    if not ticket.answer.done():
                        self._answer(ticket, unrecorded(error))

    def _answer(self, ticket: Ticket, answer: InspectionOut | BlemishError) -> None:
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


def _inspected(inspector: Inspector, files: list[Path], max_pixels: int) -> list[Inspection | BlemishError]:
    """An inspection of each file, or the ImageError of one that is no image, or too large a one."""
    found: dict[Path, Inspection | BlemishError] = {}
    for file in files:
        try:
            check_pixels(file, max_pixels)
        except ImageError as error:
            found[file] = error
    sound = [file for file in files if file not in found]
    if len(sound) == 1:  # without the pipeline's threads
        try:
            found[sound[0]] = inspector.inspect(sound[0])
        except ImageError as error:
            found[sound[0]] = ImageError(unnamed(str(error), sound[0]))
    elif sound:
        for file, result in zip(sound, inspector.inspect(sound, on_error="report", workers=2), strict=True):
            found[file] = ImageError(unnamed(result.message, file)) if isinstance(result, Unreadable) else result
    return [found[file] for file in files]
