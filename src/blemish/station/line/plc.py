"""The PLC's side of a line: the handshake, and a watchdog of its own over the station.

A PLC's program does the same in its own language. This one drives tests and `make line`, and is a reference for others.
A part passes only where the PLC reads, from a station whose heartbeat moves, the phase RESULT, its own number and the
verdict pass. Everything else stops the part: silence, a cut wire, an old or another number, an error.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from blemish.errors import DataError
from blemish.inspection.result import Verdict
from blemish.station.line.driver import LineOutputs
from blemish.station.line.machine import VERDICT_CODES, LineError, Phase, PlcSignals

MAX_NUMBER = 65535
_VERDICTS = {code: verdict for verdict, code in VERDICT_CODES.items() if verdict is not None}


class StopReason(StrEnum):
    """Why the PLC has no verdict of a part."""

    WATCHDOG = "the station's heartbeat stands still"
    NOT_READY = "the station does not become ready"
    TIMEOUT = "no answer in time"
    ERROR = "the station shows an error"
    RESTARTED = "the station left the part"


@dataclass(frozen=True, slots=True)
class PlcLimits:
    """Seconds."""

    watchdog_s: float = 2.0  # within which the station's heartbeat must change
    answer_s: float = 12.0  # from the request to the verdict; longer than the station's own limit
    ready_s: float = 30.0  # until a station is ready for the next part
    poll_s: float = 0.01


@dataclass(frozen=True, slots=True)
class PlcAnswer:
    """What the PLC knows of a part: a verdict, or why there is none."""

    number: int
    verdict: Verdict | None
    reason: StopReason | None = None
    error: LineError = LineError.NONE


class PlcWire(Protocol):
    """A PLC's access to a station."""

    def exchange(self, signals: PlcSignals) -> LineOutputs:
        """Write the signals, then read the outputs; raises OSError where either is impossible, soon."""
        ...

    def close(self) -> None: ...


class Plc:
    """One part at a time. `first_number` is of the first part; a restarted PLC begins with another one."""

    def __init__(
        self,
        wire: PlcWire,
        limits: PlcLimits | None = None,
        first_number: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wire = wire
        self._limits = limits or PlcLimits()
        self._clock = clock
        self._number = first_number - 1
        self._signals = PlcSignals()
        self._beat: int | None = None  # the station's counter
        self._heard: float | None = None  # when it last changed; None: not since this PLC began
        self.outputs: LineOutputs | None = None  # as they were last read; None: not readable

    @property
    def alive(self) -> bool:
        """Whether the station's heartbeat moved within the watchdog's time."""
        return self._heard is not None and self._clock() - self._heard <= self._limits.watchdog_s

    def inspect(self, part_id: str, recipe: int = 0) -> PlcAnswer:
        """Ask for a part: wait until the station is ready, request, read, acknowledge.

        Raises DataError for a part id that the wire does not send whole.
        """
        self._number = self._number % MAX_NUMBER + 1
        number = self._number
        if not self.wait_ready():
            return PlcAnswer(number, None, StopReason.NOT_READY)
        self._signals = replace(self._signals, request=True, number=number, recipe=recipe, part_id=part_id)
        try:
            answer = self._await_answer(number)
        except DataError:
            self._signals = replace(self._signals, request=False, part_id="")
            raise
        self._signals = replace(self._signals, request=False)
        if answer.verdict is not None:
            self.cycle()  # the request is lowered at once, so that the verdict disappears
        return answer

    def wait_ready(self) -> bool:
        """Lower the request, reset an error, and wait until the station is ready; False where it does not become so."""
        until = self._clock() + self._limits.ready_s
        self._signals = replace(self._signals, request=False, reset=False)
        while self._clock() < until:
            own = self.cycle()
            if own is not None and own.phase == Phase.READY and self.alive and not self._signals.reset:
                return True
            self._signals = replace(self._signals, reset=own is not None and own.phase == Phase.ERROR)
            time.sleep(self._limits.poll_s)
        return False

    def _await_answer(self, number: int) -> PlcAnswer:
        until, begun = self._clock() + self._limits.answer_s, False
        while True:
            own = self.cycle()
            if not self.alive:
                return PlcAnswer(number, None, StopReason.WATCHDOG)
            if own is not None and own.phase == Phase.ERROR:
                return PlcAnswer(number, None, StopReason.ERROR, _line_error(own.error))
            if own is not None and own.phase == Phase.RESULT and own.number == number and own.verdict in _VERDICTS:
                return PlcAnswer(number, _VERDICTS[own.verdict])
            if own is not None and (own.phase == Phase.NOT_READY or (begun and own.phase == Phase.READY)):
                return PlcAnswer(number, None, StopReason.RESTARTED)
            begun = begun or (own is not None and own.phase == Phase.BUSY and own.number == number)
            if self._clock() > until:
                return PlcAnswer(number, None, StopReason.TIMEOUT)
            time.sleep(self._limits.poll_s)

    def cycle(self) -> LineOutputs | None:
        """Beat, write and read once; None where the station cannot be read."""
        self._signals = replace(self._signals, heartbeat=(self._signals.heartbeat + 1) % 2**16)
        try:
            own = self._wire.exchange(self._signals)
        except OSError:
            self.outputs = None
            return None
        if self._beat is not None and own.heartbeat != self._beat:
            self._heard = self._clock()  # the first value proves nothing: it may be an old one
        self._beat, self.outputs = own.heartbeat, own
        return own


def _line_error(code: int) -> LineError:
    return LineError(code) if code in tuple(LineError) else LineError.NONE
