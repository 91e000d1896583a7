"""The line by Modbus TCP: the station is the server, the PLC reads and writes its registers (pymodbus).

`ModbusLine` is the station's side, `ModbusPlcWire` a PLC's.

Holding registers, written by the PLC in one request:
    0 heartbeat · 1 bit 0 request, bit 1 reset · 2 number · 3 recipe (0: the active one) · 4–19 part id, ASCII, two
    characters a register, filled with zeros or blanks
Input registers, read by the PLC in one request:
    0 phase · 1 verdict (0 none, 1 pass, 2 review, 3 reject) · 2 number · 3 error · 4 heartbeat
"""

import asyncio
import threading
from contextlib import suppress
from typing import Any

from blemish.errors import MissingExtraError
from blemish.station.line.driver import LineOutputs
from blemish.station.line.loop_thread import LoopThread
from blemish.station.line.machine import PlcSignals, pack_part_id, read_part_id
from blemish.station.line.transport import OutputLatch
from blemish.station.schemas import InspectionOut

PART_ID_REGISTERS = 16
HOLDING, INPUT = 4 + PART_ID_REGISTERS, 5
_WRITES = (6, 16, 22, 23)  # functions that write holding registers
_START_S = 10.0


class ModbusLine:
    """A server in a thread of its own, between `open` and `close`."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._lock = threading.Lock()
        self._written = [0] * HOLDING
        self._latch = OutputLatch()
        self._thread = LoopThread("blemish-modbus", self._run)
        self._server: Any = None

    def open(self) -> None:
        """Raises MissingExtraError without pymodbus, OptionError where the address is taken."""
        try:
            import pymodbus  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtraError("pymodbus is not installed; pip install 'blemish[modbus]'") from error
        self._thread.start(_START_S, f"no Modbus server at {self._address[0]}:{self._address[1]}")

    def close(self) -> None:
        self._thread.stopping.set()
        if self._server is not None and self._thread.is_alive():
            future = asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._thread.loop)
            with suppress(Exception):
                future.result(_START_S)
        self._thread.join(_START_S)

    def read(self) -> PlcSignals:
        with self._lock:
            words = list(self._written)
        text = b"".join(word.to_bytes(2, "big") for word in words[4:HOLDING])
        return PlcSignals(words[0], bool(words[1] & 1), bool(words[1] & 2), words[2], words[3], read_part_id(text))

    def write(self, outputs: LineOutputs) -> None:
        self._latch.write(outputs)

    def publish(self, number: int, result: InspectionOut) -> None:
        """There is no room for more than the verdict."""

    def problem(self) -> str:
        return self._thread.problem

    def _input_words(self) -> list[int]:
        own = self._latch.present()
        return [own.phase, own.verdict, own.number, own.error, own.heartbeat]

    async def _access(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: Any
    ) -> None:
        """Called by pymodbus before each access: keep what is written, and put in what is read."""
        if function == 4:
            registers[:INPUT] = self._input_words()
        elif function in _WRITES and values is not None:
            with self._lock:
                self._written[address : address + len(values)] = [int(value) for value in values]

    async def _run(self) -> None:
        from pymodbus.server import ModbusTcpServer

        self._server = ModbusTcpServer(self._device(), address=self._address)
        if not await self._server.listen():
            raise OSError("the address cannot be used")
        self._thread.serves()
        await self._server.serving

    def _device(self) -> Any:
        from pymodbus.simulator import DataType, SimData, SimDevice

        holding = SimData(0, values=[0] * HOLDING, datatype=DataType.REGISTERS)
        inputs = SimData(0, values=[0] * INPUT, datatype=DataType.REGISTERS, readonly=True)
        # Coils and discrete inputs are not used, and cannot be left out.
        coils, discrete = (SimData(0, values=[False] * 16, datatype=DataType.BITS) for _ in range(2))
        return SimDevice(0, simdata=([coils], [discrete], [holding], [inputs]), action=self._access)


class ModbusPlcWire:
    """A PLC's access to a station by Modbus TCP; connects again by itself."""

    def __init__(self, host: str, port: int, timeout_s: float = 0.5) -> None:
        from pymodbus.client import ModbusTcpClient

        self._client: Any = ModbusTcpClient(host, port=port, timeout=timeout_s, retries=0)

    def exchange(self, signals: PlcSignals) -> LineOutputs:
        from pymodbus.exceptions import ModbusException

        try:
            if not self._client.connected and not self._client.connect():
                raise ConnectionError("no connection to the station")
            written = self._client.write_registers(0, holding_words(signals))
            read = self._client.read_input_registers(0, count=INPUT)
        except ModbusException as error:
            self._client.close()  # an answer that comes later must not be taken for that of another request
            raise ConnectionError(str(error)) from error
        if written.isError() or read.isError():
            raise ConnectionError("the station refused the registers")
        return LineOutputs(*read.registers)

    def close(self) -> None:
        self._client.close()


def holding_words(signals: PlcSignals) -> list[int]:
    """The registers that a PLC writes; raises DataError for a part id that they do not hold whole."""
    text = pack_part_id(signals.part_id, 2 * PART_ID_REGISTERS)
    words = (int.from_bytes(text[i : i + 2], "big") for i in range(0, len(text), 2))
    return [signals.heartbeat, signals.request | signals.reset << 1, signals.number, signals.recipe, *words]
