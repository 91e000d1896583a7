"""The line as an OPC UA server (asyncua), with names of OPC 40100-1 (Machine Vision, part 1).

    Objects/VisionSystem
        VisionStateMachine: CurrentState, Reset, and AutomaticModeStateMachine: CurrentState, StartSingleJob, Abort
        RecipeManagement: Recipes, PrepareRecipe, UnprepareRecipe
        ResultManagement: Results, with the newest result: ResultId, PartId, JobId, ResultState, ResultContent, ...
        Line (of this station): Outputs, PlcHeartbeat, Acknowledge

`Line/Outputs` is one array, so that it is read whole: phase, verdict, number, error, heartbeat, as over Modbus. The PLC
writes `Line/PlcHeartbeat`, calls StartSingleJob, reads its verdict, and calls Acknowledge. Given the published nodeset,
VisionSystem is an instance of its VisionSystemType, and arguments and values are its structures; without it they are
plain texts and numbers of the same names. This is not a claim of conformity: what is not listed above answers nothing.

Every connection is signed and encrypted, and needs a user of the station: name and password, or a token as password.
The role `operator` may read; `line`, `engineer` and `admin` may start jobs.
"""

import asyncio
import logging
import threading
import time
from dataclasses import replace
from typing import Any

from blemish.errors import MissingExtraError
from blemish.station.line.driver import STALLED_S, LineOutputs
from blemish.station.line.loop_thread import LoopThread
from blemish.station.line.machine import Phase, PlcSignals
from blemish.station.line.opcua_nodes import OK, REFUSED, OpcUaNodes, check_nodeset
from blemish.station.line.opcua_server import make_server
from blemish.station.line.transport import LineAddress, LineContext, OutputLatch
from blemish.station.schemas import InspectionOut, is_part_id

log = logging.getLogger("blemish.station")
CYCLE_S = 0.02
_START_S = 120.0  # loading the address space of OPC UA takes a busy machine a while
_MAX_JOB = 65535


