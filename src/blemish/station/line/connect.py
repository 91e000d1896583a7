"""A line of a station: its wire by an address, its cameras, and the inspection of each requested part."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import DataError
from blemish.inspection.result import Verdict
from blemish.station.cameras.settings import CameraSettings
from blemish.station.database import Database
from blemish.station.line.cameras import LineCameras
from blemish.station.line.driver import LineDriver, PartRequest, TransitionLog
from blemish.station.line.machine import LineLimits
from blemish.station.line.modbus import ModbusLine
from blemish.station.line.opcua import OpcUaLine
from blemish.station.line.tcp import TcpLine
from blemish.station.line.transport import (
    LineContext,
    LineRecipe,
    OpenTransport,
    PresentRole,
    TransportFactory,
    load_plugin,
    parse_address,
    plugin_kinds,
)
from blemish.station.models import RecipeRow
from blemish.station.recipes import active_recipe
from blemish.station.service import InspectionService
from blemish.station.settings import Settings
from blemish.station.sign_in import SignIns
from blemish.station.tickets import WithdrawnError

log = logging.getLogger("blemish.station")
TRANSPORTS: dict[str, TransportFactory] = {
    "modbus": lambda address, _: ModbusLine(address.host, address.port),
    "opcua": OpcUaLine,
    "tcp": lambda address, _: TcpLine(address.host, address.port),
}
SOURCE = "line"


def make_transport(text: str, context: LineContext) -> OpenTransport:
    """The transport of an address, which is not open yet; raises OptionError."""
    plugins = [kind for kind in plugin_kinds() if kind not in TRANSPORTS]
    address = parse_address(text, [*sorted(TRANSPORTS), *plugins])
    make = TRANSPORTS.get(address.kind) or load_plugin(address.kind)
    return make(address, context)


@contextmanager
def open_line(
    service: InspectionService,
    address: str,
    cameras: LineCameras,
    limits: LineLimits | None = None,
    context: LineContext | None = None,
) -> Iterator[OpenTransport]:
    """Run a line as long as the block lasts; raises OptionError where its address cannot be used."""
    transport = make_transport(address, context or LineContext(service.settings.data))
    stop, pool = threading.Event(), ThreadPoolExecutor(1, "blemish-line")
    journal = TransitionLog(service.settings.data / "line.jsonl")

    def inspect(part: PartRequest, key: str) -> "Future[Verdict]":
        return pool.submit(inspect_part, service, cameras, transport, part, key)

    def available() -> bool:
        try:
            with service.database.reading() as session:
                ready = active_recipe(session) is not None
        except SQLAlchemyError:
            return False  # nothing could be recorded
        return ready and cameras.works and not service.stalled()

    def settings() -> dict[str, CameraSettings] | None:
        try:
            return service.recipes.pictures(service.recipes.resolve(None))[1]
        except DataError:
            return None  # no recipe yet

    transport.open()
    watch = threading.Thread(target=cameras.watch, args=(settings, stop), name="blemish-line-cameras", daemon=True)
    watch.start()
    driver = LineDriver(transport, inspect, available, journal.append, limits)
    thread = threading.Thread(target=driver.run, args=(stop,), name="blemish-line-cycle", daemon=True)
    thread.start()
    name = address.partition(":")[0]
    service.sources.add_line(name, lambda: transport.problem() or driver.problem())
    try:
        yield transport
    finally:
        service.sources.remove_line(name)
        stop.set()
        thread.join(10)
        watch.join(10)
        transport.close()
        pool.shutdown(wait=False, cancel_futures=True)


def line_context(settings: Settings, database: Database, sign_ins: SignIns) -> LineContext:
    """What the transport of a station may ask it: its recipes, and who its users are."""

    def recipes() -> list[LineRecipe]:
        with database.reading() as session:
            active = active_recipe(session)
            query = select(RecipeRow.id, RecipeRow.name, RecipeRow.version).where(RecipeRow.activation.is_not(None))
            rows = session.execute(query.order_by(RecipeRow.id)).all()
            return [LineRecipe(*row, active=active is not None and row.id == active.id) for row in rows]

    def sign_in(name: str, password: str, address: str = "") -> PresentRole:
        """By name and password, or by any name and a token as password."""
        where = f"{SOURCE} {address}".strip()
        return sign_ins.access.follow(sign_ins.check(where, name, password, token=password))

    return LineContext(settings.data, recipes, sign_in, settings.line_nodeset)


def inspect_part(
    service: InspectionService, cameras: LineCameras, transport: OpenTransport, part: PartRequest, key: str
) -> Verdict:
    """Take the pictures of a part and return its verdict, which is recorded by then; any error means: no verdict.

    Raises WithdrawnError, without a record, where the PLC no longer waits for the part.
    """
    recipe_id = service.recipes.resolve(f"{part.recipe}" if part.recipe else None)
    views, settings = service.recipes.pictures(recipe_id)
    _check_stands(part)
    stream = cameras.take(views, settings)
    _check_stands(part)
    service.reserve(SOURCE)
    answer = service.submit_image(
        stream,
        recipe_id,
        SOURCE,
        part_id=part.part_id or f"{part.number}",
        key=key,
        record_failure=True,
        sender=SOURCE,
        stands=part.stands,
    ).result()
    if not part.stands():  # between its commit and now; the picture was of the right part
        log.warning("part %d of the line was recorded, and the PLC had given it up just then", part.number)
    transport.publish(part.number, answer)
    return Verdict(answer.verdict)


def _check_stands(part: PartRequest) -> None:
    if not part.stands():
        raise WithdrawnError
