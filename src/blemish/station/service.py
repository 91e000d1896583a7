"""From received images to recorded answers: a bounded queue, small batches, and a commit before every answer."""

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blemish.errors import BlemishError, DataError, ImageError
from blemish.imaging.read import read_image
from blemish.inspection.inspector import Inspector
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.result import Inspection
from blemish.station.database import Database
from blemish.station.image_quality import ReferenceImages
from blemish.station.image_store import check_pixels, hide_path, receive_file
from blemish.station.models import RecipeRow
from blemish.station.persist import TicketAnswer, not_recorded, persist_batch
from blemish.station.recipes import Inspectors, resolve_recipe
from blemish.station.repository import IncomingPart, find_by_key
from blemish.station.schemas import InspectionOut, inspection_out
from blemish.station.settings import Settings
from blemish.station.tickets import NotAnsweredError, QueueFullError, Ticket, TicketResult, new_future

log = logging.getLogger("blemish.station")
QUALITY_S = 1.0  # between two images whose quality is measured: drift is slow, and the line is not
SLOT_WAIT_S = 0.05


class InspectionService:
    """The threads of a station. `reserve` a slot of the queue, then `submit` a part in it, or `release` it."""

    def __init__(
        self, settings: Settings, database: Database, on_answer: Callable[[InspectionOut, float], None]
    ) -> None:
        self.settings = settings
        self.database = database
        self.inspectors = Inspectors(settings)
        self._references = ReferenceImages(settings.references)
        self._measured = -QUALITY_S
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._reserved = 0  # slots: parts being received, waiting, or in work
        self._receiving = 0  # of them, being received
        self._by_key: dict[str, Ticket] = {}
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

    @property
    def depth(self) -> int:
        """Parts received and not yet answered."""
        return self._reserved

    def stalled(self) -> bool:
        """Whether a thread has died, or a batch has been in work for longer than an answer may take."""
        alive = self._recorder.is_alive() and all(runner.is_alive() for runner in self._runners)
        limit = time.monotonic() - self.settings.time_limit_s
        return not alive or any(since < limit for since in list(self._busy.values()))

    def reserve(self) -> None:
        """Reserve a slot of the queue; raises QueueFullError."""
        with self._lock:
            if self._reserved >= self.settings.queue_depth:
                raise QueueFullError(f"queue full ({self.settings.queue_depth} parts waiting); retry later")
            self._reserved += 1
            self._receiving += 1

    def wait_for_slot(self, stop: threading.Event, poll_s: float = SLOT_WAIT_S) -> bool:
        """Reserve a slot as soon as one is free; False where `stop` was set first."""
        while not stop.is_set():
            try:
                self.reserve()
                return True
            except QueueFullError:
                stop.wait(poll_s)
        return False

    def release(self) -> None:
        """Free a slot in which no part was submitted."""
        with self._lock:
            self._reserved -= 1
            self._receiving -= 1

    @contextmanager
    def release_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.release()
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
    ) -> "Future[InspectionOut]":
        """Receive an image in the reserved slot; its future answer. On an error the slot is released.

        `recipe` is an id, or a name or id as text; None: the active recipe. `hashed_key` is the start of a key that
        ends with the image's hash.
        """
        with self.release_on_error():
            if not isinstance(recipe, int):
                with self.database.reading() as session:
                    recipe = resolve_recipe(session, recipe)
            file = receive_file(stream, self.settings.incoming, self.settings.max_image_bytes)
            key = key if hashed_key is None else f"{hashed_key}-{file.sha256}"
            part = IncomingPart(recipe, file.sha256, file.size, origin, part_id, lot, key)
        return self.submit(Ticket(part, file.path, record_failure))

    def submit(self, ticket: Ticket) -> "Future[InspectionOut]":
        """The future answer, in the reserved slot. A known key gets the answer of its first part.

        Raises DataError for a key that was used for another image; the slot is released then.
        """
        try:
            with self._lock:
                earlier = self._find_earlier(ticket.part.key)
                if earlier is None:
                    if ticket.part.key is not None:
                        self._by_key[ticket.part.key] = ticket
                    self._receiving -= 1
                    self._waiting.put(ticket)
                    return ticket.answer
        except BaseException:
            self._discard(ticket)
            raise
        self._discard(ticket)
        sha256, answer = earlier
        if sha256 != ticket.part.image_sha256:
            raise DataError("this idempotency key was used for another image; use a new one for each part")
        return answer

    def _discard(self, ticket: Ticket) -> None:
        ticket.file.unlink(missing_ok=True)
        self.release()

    def _find_earlier(self, key: str | None) -> "tuple[str, Future[InspectionOut]] | None":
        """The image's hash and the answer of the first part with a key."""
        if key is None:
            return None
        if key in self._by_key:
            first = self._by_key[key]
            return first.part.image_sha256, first.answer
        with self.database.reading() as session:
            row = find_by_key(session, key)
            recorded = None if row is None else inspection_out(row)
        if recorded is None:
            return None
        answer = new_future()
        answer.set_result(recorded)
        return recorded.image_sha256, answer

    def _run(self, index: int) -> None:
        while (batch := self._next_batch()) is not None:
            self._busy[index] = time.monotonic()
            by_recipe = defaultdict(list)
            for ticket in batch:
                by_recipe[ticket.part.recipe_id].append(ticket)
            for recipe_id, tickets in by_recipe.items():
                self._results.put(self._inspect(recipe_id, tickets))
            self._busy.pop(index, None)

    def _next_batch(self) -> list[Ticket] | None:
        """The waiting parts; for more of them it waits a little, and only while some are being received."""
        first = self._waiting.get()
        if first is None:
            return None
        batch = [first]
        until = time.monotonic() + self.settings.batch_wait_ms / 1000
        while len(batch) < self.settings.batch_size:
            left = until - time.monotonic()
            try:
                more = self._waiting.get(timeout=left) if self._receiving and left > 0 else self._waiting.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._waiting.put(None)
                break
            batch.append(more)
        return batch

    def _inspect(self, recipe_id: int, tickets: list[Ticket]) -> list[TicketResult]:
        files = [ticket.file for ticket in tickets]
        try:
            inspector = self._inspector(recipe_id)
            results = list(zip(tickets, _inspect_files(inspector, files, self.settings.max_pixels), strict=True))
            self._measure_quality(results)
            return results
        except Exception as error:  # whatever it is: these parts have no valid result, and the others go on
            if len(tickets) > 1:  # the fault of one part is not that of its neighbours
                return [result for ticket in tickets for result in self._inspect(recipe_id, [ticket])]
            log.exception("a part could not be inspected")
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return [(tickets[0], NotAnsweredError(reason))]

    def _inspector(self, recipe_id: int) -> Inspector:
        opened = self.inspectors.opened(recipe_id)
        if opened is not None:
            return opened
        with self.database.reading() as session:
            return self.inspectors.get(session.get_one(RecipeRow, recipe_id))

    def _measure_quality(self, results: list[TicketResult]) -> None:
        """Measure one of the images, if it is time; an error here leaves no part without an answer."""
        ticket = next((ticket for ticket, result in results if isinstance(result, Inspection)), None)
        if ticket is None or time.monotonic() < self._measured + QUALITY_S:
            return
        self._measured = time.monotonic()
        try:
            image = read_image(ticket.file, self.settings.max_pixels)
            ticket.image_quality = self._references.measure(image, ticket.part.recipe_id)
        except Exception:
            log.exception("the quality of an image could not be measured")

    def _record_results(self) -> None:
        while (results := self._results.get()) is not None:
            try:
                answers = persist_batch(self.database, self.settings, results)
                for (ticket, _), answer in zip(results, answers, strict=True):
                    self._answer(ticket, answer)
            except Exception as error:
                log.exception("%d parts could not be answered", len(results))
                for ticket, _ in results:
                    if not ticket.answer.done():
                        self._answer(ticket, not_recorded(error))

    def _answer(self, ticket: Ticket, answer: TicketAnswer) -> None:
        with self._lock:
            self._reserved -= 1
            if ticket.part.key is not None:
                self._by_key.pop(ticket.part.key, None)
        ticket.file.unlink(missing_ok=True)
        if isinstance(answer, Exception):
            ticket.answer.set_exception(answer)
            return
        ticket.answer.set_result(answer)
        self._on_answer(answer, time.monotonic() - ticket.submitted)


def _inspect_files(inspector: Inspector, files: list[Path], max_pixels: int) -> list[Inspection | BlemishError]:
    """An inspection of each file, or the ImageError of one that is no image, or too large."""
    results: dict[Path, Inspection | BlemishError] = {}
    for file in files:
        try:
            check_pixels(file, max_pixels)
        except ImageError as error:
            results[file] = error
    sound = [file for file in files if file not in results]
    if len(sound) == 1:  # without the pipeline's threads
        try:
            results[sound[0]] = inspector.inspect(sound[0])
        except ImageError as error:
            results[sound[0]] = ImageError(hide_path(str(error), sound[0]))
    elif sound:
        for file, result in zip(sound, inspector.inspect(sound, on_error="report", workers=2), strict=True):
            if isinstance(result, FailedInspection):
                results[file] = ImageError(hide_path(result.message, file))
            else:
                results[file] = result
    return [results[file] for file in files]
