"""From received images to recorded answers: a bounded queue, small batches, and a commit before every answer."""

import hashlib
import json
import logging
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO

from blemish.errors import DataError, ImageError
from blemish.inspection.result import Inspection
from blemish.station.database import Database
from blemish.station.failures import Cause, Failures, failure_cause
from blemish.station.image_batch import inspect_files
from blemish.station.image_store import check_disk, check_pixels, pixel_limit, receive_file
from blemish.station.models import RecipeRow
from blemish.station.persist import Recorder, TicketAnswer, not_recorded
from blemish.station.quality_sampling import QualitySampling
from blemish.station.recipe_views import PartInspector, ViewsInspector
from blemish.station.recipes import Inspectors, KnownRecipes
from blemish.station.repository import IncomingPart, find_by_keys
from blemish.station.schemas import InspectionOut, inspection_out
from blemish.station.settings import Settings
from blemish.station.source_states import SourceStates
from blemish.station.tickets import EngineFailedError, QueueFullError, Ticket, TicketResult, WithdrawnError

log = logging.getLogger("blemish.station")
SLOT_WAIT_S = 0.05
ACTIVE_S = 10.0  # after its last part, for which a sender keeps its share of the queue
RECEIVING_FACTOR = 2  # bodies on their way in, by places of the queue
SUBMITTERS = 8  # threads that take bodies
MAX_COMMITTED = 64  # parts in one transaction: results that came while the last one was written go together
OTHER_PART = "this idempotency key was used for another part (image, part_id, lot or recipe); use a new one for each"


