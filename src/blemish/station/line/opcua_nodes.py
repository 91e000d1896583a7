"""The nodes of a line's OPC UA server, and what they show: states, outputs, the newest result, recipes, events."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from blemish.errors import OptionError
from blemish.station.line.driver import LineOutputs
from blemish.station.line.machine import LineError, Phase
from blemish.station.line.transport import LineContext
from blemish.station.schemas import InspectionOut

log = logging.getLogger("blemish.station")
MACHINE_VISION = "http://opcfoundation.org/UA/MachineVision"
LINE = "urn:blemish:line"
RECIPES_S = 1.0  # between two looks at the station's recipes
_SYSTEM_STATES = {
    Phase.NOT_READY: "Preoperational", Phase.READY: "Operational", Phase.BUSY: "Operational",
    Phase.RESULT: "Operational", Phase.ERROR: "Error",
}  # fmt: skip
_AUTOMATIC_STATES = {Phase.READY: "Ready", Phase.BUSY: "SingleExecution", Phase.RESULT: "SingleExecution"}
_COMPLETED, _FAILED = 1, 4  # ResultStateDataType
OK, REFUSED = 0, 1  # the argument Error of the methods
_STATE_FIELDS = ("FromState", "ToState", "Phase", "JobId", "Error")  # of the event StateChanged
_RESULT_FIELDS = ("ResultId", "PartId", "JobId")  # of ResultReady; no verdict, which is valid in one phase only
# Name of each value of a result, the OPC UA type, and what stands there before the first result.
_RESULT_VALUES = (
    ("ResultId", "String", ""), ("PartId", "String", ""), ("JobId", "String", ""), ("InternalRecipeId", "String", ""),
    ("ResultState", "Int32", 0), ("IsPartial", "Boolean", False), ("IsSimulated", "Boolean", False),
    ("CreationTime", "DateTime", datetime(1970, 1, 1)), ("ResultContent", "String", [""]),
)  # fmt: skip


def check_nodeset(path: Path) -> None:
    """Raises OptionError for a file that is no nodeset of Machine Vision."""
    try:
        known = f"<Uri>{MACHINE_VISION}</Uri>" in path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise OptionError(f"the nodeset {path} cannot be read: {error.strerror}") from error
    if not known:
        raise OptionError(f"{path} is not the nodeset of {MACHINE_VISION}")


class OpcUaNodes:
    """Those of the nodeset's VisionSystemType where it is given, else own ones."""

    def __init__(self, server: Any, context: LineContext, own: int, vision: int) -> None:
        self._server, self._context, self._own, self._vision = server, context, own, vision
        self._methods: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        self._recipes: Any = None
        self._list: tuple[Any, ...] = ()
        self._last: LineOutputs | None = None
        self.plc_heartbeat: Any = None
        self._state_events: Any = None
        self._result_events: Any = None

    @classmethod
    async def build(cls, server: Any, context: LineContext) -> "OpcUaNodes":
        from asyncua import ua

        if context.nodeset is not None:
            await server.import_xml(context.nodeset)
            await server.load_data_type_definitions()
        vision = await server.register_namespace(MACHINE_VISION)
        own = await server.register_namespace(LINE)
        nodes = cls(server, context, own, vision)
        kind = {}
        if context.nodeset is not None:
            kind["objecttype"] = await server.nodes.base_object_type.get_child(f"{vision}:VisionSystemType")
        system = await server.nodes.objects.add_object(own, "VisionSystem", **kind)
        machine = await nodes._object(system, "VisionStateMachine")
        automatic = await nodes._object(machine, "AutomaticModeStateMachine")
        recipes = await nodes._object(system, "RecipeManagement")
        results = await nodes._object(system, "ResultManagement")
        text, number, flag = ua.VariantType.String, ua.VariantType.Int32, ua.VariantType.Boolean
        await nodes._method(machine, "Reset", [("CauseDescription", text)], [("Error", number)])
        await nodes._method(automatic, "Abort", [("CauseDescription", text)], [("Error", number)])
        await nodes._method(
            automatic, "StartSingleJob",
            [("MeasId", text), ("PartId", text), ("RecipeId", text), ("ProductId", text), ("Parameters", text)],
            [("JobId", text), ("Error", number)],
        )  # fmt: skip
        await nodes._method(
            recipes, "PrepareRecipe", [("ExternalId", text), ("InternalIdIn", text)],
            [("IsPrepared", flag), ("Error", number)],
        )  # fmt: skip
        await nodes._method(
            recipes, "UnprepareRecipe", [("ExternalId", text), ("InternalIdIn", text)], [("Error", number)]
        )
        nodes._recipes = await nodes._object(recipes, "Recipes")
        nodes._values["CurrentState"] = await nodes._state(machine)
        nodes._values["AutomaticState"] = await nodes._state(automatic)
        folder = await nodes._object(results, "Results")
        newest = await folder.add_object(own, "Result")
        for name, type_name, start in _RESULT_VALUES:
            nodes._values[name] = await newest.add_variable(vision, name, start, ua.VariantType[type_name])
        line = await system.add_object(own, "Line")
        nodes._values["Outputs"] = await line.add_variable(own, "Outputs", [0] * 5, ua.VariantType.UInt16)
        nodes.plc_heartbeat = await line.add_variable(own, "PlcHeartbeat", 0, ua.VariantType.UInt16)
        await nodes.plc_heartbeat.set_writable()
        await nodes._method(line, "Acknowledge", [("JobId", text)], [("Error", number)])
        nodes._state_events = await nodes._events("StateChanged", _STATE_FIELDS)
        nodes._result_events = await nodes._events("ResultReady", _RESULT_FIELDS)
        return nodes

    async def _events(self, name: str, fields: Sequence[str]) -> Any:
        """A generator of events of an own type, for clients that subscribe at the Server object."""
        from asyncua import ua

        values = [(field, ua.VariantType.String) for field in fields]
        kind = await self._server.create_custom_event_type(self._own, name, ua.ObjectIds.BaseEventType, values)
        return await self._server.get_event_generator(kind, ua.ObjectIds.Server)

    def identifier(self, kind: str, text: str) -> Any:
        """An identifier as the nodeset's structure `kind`, or as text."""
        from asyncua import ua

        return getattr(ua, kind)(Id=text) if self._context.nodeset is not None else text

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
            "ResultId": ua.Variant(result.identity),
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


def _variant(value: Any) -> Any:
    from asyncua import ua

    if isinstance(value, bool):
        return ua.Variant(value, ua.VariantType.Boolean)
    return ua.Variant(value, ua.VariantType.Int32) if isinstance(value, int) else ua.Variant(value)