class OpcUaLine:
    """A server in a thread of its own, between `open` and `close`."""

    def __init__(self, address: LineAddress, context: LineContext) -> None:
        self._address, self._context = (address.host, address.port), context
        self._lock = threading.Lock()
        self._signals, self._prepared = PlcSignals(), 0
        self._latch = OutputLatch()
        self._pending: tuple[int, InspectionOut] | None = None  # number and result
        self._shown: int | None = None
        self._problem, self._exchanged = "", time.monotonic()
        self._thread = LoopThread("blemish-opcua", self._run)
        self._nodes: OpcUaNodes | None = None

    def open(self) -> None:
        """Raises MissingExtraError without asyncua, OptionError where the address is taken or the nodeset unusable."""
        try:
            import asyncua  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtraError("asyncua is not installed; pip install 'blemish[opcua]'") from error
        if self._context.nodeset is not None:
            check_nodeset(self._context.nodeset)
        host, port = self._address
        self._thread.start(_START_S, f"no OPC UA server at {host}:{port}")

    def close(self) -> None:
        self._thread.join(_START_S)

    def read(self) -> PlcSignals:
        with self._lock:
            signals = self._signals
            self._signals = replace(signals, reset=False)  # by a call, and so only once
        return signals

    def write(self, outputs: LineOutputs) -> None:
        self._latch.write(outputs)

    def publish(self, number: int, result: InspectionOut) -> None:
        """A recorded result; it is shown when the line's phase is RESULT for this number."""
        with self._lock:
            self._pending = number, result

    async def _run(self) -> None:
        server = await make_server(self._address, self._context)
        nodes = await OpcUaNodes.build(server, self._context)
        for name, method in (
            ("StartSingleJob", self._start_job), ("Abort", self._abort), ("Reset", self._reset),
            ("PrepareRecipe", self._prepare), ("UnprepareRecipe", self._unprepare), ("Acknowledge", self._acknowledge),
        ):  # fmt: skip
            nodes.link(name, method)
        self._nodes = nodes
        async with server:
            recipes = asyncio.create_task(nodes.watch_recipes())
            self._problem, self._exchanged = "", time.monotonic()
            self._thread.serves()
            beat: int | None = None
            try:
                while not self._thread.stopping.is_set():
                    beat = await self._try_exchange(nodes, beat)
                    await asyncio.sleep(CYCLE_S)
            finally:
                recipes.cancel()

    async def _try_exchange(self, nodes: OpcUaNodes, beat: int | None) -> int | None:
        try:
            beat = await self._exchange(nodes, beat)
            self._problem, self._exchanged = "", time.monotonic()
        except Exception as error:  # of one exchange; the next one may succeed
            if not self._problem:
                log.exception("the OPC UA server could not show the outputs of the line; it goes on trying")
            self._problem = f"the outputs cannot be shown: {error}"
        return beat

    def problem(self) -> str:
        still = time.monotonic() - self._exchanged > STALLED_S
        return self._thread.problem or self._problem or ("the OPC UA server stands still" if still else "")

    async def _exchange(self, nodes: OpcUaNodes, beat: int | None) -> int:
        """Take the PLC's heartbeat, show outputs and results."""
        heard = int(await nodes.plc_heartbeat.read_value())
        if beat is not None and heard != beat:
            with self._lock:
                self._signals = replace(self._signals, heartbeat=(self._signals.heartbeat + 1) % 2**16)
        own = self._latch.present()
        with self._lock:
            pending = self._pending
        if own.phase == Phase.RESULT and pending is not None and pending[0] == own.number != self._shown:
            await nodes.show_result(*pending)
            self._shown = own.number
        if own.phase == Phase.BUSY:
            self._shown = None
        await nodes.show(own)
        return heard

    def _start_job(self, values: list[Any]) -> list[Any]:
        """MeasId, PartId, RecipeId, ProductId, Parameters → JobId, Error.

        Refused unless the line is ready and the id can be kept whole.
        """
        assert self._nodes is not None
        part, wanted = _text(values[1]), _identifier(values[2])
        with self._lock:
            ready = self._latch.present().phase == Phase.READY and not self._signals.request
            known = wanted == "" or (wanted.isascii() and wanted.isdigit())
            if not ready or not known or not is_part_id(part):
                return [self._nodes.identifier("JobIdDataType", ""), REFUSED]
            number = self._signals.number % _MAX_JOB + 1
            recipe = int(wanted) if wanted else self._prepared
            self._signals = replace(self._signals, request=True, number=number, recipe=recipe, part_id=part)
        return [self._nodes.identifier("JobIdDataType", f"{number}"), OK]

    def _acknowledge(self, values: list[Any]) -> list[Any]:
        """JobId → Error: the result of the job was read."""
        with self._lock:
            standing = self._signals.request and _identifier(values[0]) == f"{self._signals.number}"
            if standing:
                self._signals = replace(self._signals, request=False)
        return [OK if standing else REFUSED]

    def _abort(self, values: list[Any]) -> list[Any]:
        """Take the job back; while it is in work, that is an error of the line."""
        with self._lock:
            self._signals = replace(self._signals, request=False)
        return [OK]

    def _reset(self, values: list[Any]) -> list[Any]:
        with self._lock:
            self._signals = replace(self._signals, request=False, reset=True)
        return [OK]

    def _prepare(self, values: list[Any]) -> list[Any]:
        """Use a recipe for jobs that name none; one that was never activated is refused."""
        wanted = _identifier(values[0])
        known = any(wanted == f"{recipe.id}" for recipe in self._context.recipes())
        with self._lock:
            self._prepared = int(wanted) if known else self._prepared
        return [known, OK if known else REFUSED]

    def _unprepare(self, values: list[Any]) -> list[Any]:
        with self._lock:
            self._prepared = 0
        return [OK]


def _identifier(value: Any) -> str:
    return _text(value).strip()


def _text(value: Any) -> str:
    """The text of an identifier, which is a text or a structure with a member Id; "" for none."""
    inner = getattr(value, "Id", value)
    return "" if inner is None else f"{inner}"