class InspectionService:
    """The threads of a station. `reserve` a slot of the queue, then `submit` a part in it, or `release` it."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        on_answer: Callable[[InspectionOut, float], None],
        on_failure: Callable[[Cause], None],
    ) -> None:
        self.settings = settings
        self.database = database
        self.inspectors = Inspectors(settings, database)
        self.recipes = KnownRecipes(database)
        self._persist = Recorder(database, settings, self.recipes).persist_batch
        self.sources = SourceStates()
        self._quality = QualitySampling(settings.references, settings.max_pixels)
        self._on_answer = on_answer
        self.failures = Failures(on_failure)
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()  # slots by sender: whole parts that are waiting or in work
        self._seen: dict[str, float] = {}  # sender -> when it last sent a part
        self._receiving = 0  # bodies that are on their way in
        self._by_key: dict[str, Ticket] = {}
        self._by_answer: dict[Future[InspectionOut], Ticket] = {}
        # Of its own: requests of viewers that wait for the database take no thread from the line.
        self.pool = ThreadPoolExecutor(SUBMITTERS, "blemish-submit")
        self._waiting: queue.Queue[Ticket | None] = queue.Queue()
        self._results: queue.Queue[list[TicketResult] | None] = queue.Queue()
        self._runners: list[threading.Thread] = []
        self._recorder = threading.Thread(target=self._record_results, name="blemish-record", daemon=True)
        self._busy: dict[int, float] = {}  # runner -> since when

    def start(self) -> None:
        self._recorder.start()
        for index in range(self.settings.runners):
            runner = threading.Thread(target=self._run, args=(index,), name=f"blemish-run-{index}", daemon=True)
            self._runners.append(runner)
            runner.start()

    def stop(self) -> None:
        """Answer the waiting parts, then end."""
        for _ in self._runners:
            self._waiting.put(None)
        for runner in self._runners:
            runner.join()
        self._results.put(None)
        self._recorder.join()
        self.pool.shutdown(wait=False, cancel_futures=True)

    @property
    def depth(self) -> int:
        """Parts received whole and not yet answered."""
        return self._held.total()

    def stalled(self) -> bool:
        """Whether a thread has died, or a batch has been in work for longer than an answer may take."""
        alive = self._recorder.is_alive() and all(runner.is_alive() for runner in self._runners)
        limit = time.monotonic() - self.settings.time_limit_s
        return not alive or any(since < limit for since in list(self._busy.values()))

    @contextmanager
    def receiving(self, sender: str) -> Iterator[None]:
        """While a body arrives, which takes no place in the queue; raises QueueFullError where it would find none."""
        with self._lock:
            self._check_share(sender)
            if self._receiving >= RECEIVING_FACTOR * self.settings.queue_depth:
                raise QueueFullError(f"{self._receiving} parts are being received; retry later")
            self._receiving += 1
        try:
            yield
        finally:
            with self._lock:
                self._receiving -= 1

    def reserve(self, sender: str = "") -> None:
        """Reserve a slot of the queue for a part that has arrived; raises QueueFullError."""
        with self._lock:
            self._check_share(sender)
            self._held[sender] += 1

    def _check_share(self, sender: str) -> None:
        """Senders that were active lately share the queue; one alone may fill it."""
        depth, now = self.settings.queue_depth, time.monotonic()
        self._seen[sender] = now
        if self._held.total() >= depth:
            raise QueueFullError(f"queue full ({depth} parts waiting); retry later")
        active = [name for name, seen in self._seen.items() if self._held[name] or seen > now - ACTIVE_S]
        self._seen = {name: self._seen[name] for name in active}
        share = -(-depth // len(active))
        if self._held[sender] >= share:
            raise QueueFullError(f"queue full ({share} parts of {sender or 'this sender'} waiting); retry later")

    def wait_for_slot(self, stop: threading.Event, poll_s: float = SLOT_WAIT_S, sender: str = "") -> bool:
        """Reserve a slot as soon as one is free; False where `stop` was set first."""
        while not stop.is_set():
            try:
                self.reserve(sender)
                return True
            except QueueFullError:
                stop.wait(poll_s)
        return False

    def release(self, sender: str = "") -> None:
        """Free a slot in which no part was submitted."""
        with self._lock:
            self._free(sender)

    def _free(self, sender: str) -> None:
        self._held[sender] -= 1
        if not self._held[sender]:
            del self._held[sender]

    @contextmanager
    def release_on_error(self, sender: str = "") -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.release(sender)
            raise

    def submit_image(
        self,
        stream: BinaryIO,
        recipe: int | str | None,
        origin: str,
        *,
        part_id: str | None = None,
        lot: str | None = None,
        key: str | None = None,
        hashed_key: str | None = None,
        record_failure: bool = False,
        sender: str = "",
        stands: Callable[[], bool] = lambda: True,
    ) -> "Future[InspectionOut]":
        """Receive an image in the reserved slot; its future answer. On an error the slot is released.

        `recipe` is an id, or a name or id as text; None: the active recipe. `hashed_key` is the start of a key that
        ends with the image's hash. Where `stands` is not so at the commit, the part is not recorded: WithdrawnError.
        """
        with self.release_on_error(sender):
            check_disk(self.settings.data)
            wanted = recipe
            if not isinstance(recipe, int):
                recipe = self.recipes.resolve(recipe)
            file = receive_file(stream, self.settings.incoming, self.settings.max_image_bytes)
            try:
                if not record_failure:  # by its header; nothing of it is decoded
                    check_pixels(file.path, self._max_pixels(recipe))
            except ImageError:
                file.path.unlink(missing_ok=True)
                raise
            key = key if hashed_key is None else f"{hashed_key}-{file.sha256}"
            sent = json.dumps([file.sha256, part_id, lot, wanted])
            request = None if key is None else hashlib.sha256(sent.encode()).hexdigest()
            part = IncomingPart(recipe, file.sha256, file.size, origin, part_id, lot, key, request)
        return self.submit(Ticket(part, file.path, sender, record_failure, stands=stands))

    def submit(self, ticket: Ticket) -> "Future[InspectionOut]":
        """The future answer, in the reserved slot. A known key gets the answer of its first part.

        The error of a key that was used for another part is DataError: raised where that part is in work, and the slot
        is released then; else the answer's.
        """
        key = ticket.part.key
        with self._lock:
            first = None if key is None else self._by_key.setdefault(key, ticket)
            if first is not None and first is not ticket and first.part.is_same_request(ticket.part):
                first.waiting += 1
        if first is not None and first is not ticket:
            self._discard(ticket)
            if not first.part.is_same_request(ticket.part):
                raise DataError(OTHER_PART)
            return first.answer
        with self._lock:
            self._by_answer[ticket.answer] = ticket
        self._waiting.put(ticket)
        return ticket.answer

    def abandon(self, answer: "Future[InspectionOut]") -> None:
        """A sender is gone: its part is dropped, unless it is in work or another sender waits for the same answer."""
        with self._lock:
            ticket = self._by_answer.get(answer)
            if ticket is None:
                return
            ticket.waiting -= 1
            if ticket.waiting or ticket.started:
                return
            ticket.started = True  # nobody else may take it
        self._end(ticket, WithdrawnError("the sender is gone"))

    def _end(self, ticket: Ticket, answer: InspectionOut | BaseException) -> None:
        """Free a ticket's slot and key, delete its file, and answer all that wait for it."""
        with self._lock:
            self._free(ticket.sender)
            self._by_answer.pop(ticket.answer, None)
            if ticket.part.key is not None and self._by_key.get(ticket.part.key) is ticket:
                del self._by_key[ticket.part.key]
        ticket.file.unlink(missing_ok=True)
        if isinstance(answer, BaseException):
            self.failures.count(answer)
            ticket.answer.set_exception(answer)
        else:
            ticket.answer.set_result(answer)

    def _begin(self, ticket: Ticket) -> bool:
        """Take a ticket into work; False where it was dropped."""
        with self._lock:
            dropped, ticket.started = ticket.started, True
        return not dropped

    def _max_pixels(self, recipe_id: int) -> int:
        inspector = self.inspectors.opened(recipe_id)
        limit = self.settings.max_pixels
        if inspector is None:
            return limit
        views = inspector.views if isinstance(inspector, ViewsInspector) else 1
        return min(limit, views * pixel_limit(inspector.manifest))

    def _discard(self, ticket: Ticket) -> None:
        ticket.file.unlink(missing_ok=True)
        self.release(ticket.sender)

    def _run(self, index: int) -> None:
        while (batch := self._next_batch()) is not None:
            self._busy[index] = time.monotonic()
            by_recipe = defaultdict(list)
            for ticket in self._answer_recorded(batch):
                by_recipe[ticket.part.recipe_id].append(ticket)
            for recipe_id, tickets in by_recipe.items():
                self._results.put(self._inspect(recipe_id, tickets))
            self._busy.pop(index, None)

    def _answer_recorded(self, batch: list[Ticket]) -> list[Ticket]:
        """Answer the tickets whose keys are in the record, with one query for all; the other tickets."""
        keys = [ticket.part.key for ticket in batch if ticket.part.key is not None]
        if not keys:
            return batch
        try:
            with self.database.reading() as session:
                answers = {
                    key: (IncomingPart.of_row(row), inspection_out(row))
                    for key, row in find_by_keys(session, keys).items()
                }
        except Exception as error:  # whether they are recorded is unknown, so they cannot be inspected
            self.failures.fails("database", type(error).__name__)
            for ticket in batch:
                self._end(ticket, error)
            return []
        new = []
        for ticket in batch:
            part, answer = answers.get(ticket.part.key or "", (None, None))
            if part is None or answer is None:
                new.append(ticket)
            else:
                self._end(ticket, answer if part.is_same_request(ticket.part) else DataError(OTHER_PART))
        return new

    def _next_batch(self) -> list[Ticket] | None:
        """The waiting parts; waits a little for more of them, but only while some are being received."""
        batch: list[Ticket] = []
        until = 0.0
        while len(batch) < self.settings.batch_size:
            left = until - time.monotonic()
            try:
                if not batch:
                    more = self._waiting.get()
                elif self._receiving and left > 0:
                    more = self._waiting.get(timeout=left)
                else:
                    more = self._waiting.get_nowait()
            except queue.Empty:
                break
            if more is None:
                if not batch:
                    return None
                self._waiting.put(None)
                break
            if self._begin(more):
                until = until or time.monotonic() + self.settings.batch_wait_ms / 1000
                batch.append(more)
        return batch

    def _inspect(self, recipe_id: int, tickets: list[Ticket]) -> list[TicketResult]:
        files = [ticket.file for ticket in tickets]
        try:
            inspector = self._inspector(recipe_id)
            results = list(zip(tickets, inspect_files(inspector, files, self._max_pixels(recipe_id)), strict=True))
            failed = next((str(result) for _, result in results if isinstance(result, EngineFailedError)), None)
            if failed is not None:
                log.error("a part could not be inspected: %s", failed)
                self.failures.fails("engine", failed)
            elif any(isinstance(result, Inspection) for _, result in results):
                self.failures.works("engine")
            self._quality.measure_one(results)
            return results
        except Exception as error:  # of any kind: these parts have no valid result, and the others go on
            if len(tickets) > 1:  # one part's error must not affect the others of its batch
                return [result for ticket in tickets for result in self._inspect(recipe_id, [ticket])]
            log.exception("a part could not be inspected")
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self.failures.fails("engine", reason)
            return [(tickets[0], EngineFailedError(reason))]

    def _inspector(self, recipe_id: int) -> PartInspector:
        opened = self.inspectors.opened(recipe_id)
        if opened is not None:
            return opened
        with self.database.reading() as session:
            return self.inspectors.get(session.get_one(RecipeRow, recipe_id))

    def _record_results(self) -> None:
        while (results := self._results.get()) is not None:
            results += self._more_results(MAX_COMMITTED - len(results))
            try:
                answers = self._persist(results)
                for (ticket, _), answer in zip(results, answers, strict=True):
                    self._answer(ticket, answer)
            except Exception as error:
                log.exception("%d parts could not be answered", len(results))
                for ticket, _ in results:
                    if not ticket.answer.done():
                        self._answer(ticket, not_recorded(error))

    def _more_results(self, number: int) -> list[TicketResult]:
        """Results that wait already."""
        more: list[TicketResult] = []
        while len(more) < number:
            try:
                results = self._results.get_nowait()
            except queue.Empty:
                break
            if results is None:
                self._results.put(None)
                break
            more += results
        return more

    def _answer(self, ticket: Ticket, answer: TicketAnswer) -> None:
        if not isinstance(answer, Exception):
            self.failures.works("database")
        elif failure_cause(answer) == "database":
            self.failures.fails("database", str(answer))
        self._end(ticket, answer)
        if not isinstance(answer, Exception):
            self._on_answer(answer, time.monotonic() - ticket.submitted)
