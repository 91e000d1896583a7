"""Runs the state machine of a line: reads a transport, inspects requested parts, records transitions, shows outputs.

An inspection that began for a request may outlive it. Then it must neither take a picture, which would be of another
part, nor record one, so it asks `PartRequest.stands` again and again; and the line is not ready before it has ended.
"""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from blemish.inspection.result import Verdict
from blemish.station.line import machine
from blemish.station.line.machine import LineError, LineLimits, LineState, Phase, PlcSignals

log = logging.getLogger("blemish.station")
CYCLE_S = 0.02
STALLED_S = 1.0  # without a cycle; a transport then shows ERROR by itself


@dataclass(frozen=True, slots=True)
class LineOutputs:
    """What the PLC reads, as numbers."""

    phase: int = Phase.NOT_READY
    verdict: int = 0
    number: int = 0
    error: int = LineError.NONE
    heartbeat: int = 0


class Transport(Protocol):
    """The wire to a PLC. Both calls return at once; `read` may raise OSError where nothing can be read."""

    def read(self) -> PlcSignals: ...
    def write(self, outputs: LineOutputs) -> None: ...


@dataclass(frozen=True, slots=True)
class PartRequest:
    """A part that the PLC asked for."""

    number: int
    part_id: str = ""
    recipe: int = 0  # id; 0: the active one
    stands: Callable[[], bool] = field(default=lambda: True, compare=False)  # whether the PLC still waits for it


Inspect = Callable[[PartRequest, str], "Future[Verdict]"]  # with its idempotency key; recorded when it is done


class TransitionLog:
    """Every change of phase as a line of JSON, written through to the disk before it is shown."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, before: LineState, after: LineState) -> None:
        """Raises OSError, as of a full disk."""
        entry = {
            "time": datetime.now(UTC).isoformat(), "from": before.phase.name, "to": after.phase.name,
            "number": after.number or after.last_number, "part_id": after.part_id or before.part_id,
            "verdict": None if after.verdict is None else str(after.verdict), "error": after.error.name,
        }  # fmt: skip
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


class LineDriver:
    """One line. Call `cycle` again and again from one thread, or `run`."""

    def __init__(
        self,
        transport: Transport,
        inspect: Inspect,
        available: Callable[[], bool],
        record: Callable[[LineState, LineState], None],
        limits: LineLimits | None = None,
    ) -> None:
        self.state = LineState()
        self._transport = transport
        self._inspect = inspect
        self._available = available
        self._record = record
        self._limits = limits or LineLimits()
        self._beat = 0
        self._request = PartRequest(0)  # the newest one
        self._answer: Future[Verdict] | None = None  # its answer, which may come after the request was taken back
        self._cycled = time.monotonic()
        self._session = uuid.uuid4().hex  # numbers of a PLC begin again some day; keys never do

    def run(self, stop: threading.Event) -> None:
        """Cycle until `stop` is set; whatever goes wrong, the line shows an error and no verdict."""
        while not stop.is_set():
            try:
                self.cycle(time.monotonic())
            except Exception:
                log.exception("the line interface failed; it shows an error")
                self.state = machine.fail(self.state, LineError.NO_ANSWER, time.monotonic())
            stop.wait(CYCLE_S)
        self.state = LineState()  # no request stands any more
        self._transport.write(LineOutputs())

    def cycle(self, now: float) -> None:
        """Read, decide, record, then write."""
        after = self._decide(self.state, now)
        if after.phase != self.state.phase:
            try:
                self._record(self.state, after)
            except Exception:
                log.exception("a transition of the line could not be recorded")
                after = machine.fail(after, LineError.RECORD, now)
        begun = after.phase == Phase.BUSY and self.state.phase != Phase.BUSY
        self.state = after
        if begun:
            self._begin(now)
        self._beat = (self._beat + 1) % 2**16
        own = self.state
        self._transport.write(LineOutputs(own.phase, own.verdict_code, own.number, own.error, self._beat))
        self._cycled = time.monotonic()

    def problem(self) -> str:
        """Why no part could be asked for at present, apart from what `available` knows; "" for nothing."""
        if time.monotonic() - self._cycled > STALLED_S:
            return "the cycle of the line stands still"
        if self.state.phase != Phase.BUSY and not self._idle():
            return "the inspection of a part that was given up has not ended"
        return ""

    def _idle(self) -> bool:
        """Whether no inspection is at work; one that is may take its picture of the next part."""
        return self._answer is None or self._answer.done()

    def _stands(self, request: PartRequest) -> bool:
        """Whether the PLC still waits for a request; unknown, and so no, where the cycle stands still."""
        fresh = time.monotonic() - self._cycled <= STALLED_S
        return fresh and self.state.phase == Phase.BUSY and self._request is request

    def _decide(self, line: LineState, now: float) -> LineState:
        """The PLC's signals come first: an answer counts only while its request stands and the PLC is alive."""
        try:
            signals = self._transport.read()
        except OSError:  # as a silent PLC: nothing changes, and its heartbeat ends
            asked = line.phase in (Phase.BUSY, Phase.RESULT)
            signals = PlcSignals(line.beat or 0, asked, False, line.number, line.recipe, line.part_id)
        after = machine.read_signals(line, signals, self._available() and self._idle(), now, self._limits)
        if line.phase != Phase.BUSY or after.phase != Phase.BUSY or self._answer is None or not self._answer.done():
            return after
        number, answer = self._request.number, self._answer
        error = answer.exception()
        if error is None:
            return machine.take_answer(after, number, answer.result(), now, self._limits)
        log.warning("part %d of the line has no answer: %s", number, error)
        return machine.take_failure(after, number, now)

    def _begin(self, now: float) -> None:
        own = self.state
        request = PartRequest(own.number, own.part_id, own.recipe, lambda: self._stands(request))
        self._request, self._answer, self._cycled = request, None, time.monotonic()
        try:
            self._answer = self._inspect(request, f"line-{self._session}-{own.number}-{uuid.uuid4().hex[:8]}")
        except Exception:
            log.exception("part %d of the line could not be begun", own.number)
            failed = machine.take_failure(own, own.number, now)
            self._record_quietly(failed)
            self.state = failed

    def _record_quietly(self, after: LineState) -> None:
        try:
            self._record(self.state, after)
        except Exception:
            log.exception("a transition of the line could not be recorded")
