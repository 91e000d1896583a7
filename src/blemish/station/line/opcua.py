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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from blemish.errors import MissingExtraError, OptionError
from blemish.station.line.driver import STALLED_S, LineOutputs
from blemish.station.line.loop_thread import LoopThread
from blemish.station.line.machine import LineError, Phase, PlcSignals
from blemish.station.line.opcua_server import make_server
from blemish.station.line.transport import LineAddress, LineContext, OutputLatch
from blemish.station.schemas import InspectionOut, is_part_id

log = logging.getLogger("blemish.station")
MACHINE_VISION = "http://opcfoundation.org/UA/MachineVision"
LINE = "urn:blemish:line"
CYCLE_S = 0.02
RECIPES_S = 1.0  # between two looks at the station's recipes
_START_S = 120.0  # loading the address space of OPC UA takes a busy machine a while
_MAX_JOB = 65535
_SYSTEM_STATES = {
    Phase.NOT_READY: "Preoperational", Phase.READY: "Operational", Phase.BUSY: "Operational",
    Phase.RESULT: "Operational", Phase.ERROR: "Error",
}  # fmt: skip
_AUTOMATIC_STATES = {Phase.READY: "Ready", Phase.BUSY: "SingleExecution", Phase.RESULT: "SingleExecution"}
_COMPLETED, _FAILED = 1, 4  # ResultStateDataType
_OK, _REFUSED = 0, 1  # the argument Error of the methods
# Name of each value of a result, the OPC UA type, and what stands there before the first result.
_STATE_FIELDS = ("FromState", "ToState", "Phase", "JobId", "Error")  # of the event StateChanged
_RESULT_FIELDS = ("ResultId", "PartId", "JobId")  # of ResultReady; no verdict, which is valid in one phase only
_RESULT_VALUES = (
    ("ResultId", "String", ""), ("PartId", "String", ""), ("JobId", "String", ""), ("InternalRecipeId", "String", ""),
    ("ResultState", "Int32", 0), ("IsPartial", "Boolean", False), ("IsSimulated", "Boolean", False),
    ("CreationTime", "DateTime", None), ("ResultContent", "String", [""]),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Pending:
    number: int
    result: InspectionOut


class OpcUaLine:
    """A server in a thread of its own, between `open` and `close`."""

    def __init__(self, address: LineAddress, context: LineContext) -> None:
        self._address, self._context = (address.host, address.port), context
        self._lock = threading.Lock()
        self._signals, self._prepared = PlcSignals(), 0
        self._latch = OutputLatch()
        self._pending: _Pending | None = None
        self._shown: int | None = None
        self._problem, self._exchanged = "", time.monotonic()
        self._thread = LoopThread("blemish-opcua", self._run)
        self._tree: _Tree | None = None

    def open(self) -> None:
        """Raises MissingExtraError without asyncua, OptionError where the address is taken or the nodeset unusable."""
        try:
            import asyncua  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtraError("asyncua is not installed; pip install 'blemish[opcua]'") from error
        if self._context.nodeset is not None:
            _check_nodeset(self._context.nodeset)
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
            self._pending = _Pending(number, result)

    async def _run(self) -> None:
        server = await make_server(self._address, self._context)
        tree = await _Tree.build(server, self._context)
        for name, method in (
            ("StartSingleJob", self._start_job), ("Abort", self._abort), ("Reset", self._reset),
            ("PrepareRecipe", self._prepare), ("UnprepareRecipe", self._unprepare), ("Acknowledge", self._acknowledge),
        ):  # fmt: skip
            tree.link(name, method)
        self._tree = tree
        async with server:
            recipes = asyncio.create_task(tree.watch_recipes())
            self._problem, self._exchanged = "", time.monotonic()
            self._thread.serves()
            beat: int | None = None
            try:
                while not self._thread.stopping.is_set():
                    beat = await self._try_exchange(tree, beat)
                    await asyncio.sleep(CYCLE_S)
            finally:
                recipes.cancel()

    async def _try_exchange(self, tree: "_Tree", beat: int | None) -> int | None:
        try:
            beat = await self._exchange(tree, beat)
            self._problem, self._exchanged = "", time.monotonic()
        except Exception as error:  # of one exchange; the next one may succeed
            if not self._problem:
                log.exception("the OPC UA server could not show the outputs of the line; it goes on trying")
            self._problem = f"the outputs cannot be shown: {error}"
        return beat

    def problem(self) -> str:
        still = time.monotonic() - self._exchanged > STALLED_S
        return self._thread.problem or self._problem or ("the OPC UA server stands still" if still else "")

    async def _exchange(self, tree: "_Tree", beat: int | None) -> int:
        """Take the PLC's heartbeat, show outputs and results."""
        heard = int(await tree.plc_heartbeat.read_value())
        if beat is not None and heard != beat:
            with self._lock:
                self._signals = replace(self._signals, heartbeat=(self._signals.heartbeat + 1) % 2**16)
        own = self._latch.present()
        with self._lock:
            pending = self._pending
        if own.phase == Phase.RESULT and pending is not None and pending.number == own.number != self._shown:
            await tree.show_result(pending.number, pending.result)
            self._shown = own.number
        if own.phase == Phase.BUSY:
            self._shown = None
        await tree.show(own)
        return heard

    def _start_job(self, values: list[Any]) -> list[Any]:
        """MeasId, PartId, RecipeId, ProductId, Parameters → JobId, Error.

        Refused unless the line is ready and the id can be kept whole.
        """
        assert self._tree is not None
        part, wanted = _text(values[1]), _identifier(values[2])
        with self._lock:
            ready = self._latch.present().phase == Phase.READY and not self._signals.request
            known = wanted == "" or (wanted.isascii() and wanted.isdigit())
            if not ready or not known or not is_part_id(part):
                return [self._tree.identifier("JobIdDataType", ""), _REFUSED]
            number = self._signals.number % _MAX_JOB + 1
            recipe = int(wanted) if wanted else self._prepared
            self._signals = replace(self._signals, request=True, number=number, recipe=recipe, part_id=part)
        return [self._tree.identifier("JobIdDataType", f"{number}"), _OK]

    def _acknowledge(self, values: list[Any]) -> list[Any]:
        """JobId → Error: the result of the job was read."""
        with self._lock:
            standing = self._signals.request and _identifier(values[0]) == f"{self._signals.number}"
            if standing:
                self._signals = replace(self._signals, request=False)
        return [_OK if standing else _REFUSED]

    def _abort(self, values: list[Any]) -> list[Any]:
        """Take the job back; while it is in work, that is an error of the line."""
        with self._lock:
            self._signals = replace(self._signals, request=False)
        return [_OK]

    def _reset(self, values: list[Any]) -> list[Any]:
        with self._lock:
            self._signals = replace(self._signals, request=False, reset=True)
        return [_OK]

    def _prepare(self, values: list[Any]) -> list[Any]:
        """Use a recipe for jobs that name none; one that was never activated is refused."""
        wanted = _identifier(values[0])
        known = any(wanted == f"{recipe.id}" for recipe in self._context.recipes())
        with self._lock:
            self._prepared = int(wanted) if known else self._prepared
        return [known, _OK if known else _REFUSED]

    def _unprepare(self, values: list[Any]) -> list[Any]:
        with self._lock:
            self._prepared = 0
        return [_OK]


class _Tree:
    """The nodes of the server: those of the nodeset's VisionSystemType where it is given, else own ones."""

    def __init__(self, server: Any, own: int, vision: int, typed: bool) -> None:
        self._server, self._own, self._vision, self._typed = server, own, vision, typed
        self._methods: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        self._recipes: Any = None
        self._list: tuple[Any, ...] = ()
        self._last: LineOutputs | None = None
        self.plc_heartbeat: Any = None
        self._context: Any = None
        self._state_events: Any = None
        self._result_events: Any = None

    @classmethod
    async def build(cls, server: Any, context: LineContext) -> "_Tree":
        from asyncua import ua

        if context.nodeset is not None:
            await _load_nodeset(server, context.nodeset)
        vision = await server.register_namespace(MACHINE_VISION)
        own = await server.register_namespace(LINE)
        tree = cls(server, own, vision, context.nodeset is not None)
        tree._context = context
        kind = {} if context.nodeset is None else {"objecttype": await _vision_system_type(server, vision)}
        system = await server.nodes.objects.add_object(own, "VisionSystem", **kind)
        machine = await tree._object(system, "VisionStateMachine")
        automatic = await tree._object(machine, "AutomaticModeStateMachine")
        recipes = await tree._object(system, "RecipeManagement")
        results = await tree._object(system, "ResultManagement")
        text, number, flag = ua.VariantType.String, ua.VariantType.Int32, ua.VariantType.Boolean
        await tree._method(machine, "Reset", [("CauseDescription", text)], [("Error", number)])
        await tree._method(automatic, "Abort", [("CauseDescription", text)], [("Error", number)])
        await tree._method(
            automatic, "StartSingleJob",
            [("MeasId", text), ("PartId", text), ("RecipeId", text), ("ProductId", text), ("Parameters", text)],
            [("JobId", text), ("Error", number)],
        )  # fmt: skip
        await tree._method(
            recipes, "PrepareRecipe", [("ExternalId", text), ("InternalIdIn", text)],
            [("IsPrepared", flag), ("Error", number)],
        )  # fmt: skip
        await tree._method(
            recipes, "UnprepareRecipe", [("ExternalId", text), ("InternalIdIn", text)], [("Error", number)]
        )
        tree._recipes = await tree._object(recipes, "Recipes")
        tree._values["CurrentState"] = await tree._state(machine)
        tree._values["AutomaticState"] = await tree._state(automatic)
        folder = await tree._object(results, "Results")
        newest = await folder.add_object(own, "Result")
        for name, type_name, start in _RESULT_VALUES:
            value = datetime(1970, 1, 1) if start is None else start
            tree._values[name] = await newest.add_variable(vision, name, value, ua.VariantType[type_name])
        line = await system.add_object(own, "Line")
        tree._values["Outputs"] = await line.add_variable(own, "Outputs", [0] * 5, ua.VariantType.UInt16)
        tree.plc_heartbeat = await line.add_variable(own, "PlcHeartbeat", 0, ua.VariantType.UInt16)
        await tree.plc_heartbeat.set_writable()
        await tree._method(line, "Acknowledge", [("JobId", text)], [("Error", number)])
        tree._state_events = await tree._events("StateChanged", _STATE_FIELDS)
        tree._result_events = await tree._events("ResultReady", _RESULT_FIELDS)
        return tree

    async def _events(self, name: str, fields: Sequence[str]) -> Any:
        """What sends events of an own type, to clients that subscribe at the Server object."""
        from asyncua import ua

        values = [(field, ua.VariantType.String) for field in fields]
        kind = await self._server.create_custom_event_type(self._own, name, ua.ObjectIds.BaseEventType, values)
        return await self._server.get_event_generator(kind, ua.ObjectIds.Server)

    def identifier(self, kind: str, text: str) -> Any:
        """An identifier as the nodeset's structure `kind`, or as text."""
        from asyncua import ua

        return getattr(ua, kind)(Id=text) if self._typed else text

    def link(self, name: str, call: Callable[[list[Any]], list[Any]]) -> None:
        def answer(parent: Any, *arguments: Any) -> Any:
            values = [argument.Value for argument in arguments]
            return [_variant(value) for value in call(values)]

        self._server.link_method(self._methods[name], answer)

    async def show(self, own: LineOutputs) -> None:
        from asyncua import ua

        words = [int(own.phase), own.verdict, own.number, int(own.error), own.heartbeat]
        if self._last is None or self._last.phase != own.phase:
            phase = Phase(own.phase)
            await self._values["CurrentState"].write_value(ua.LocalizedText(_SYSTEM_STATES[phase], "en"))
            await self._values["AutomaticState"].write_value(
                ua.LocalizedText(_AUTOMATIC_STATES.get(phase, "Initialized"), "en")
            )
        await self._values["Outputs"].write_value(ua.Variant(words, ua.VariantType.UInt16))
        last, self._last = self._last, own
        if last is None or last.phase != own.phase:  # after the outputs, which no event may delay
            before, after = (_SYSTEM_STATES[Phase(one.phase)] if one else "" for one in (last, own))
            values = (before, after, Phase(own.phase).name, f"{own.number}", LineError(own.error).name)
            await _send_event(self._state_events, f"{before} to {after}", _STATE_FIELDS, values)

    async def show_result(self, number: int, result: InspectionOut) -> None:
        """The whole inspection as JSON, then a JSON of each region with its measurements and their uncertainties."""
        from asyncua import ua

        regions = [region.model_dump_json() for region in result.regions]
        values = {
            "ResultId": ua.Variant(f"{result.station}-{result.id}"),
            "PartId": ua.Variant(result.part_id or ""),
            "JobId": ua.Variant(f"{number}"),
            "InternalRecipeId": ua.Variant(f"{result.recipe.id}"),
            "ResultState": ua.Variant(_COMPLETED if result.error is None else _FAILED, ua.VariantType.Int32),
            "IsPartial": ua.Variant(False),
            "IsSimulated": ua.Variant(False),
            "CreationTime": ua.Variant(result.created_at.replace(tzinfo=None), ua.VariantType.DateTime),
            "ResultContent": ua.Variant([result.model_dump_json(), *regions], ua.VariantType.String),
        }
        for name, value in values.items():
            await self._server.write_attribute_value(self._values[name].nodeid, ua.DataValue(value))
        ids = [values[name].Value for name in _RESULT_FIELDS]
        await _send_event(self._result_events, f"result of job {number}", _RESULT_FIELDS, ids)

    async def watch_recipes(self) -> None:
        """Apart from the outputs, which must not wait for the database, nor end with it."""
        failed = False
        while True:
            try:
                await self._show_recipes()
                failed = False
            except Exception:
                if not failed:
                    log.exception("the recipes could not be read for OPC UA; retrying")
                failed = True
            await asyncio.sleep(RECIPES_S)

    async def _show_recipes(self) -> None:
        """A node for each recipe that was ever activated."""
        from asyncua import ua

        recipes = tuple(await asyncio.to_thread(self._context.recipes))
        if recipes == self._list:
            return
        for old in await self._recipes.get_children():
            await self._server.delete_nodes([old], recursive=True)
        for recipe in recipes:
            node = await self._recipes.add_object(self._own, f"{recipe.name} v{recipe.version}")
            await node.add_variable(self._vision, "ExternalId", f"{recipe.id}", ua.VariantType.String)
            await node.add_variable(self._vision, "IsActive", recipe.active, ua.VariantType.Boolean)
        self._list = recipes

    async def _child(self, parent: Any, name: str) -> Any | None:
        for child in await parent.get_children():
            if (await child.read_browse_name()).Name == name:
                return child
        return None

    async def _object(self, parent: Any, name: str) -> Any:
        return await self._child(parent, name) or await parent.add_object(self._vision, name)

    async def _state(self, machine: Any) -> Any:
        from asyncua import ua

        empty = ua.LocalizedText("Preoperational", "en")
        return await self._child(machine, "CurrentState") or await machine.add_variable(0, "CurrentState", empty)

    async def _method(self, parent: Any, name: str, given: list[Any], answers: list[Any]) -> None:
        """A method of the nodeset, or a new one whose arguments are plain."""
        from asyncua import ua

        def argument(own: tuple[str, Any]) -> Any:
            return ua.Argument(own[0], ua.NodeId(own[1].value), -1, [], ua.LocalizedText(own[0]))

        known = await self._child(parent, name)
        self._methods[name] = known or await parent.add_method(
            self._own if name == "Acknowledge" else self._vision, name, lambda _: [],
            [argument(own) for own in given], [argument(own) for own in answers],
        )  # fmt: skip


async def _send_event(events: Any, message: str, names: Sequence[str], values: Sequence[str]) -> None:
    for name, value in zip(names, values, strict=True):
        setattr(events.event, name, value)
    await events.trigger(message=message)


def _check_nodeset(path: Path) -> None:
    """Raises OptionError for a file that is no nodeset of Machine Vision."""
    try:
        known = f"<Uri>{MACHINE_VISION}</Uri>" in path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise OptionError(f"the nodeset {path} cannot be read: {error.strerror}") from error
    if not known:
        raise OptionError(f"{path} is not the nodeset of {MACHINE_VISION}")


async def _load_nodeset(server: Any, path: Path) -> None:
    await server.import_xml(path)
    await server.load_data_type_definitions()


async def _vision_system_type(server: Any, vision: int) -> Any:
    base = server.nodes.base_object_type
    return await base.get_child(f"{vision}:VisionSystemType")


def _identifier(value: Any) -> str:
    return _text(value).strip()


def _text(value: Any) -> str:
    """The text of an identifier, which is a text or a structure with a member Id; "" for none."""
    inner = getattr(value, "Id", value)
    return "" if inner is None else f"{inner}"


def _variant(value: Any) -> Any:
    from asyncua import ua

    if isinstance(value, bool):
        return ua.Variant(value, ua.VariantType.Boolean)
    return ua.Variant(value, ua.VariantType.Int32) if isinstance(value, int) else ua.Variant(value)


class OpcUaPlcWire:
    """A PLC's access to a station by OPC UA, with the signals of the other wires; connects again by itself."""

    def __init__(self, url: str, user: str, password: str, keys: Path, timeout_s: float = 0.5) -> None:
        self._url, self._user, self._password, self._keys = url, user, password, keys
        self._timeout_s = timeout_s
        self._loop = asyncio.new_event_loop()
        self._client: Any = None
        self._nodes: dict[str, Any] = {}
        self._asked: str | None = None  # the job id of the request that stands
        self._number = (0, 0)  # the PLC's own number, and the station's
        self._before = PlcSignals()

    def exchange(self, signals: PlcSignals) -> LineOutputs:
        try:
            return self._loop.run_until_complete(self._exchange(signals))
        except Exception as error:
            with suppress(Exception):
                self._loop.run_until_complete(asyncio.wait_for(self._drop(), 1))
            raise ConnectionError(str(error)) from error

    async def _exchange(self, signals: PlcSignals) -> LineOutputs:
        from asyncua import ua

        if self._client is None:
            await self._connect()
        nodes = self._nodes
        await nodes["PlcHeartbeat"].write_value(ua.Variant(signals.heartbeat, ua.VariantType.UInt16))
        if signals.request and not self._before.request:
            values = ("", signals.part_id, f"{signals.recipe or ''}", "", "")
            job, error = await nodes["automatic"].call_method(nodes["StartSingleJob"], *values)
            if error == _OK:
                self._asked, self._number = job, (signals.number, int(job))
        elif self._before.request and not signals.request and self._asked is not None:
            await nodes["line"].call_method(nodes["Acknowledge"], self._asked)
            self._asked = None
        if signals.reset:
            await nodes["machine"].call_method(nodes["Reset"], "")
        self._before = signals
        own = LineOutputs(*await nodes["Outputs"].read_value())
        number = self._number[0] if own.number == self._number[1] else 0
        return replace(own, number=number)

    async def _connect(self) -> None:
        from asyncua import Client
        from asyncua.crypto.cert_gen import setup_self_signed_certificate
        from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
        from cryptography.x509.oid import ExtendedKeyUsageOID

        client = Client(self._url, timeout=self._timeout_s if self._nodes else 10)
        client.application_uri = "urn:blemish:plc"
        key, certificate = self._keys / "plc-key.pem", self._keys / "plc-certificate.der"
        await setup_self_signed_certificate(
            key, certificate, client.application_uri, "localhost", [ExtendedKeyUsageOID.CLIENT_AUTH],
            {"commonName": "PLC"},
        )  # fmt: skip
        await client.set_security(SecurityPolicyBasic256Sha256, certificate, key)
        client.set_user(self._user)
        client.set_password(self._password)
        await client.connect()
        self._client = client
        own, vision = [await client.get_namespace_index(uri) for uri in (LINE, MACHINE_VISION)]
        path = {
            "line": [f"{own}:Line"],
            "Outputs": [f"{own}:Line", f"{own}:Outputs"],
            "PlcHeartbeat": [f"{own}:Line", f"{own}:PlcHeartbeat"],
            "Acknowledge": [f"{own}:Line", f"{own}:Acknowledge"],
            "machine": [f"{vision}:VisionStateMachine"],
            "Reset": [f"{vision}:VisionStateMachine", f"{vision}:Reset"],
            "automatic": [f"{vision}:VisionStateMachine", f"{vision}:AutomaticModeStateMachine"],
        }
        path["StartSingleJob"] = [*path["automatic"], f"{vision}:StartSingleJob"]
        system = await client.nodes.objects.get_child(f"{own}:VisionSystem")
        self._nodes = {name: await system.get_child(steps) for name, steps in path.items()}

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.disconnect()

    def close(self) -> None:
        with suppress(Exception):
            self._loop.run_until_complete(asyncio.wait_for(self._drop(), 5))
        self._loop.close()
