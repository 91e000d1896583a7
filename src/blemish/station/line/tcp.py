"""The line by plain TCP: one ASCII line a part, and one answer.

The PLC sends `PART number recipe id` (recipe 0: the active one; an id of at most 200 ASCII characters), and gets
`RESULT number PASS|REVIEW|REJECT` or `ERROR number reason`. Between parts it sends `BEAT` within the time of the
heartbeat, and gets `STATE phase`. `RESET` leaves an error. Only the word PASS is a pass: no line, half a line and any
other line are none.

One PLC at a time. Where it hangs up, its heartbeat ends; where it is silent for longer than that may last, as one
that was switched off, the next connection takes its place.
"""

import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from blemish.errors import OptionError
from blemish.station.line.driver import STALLED_S, LineOutputs
from blemish.station.line.machine import LIMITS, VERDICT_CODES, LineError, Phase, PlcSignals, read_part_id
from blemish.station.line.transport import OutputLatch
from blemish.station.schemas import InspectionOut

log = logging.getLogger("blemish.station")
MAX_LINE = 1000
RETRY_S = 1.0
_POLL_S = 0.2
_WORDS = {code: str(verdict).upper() for verdict, code in VERDICT_CODES.items() if verdict is not None}


class TcpLine:
    """A server in a thread of its own, between `open` and `close`."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._lock = threading.Condition()
        self._signals = PlcSignals()
        self._latch = OutputLatch()
        self._problem = ""
        self._stop = threading.Event()
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="blemish-tcp-line", daemon=True)

    def open(self) -> None:
        """Raises OptionError where the address is taken."""
        try:
            self._listener = socket.create_server(self._address)
        except OSError as error:
            raise OptionError(f"no line at {self._address[0]}:{self._address[1]}: {error.strerror}") from error
        self._listener.settimeout(_POLL_S)
        self._thread.start()

    @property
    def port(self) -> int:
        assert self._listener is not None
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        if self._listener is not None:
            self._listener.close()

    def read(self) -> PlcSignals:
        with self._lock:
            return self._signals

    def write(self, outputs: LineOutputs) -> None:
        self._latch.write(outputs)
        with self._lock:
            self._lock.notify_all()

    def publish(self, number: int, result: InspectionOut) -> None:
        """There is no room for more than the verdict."""

    def problem(self) -> str:
        return self._problem if self._thread.is_alive() else "its server has ended"

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                self._serve_one()
                self._problem = ""
            except Exception as error:
                self._problem = f"no connection can be accepted: {error}"
                log.exception("a server of the line failed; retrying in %.0f s", RETRY_S)
                self._stop.wait(RETRY_S)

    def _serve_one(self) -> None:
        """The next PLC, if one comes soon, until it hangs up."""
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except TimeoutError:
            return
        try:
            with connection, suppress(OSError):
                self._talk(connection)
        finally:
            self._set(request=False, reset=False)

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(_POLL_S)
        waiting, heard = b"", time.monotonic()
        while not self._stop.is_set():
            try:
                data = connection.recv(1024)
            except TimeoutError:
                if time.monotonic() - heard > LIMITS.heartbeat_s and self._another_waits():
                    return
                continue
            if not data:
                return
            waiting += data
            while b"\n" in waiting:
                line, waiting = waiting.split(b"\n", 1)
                connection.sendall(self._answer(read_part_id(line.strip(b" \r"))).encode("ascii") + b"\n")
            heard = time.monotonic()
            if len(waiting) > MAX_LINE:
                return

    def _another_waits(self) -> bool:
        """Whether there is another connection, which was not accepted yet."""
        assert self._listener is not None
        return bool(select.select([self._listener], [], [], 0)[0])

    def _answer(self, line: str) -> str:
        word, *rest = line.split(" ", 3)
        self._set(heartbeat=(self.read().heartbeat + 1) % 2**16)
        if word == "PART" and len(rest) == 3 and all(text.isascii() and text.isdigit() for text in rest[:2]):
            return self._ask(int(rest[0]), int(rest[1]), rest[2])
        if word == "RESET" and not rest:
            self._set(request=False, reset=True)
            self._wait(lambda own: own.phase != Phase.ERROR)
            self._set(reset=False)
            self._wait(lambda own: own.phase != Phase.NOT_READY)
        elif word != "BEAT" or rest:
            return "ERROR 0 UNKNOWN"
        return f"STATE {Phase(self._latch.present().phase).name}"

    def _ask(self, number: int, recipe: int, part_id: str) -> str:
        """Raise the request, wait for its result, lower it again."""
        own = self._latch.present()
        if own.phase != Phase.READY:
            return f"ERROR {number} {Phase(own.phase).name}"
        self._set(request=True, number=number, recipe=recipe, part_id=part_id)
        own = self._wait(lambda own: own.phase in (Phase.RESULT, Phase.ERROR, Phase.NOT_READY), beats=True)
        self._set(request=False)
        if own.phase == Phase.RESULT and own.number == number and own.verdict in _WORDS:
            self._wait(lambda own: own.phase != Phase.RESULT)
            return f"RESULT {number} {_WORDS[own.verdict]}"
        reason = LineError(own.error).name if own.phase == Phase.ERROR else "NOT_READY"
        return f"ERROR {number} {reason}"

    def _wait(self, done: Callable[[LineOutputs], bool], beats: bool = False) -> LineOutputs:
        """The outputs as soon as they are so, or an error where the station stands still."""
        while not self._stop.is_set():
            with self._lock:
                written = self._lock.wait(STALLED_S)
                if beats:  # the PLC waits for its answer, and cannot send anything
                    self._signals = _beat(self._signals)
            own = self._latch.present()
            if done(own) or not written:
                return own
        return LineOutputs()

    def _set(self, **changes: object) -> None:
        with self._lock:
            self._signals = replace(self._signals, **changes)  # type: ignore[arg-type]


def _beat(signals: PlcSignals) -> PlcSignals:
    return replace(signals, heartbeat=(signals.heartbeat + 1) % 2**16)
