"""The line by the S7 protocol (python-snap7): the PLC holds a data block, the station reads and writes it.

    s7://HOST:PORT/RACK/SLOT/DB     such as s7://192.168.0.1:102/0/1/100

The data block, big-endian, not optimised, with PUT/GET allowed in the CPU:
    0 heartbeat (word) · 2 bits (word; 0 request, 1 reset) · 4 number (word) · 6 recipe (word) · 8–39 part id, ASCII,
    filled with zeros or blanks: written by the PLC, read at once
    40 phase · 42 verdict · 44 number · 46 error · 48 heartbeat: words, written by the station at once
This is the example of a plug-in: see `blemish.station.line.transport`. S7 has no passwords worth the name; keep it in a
network of its own.
"""

import struct
import threading
import time
from contextlib import suppress
from typing import Any

from blemish.errors import MissingExtraError, OptionError
from blemish.station.line.driver import STALLED_S, LineOutputs
from blemish.station.line.machine import PlcSignals, pack_part_id, read_part_id
from blemish.station.line.transport import LineAddress, LineContext, OutputLatch
from blemish.station.schemas import InspectionOut

SIGNALS, OUTPUTS = struct.Struct(">4H32s"), struct.Struct(">5H")
CYCLE_S, RETRY_S = 0.02, 0.5


class S7Line:
    """A client of the PLC in a thread of its own, between `open` and `close`."""

    def __init__(self, address: LineAddress, context: LineContext) -> None:
        numbers = [int(step) for step in address.path if step.isascii() and step.isdigit()]
        if len(numbers) != 3 or len(address.path) != 3:
            raise OptionError("give the S7 line as s7://HOST:PORT/RACK/SLOT/DB, such as s7://192.168.0.1:102/0/1/100")
        self._host, self._port = address.host, address.port
        self._rack, self._slot, self._block = numbers
        self._latch, self._signals = OutputLatch(), PlcSignals()
        self._problem, self._exchanged = "no connection to the PLC yet", time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="blemish-s7", daemon=True)

    def open(self) -> None:
        """Raises MissingExtraError without python-snap7. A PLC that is away is waited for."""
        try:
            import snap7  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtraError("python-snap7 is not installed; pip install 'blemish[s7]'") from error
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def read(self) -> PlcSignals:
        return self._signals  # of a lost wire the last ones, whose heartbeat stands still

    def write(self, outputs: LineOutputs) -> None:
        self._latch.write(outputs)

    def publish(self, number: int, result: InspectionOut) -> None:
        """There is no room for more than the verdict."""

    def problem(self) -> str:
        still = time.monotonic() - self._exchanged > STALLED_S  # a call that never returns tells nothing
        return self._problem or ("the PLC does not answer" if still else "")

    def _run(self) -> None:
        from snap7.client import Client

        while not self._stop.is_set():
            client: Any = None
            try:
                client = Client()
                client.connect(self._host, self._rack, self._slot, self._port)
                while True:
                    self._signals = unpack_signals(client.db_read(self._block, 0, SIGNALS.size))
                    client.db_write(self._block, SIGNALS.size, pack_outputs(self._latch.present()))
                    self._problem, self._exchanged = "", time.monotonic()
                    if self._stop.wait(CYCLE_S):  # after the outputs of a station that ends were written
                        client.db_write(self._block, SIGNALS.size, pack_outputs(LineOutputs()))
                        return
            except Exception as error:
                self._problem = f"no connection to the PLC: {error}"
                self._stop.wait(RETRY_S)
            finally:
                with suppress(Exception):
                    client.disconnect()


def unpack_signals(data: bytes | bytearray) -> PlcSignals:
    heartbeat, bits, number, recipe, text = SIGNALS.unpack(bytes(data))
    return PlcSignals(heartbeat, bool(bits & 1), bool(bits & 2), number, recipe, read_part_id(text))


def pack_signals(signals: PlcSignals) -> bytearray:
    """Raises DataError for a part id that the block does not hold whole."""
    text = pack_part_id(signals.part_id, 32)
    bits = signals.request | signals.reset << 1
    return bytearray(SIGNALS.pack(signals.heartbeat, bits, signals.number, signals.recipe, text))


def pack_outputs(own: LineOutputs) -> bytearray:
    return bytearray(OUTPUTS.pack(own.phase, own.verdict, own.number, own.error, own.heartbeat))


def unpack_outputs(data: bytes | bytearray) -> LineOutputs:
    return LineOutputs(*OUTPUTS.unpack(bytes(data)))
