"""The line by OPC UA, with asyncua's client as the PLC: names, users, security, jobs and results."""

import asyncio
import json
import os
import socket
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from station_helpers import run_station, wait_until

from blemish.errors import OptionError
from blemish.inspection.result import Verdict
from blemish.station import auth
from blemish.station.auth import TooManyFailuresError
from blemish.station.line.connect import line_context
from blemish.station.line.driver import LineOutputs
from blemish.station.line.machine import LineError, LineLimits, Phase
from blemish.station.line.plc import Plc, PlcLimits, StopReason
from blemish.station.line.transport import LineAddress, LineContext, LineRecipe
from blemish.station.models import AuditRow, TokenRow
from blemish.station.schemas import InspectionOut, RecipeRef, RegionRecord
from blemish.station.sign_in import WrongSignInError

pytest.importorskip("asyncua")
from asyncua import Client, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from blemish.station.line.opcua import OpcUaLine
from blemish.station.line.opcua_nodes import LINE, MACHINE_VISION
from blemish.station.line.opcua_plc import OpcUaPlcWire

LIMITS = LineLimits(heartbeat_s=2.0, answer_s=5.0)
PLC = PlcLimits(watchdog_s=2.0, answer_s=8.0, ready_s=30.0)
PASSWORDS = {"otto": ("secret-of-otto", "operator"), "plc": ("secret-of-plc", "line")}
RECIPES = [LineRecipe(3, "caps", 2, True), LineRecipe(5, "lids", 1, False)]


def sign_in(name, password, address=""):
    known, role = PASSWORDS.get(name, (None, None))
    if password != known:
        raise WrongSignInError("wrong name or password")
    return lambda: role


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Making the keys of a server and a client takes a while, so all share them."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def line(keys):
    """One server for all: it loads the whole address space of OPC UA."""
    context = LineContext(keys, lambda: RECIPES, sign_in)
    own = OpcUaLine(LineAddress("opcua", "127.0.0.1", free_port()), context)
    own.open()
    yield own
    own.close()


def url(line):
    return f"opc.tcp://127.0.0.1:{line._address[1]}/blemish"


@asynccontextmanager
async def connected(line, keys, name="plc", password=None):
    client = Client(url(line), timeout=20)
    client.application_uri = "urn:blemish:plc"
    key, certificate = keys / "plc-key.pem", keys / "plc-certificate.der"
    await setup_self_signed_certificate(
        key, certificate, client.application_uri, "localhost", [], {"commonName": "PLC"}
    )
    await client.set_security(SecurityPolicyBasic256Sha256, certificate, key)
    client.set_user(name)
    client.set_password(PASSWORDS[name][0] if password is None else password)
    async with client:
        yield client


async def find(client, *names):
    node = client.nodes.objects
    for name in names:
        named = [(await child.read_browse_name()).Name for child in await node.get_children()]
        node = (await node.get_children())[named.index(name)]
    return node


async def subscribe(client):
    """The events of the line's own types, as they come."""
    found = []

    class Handler:
        def event_notification(self, event):
            fields = event.get_event_props_as_fields_dict()
            found.append({name: field.Value for name, field in fields.items() if field.Value is not None})

    kinds = [
        node
        for node in await client.nodes.base_event_type.get_children()
        if (await node.read_browse_name()).Name in ("StateChanged", "ResultReady")
    ]
    assert len(kinds) == 2
    subscription = await client.create_subscription(20, Handler())
    await subscription.subscribe_events(client.nodes.server, kinds)
    return found


def inspection(number):
    """A recorded result with a region whose length is 12.5 ± 0.5 px."""
    region = RegionRecord(
        label="scratch", score=0.9, box=(1, 2, 3, 4),
        measurements=dict.fromkeys(RegionRecord.model_fields["measurements"].annotation.__args__[0].model_fields, 1.0)
        | {"length_px": 12.5, "length_px_u": 0.5},
    )  # fmt: skip
    return InspectionOut(
        id=40 + number, record="a1b2", part_id=f"part-{number}", lot=None,
        station="s1", origin="line", created_at=datetime.now(UTC),
        image_sha256="0" * 64, error=None, verdict="reject", label="scratch", score=0.9, class_scores=None,
        reasons=[], timings_ms={}, size=(8, 8), regions=[region], recipe=RecipeRef(id=3, name="caps", version=2),
        image_stored=False, reviews=[],
    )  # fmt: skip


def test_parts_over_opcua(plant, line, keys):
    wire = OpcUaPlcWire(url(line), "plc", "secret-of-plc", keys, timeout_s=2.0)
    plc = Plc(wire, PLC, first_number=500)
    with plant.running(line, LIMITS):
        assert plc.inspect("good-1").verdict == Verdict.PASS
        rejected = plc.inspect("bad-2")
        assert (rejected.number, rejected.verdict) == (501, Verdict.REJECT)
        broken = plc.inspect("none-3")
        assert (broken.verdict, broken.reason, broken.error) == (None, StopReason.ERROR, LineError.NO_ANSWER)
        assert plc.inspect("good-4").verdict == Verdict.PASS
    stopped = Plc(wire, PlcLimits(watchdog_s=0.5, ready_s=1.5)).inspect("good-5")
    assert (stopped.verdict, stopped.reason) == (None, StopReason.NOT_READY)
    wire.close()
    assert [part_id for _, part_id, _ in plant.recorded] == ["good-1", "bad-2", "good-4"]


def test_states_recipes_and_results_have_the_names_of_the_specification(plant, line, keys):
    async def drive():
        async with connected(line, keys) as client:
            assert await client.get_namespace_index(MACHINE_VISION) > 1
            assert await client.get_namespace_index(LINE) > 1
            recipes = await find(client, "VisionSystem", "RecipeManagement", "Recipes")
            until = time.monotonic() + 20
            while len(await recipes.get_children()) < 2:
                assert time.monotonic() < until
                await asyncio.sleep(0.02)
            names = [(await node.read_browse_name()).Name for node in await recipes.get_children()]
            assert names == ["caps v2", "lids v1"]
            management = await find(client, "VisionSystem", "RecipeManagement")
            prepare = await find(client, "VisionSystem", "RecipeManagement", "PrepareRecipe")
            assert await management.call_method(prepare, "5", "") == [True, 0]
            assert await management.call_method(prepare, "9", "") == [False, 1]
            system = await find(client, "VisionSystem", "VisionStateMachine", "CurrentState")
            automatic = await find(client, "VisionSystem", "VisionStateMachine", "AutomaticModeStateMachine")
            start = await find(client, "VisionSystem", "VisionStateMachine", "AutomaticModeStateMachine",
                               "StartSingleJob")  # fmt: skip
            heartbeat = await find(client, "VisionSystem", "Line", "PlcHeartbeat")
            outputs = await find(client, "VisionSystem", "Line", "Outputs")
            until = time.monotonic() + 20
            while (await system.read_value()).Text != "Preoperational":  # the heartbeat of the test before runs out
                assert time.monotonic() < until
                await asyncio.sleep(0.02)
            refused = await automatic.call_method(start, "", "part-1", "", "", "")
            assert refused == ["", 1]  # not ready
            events = await subscribe(client)
            for beat in range(1, 500):
                await heartbeat.write_value(ua.Variant(beat, ua.VariantType.UInt16))
                if (await system.read_value()).Text == "Operational":
                    break
                await asyncio.sleep(0.02)
            long = await automatic.call_method(start, "", "bad" + 200 * "0", "", "", "")
            assert long == ["", 1]  # an id that no record keeps whole
            job, error = await automatic.call_method(start, "", "bad-1", "", "", "")
            assert error == 0
            for beat in range(500, 1000):
                await heartbeat.write_value(ua.Variant(beat, ua.VariantType.UInt16))
                phase, verdict, number, *_ = await outputs.read_value()
                if phase == 3:
                    break
                await asyncio.sleep(0.02)
            assert (verdict, f"{number}") == (3, job)
            result = await find(client, "VisionSystem", "ResultManagement", "Results", "Result")
            values = {}
            for node in await result.get_children():
                values[(await node.read_browse_name()).Name] = await node.read_value()
            until = time.monotonic() + 20
            while "RESULT" not in [event.get("Phase") for event in events]:
                assert time.monotonic() < until, events
                await asyncio.sleep(0.02)
            return job, values, events

    def inspect(part, key):
        assert part.recipe == 5  # the prepared one
        line.publish(part.number, inspection(part.number))
        return Plant_inspect(part, key)

    Plant_inspect, plant.inspect = plant.inspect, inspect
    with plant.running(line, LIMITS):
        job, values, events = asyncio.run(drive())
    assert (values["JobId"], values["PartId"], values["ResultId"]) == (job, f"part-{job}", f"a1b2-{40 + int(job)}")
    assert (values["ResultState"], values["IsPartial"], values["IsSimulated"]) == (1, False, False)
    region = json.loads(values["ResultContent"][1])["measurements"]
    assert (region["length_px"], region["length_px_u"]) == (12.5, 0.5)
    assert json.loads(values["ResultContent"][0])["verdict"] == "reject"
    phases = [(event["Phase"], event["Error"]) for event in events if "Phase" in event]
    assert phases[:3] == [("READY", "NONE"), ("BUSY", "NONE"), ("RESULT", "NONE")]
    (ready,) = [event for event in events if "ResultId" in event]
    assert (ready["JobId"], ready["PartId"], ready["ResultId"]) == (job, values["PartId"], values["ResultId"])
    assert not any("reject" in str(event).lower() for event in events)  # a verdict is read in one place alone


def test_users_roles_and_encryption(line, keys):
    async def drive():
        for name, password in (("plc", "wrong"), ("otto", "")):
            with pytest.raises(ua.UaStatusCodeError):
                async with connected(line, keys, name, password):
                    pass
        plain = Client(url(line), timeout=10)  # without encryption, and without a user
        with pytest.raises((ua.UaError, ConnectionError, asyncio.TimeoutError)):
            async with plain:
                await plain.nodes.objects.get_children()
        async with connected(line, keys, "otto") as client:
            outputs = await find(client, "VisionSystem", "Line", "Outputs")
            assert len(await outputs.read_value()) == 5
            heartbeat = await find(client, "VisionSystem", "Line", "PlcHeartbeat")
            with pytest.raises(ua.UaStatusCodeError):
                await heartbeat.write_value(ua.Variant(1, ua.VariantType.UInt16))
            machine = await find(client, "VisionSystem", "VisionStateMachine")
            reset = await find(client, "VisionSystem", "VisionStateMachine", "Reset")
            with pytest.raises(ua.UaStatusCodeError):
                await machine.call_method(reset, "")
        async with connected(line, keys, "plc") as client:
            outputs = await find(client, "VisionSystem", "Line", "Outputs")
            with pytest.raises(ua.UaStatusCodeError):  # no client may write a verdict
                await outputs.write_value(ua.Variant([3, 1, 1, 0, 1], ua.VariantType.UInt16))
            with pytest.raises(ua.UaStatusCodeError):
                await client.nodes.objects.add_object(2, "mine")

    asyncio.run(drive())
    assert (keys / "opcua-key.pem").stat().st_mode & 0o077 == 0


def test_a_nodeset_that_is_none(keys, tmp_path):
    (tmp_path / "other.xml").write_text("<UANodeSet/>")
    context = LineContext(keys, nodeset=tmp_path / "other.xml")
    with pytest.raises(OptionError, match="is not the nodeset"):
        OpcUaLine(LineAddress("opcua", "127.0.0.1", free_port()), context).open()


def test_the_published_nodeset(plant, keys):
    """Only where it is at hand: BLEMISH_NODESET is the path of Opc.Ua.MachineVision.NodeSet2.xml."""
    path = os.environ.get("BLEMISH_NODESET")
    if not path:
        pytest.skip("BLEMISH_NODESET does not name the published nodeset of OPC 40100-1, which is not shipped here")
    line = OpcUaLine(
        LineAddress("opcua", "127.0.0.1", free_port()), LineContext(keys, lambda: RECIPES, sign_in, Path(path))
    )
    line.open()

    async def drive():
        async with connected(line, keys) as client:
            vision = await client.get_namespace_index(MACHINE_VISION)
            system = await find(client, "VisionSystem")
            kind = client.get_node(await system.read_type_definition())
            assert (await kind.read_browse_name()).Name == "VisionSystemType"
            await client.load_data_type_definitions()
            automatic = await find(client, "VisionSystem", "VisionStateMachine", "AutomaticModeStateMachine")
            start = await automatic.get_child(f"{vision}:StartSingleJob")
            state = await find(client, "VisionSystem", "VisionStateMachine", "CurrentState")
            heartbeat = await find(client, "VisionSystem", "Line", "PlcHeartbeat")
            for beat in range(1, 500):
                await heartbeat.write_value(ua.Variant(beat, ua.VariantType.UInt16))
                if (await state.read_value()).Text == "Operational":
                    break
                await asyncio.sleep(0.02)
            given = (ua.MeasIdDataType(), ua.PartIdDataType(Id="good-1"), ua.RecipeIdExternalDataType(),
                     ua.ProductIdDataType())  # fmt: skip
            job, error = await automatic.call_method(
                start, *given[:4], ua.Variant([], ua.VariantType.Variant, is_array=True)
            )
            assert error == 0
            assert job.Id == "1"
            for _ in range(100):
                if plant.recorded:
                    return
                await asyncio.sleep(0.02)

    try:
        with plant.running(line, LIMITS):
            asyncio.run(drive())
    finally:
        line.close()
    assert plant.recorded[0][1:] == ("good-1", Verdict.PASS)


def test_failures_at_another_address_lock_nobody_out(keys, tmp_path):
    """One in the factory who guesses passwords of the PLC's user keeps only himself out."""
    with run_station(tmp_path / "station", None) as station:
        with station.database.writing() as session:
            auth.create_user(session, "lina", "line", "password of lina", "test")
        context = line_context(station.settings, station.database, station.sign_ins)
        for _ in range(12):
            with suppress(WrongSignInError, TooManyFailuresError):
                context.sign_in("lina", "a guess", "10.0.0.7")
        with pytest.raises(TooManyFailuresError):
            context.sign_in("lina", "password of lina", "10.0.0.7")
        own = OpcUaLine(LineAddress("opcua", "127.0.0.1", free_port()), context)
        own.open()

        async def drive():
            async with connected(own, keys, "lina", "password of lina") as client:
                assert await client.nodes.objects.get_children()

        try:
            asyncio.run(drive())
        finally:
            own.close()
        with station.database.reading() as session:
            rows = session.scalars(select(AuditRow).where(AuditRow.action == "sign-in", AuditRow.subject == "lina"))
            assert [row.after["address"] for row in rows] == ["line 127.0.0.1"]


def test_users_and_tokens_of_a_station_and_a_database_that_is_lost_for_a_while(keys, tmp_path, monkeypatch):
    """Of a real station: the server asks on its event loop, where the database refuses to be asked."""
    with run_station(tmp_path / "station", None) as station:
        with station.database.writing() as session:
            auth.create_user(session, "lina", "line", "password of lina", "test")
            token = auth.create_token(session, "plc", "line", "test")
            auth.create_token(session, "root", "admin", "test")
        context = line_context(station.settings, station.database, station.sign_ins)
        own = OpcUaLine(LineAddress("opcua", "127.0.0.1", free_port()), context)
        own.open()

        def revoke():
            with station.database.writing() as session:
                auth.revoke(session, session.scalar(select(TokenRow).where(TokenRow.name == "plc")), "test")
            station.access.refresh()

        async def beat(client):
            node = await find(client, "VisionSystem", "Line", "PlcHeartbeat")
            await node.write_value(ua.Variant(int(time.monotonic()) % 60000, ua.VariantType.UInt16))

        async def drive():
            with pytest.raises(ua.UaStatusCodeError) as refused:
                async with connected(own, keys, "lina", "a wrong password"):
                    pass
            assert refused.value.code == ua.StatusCodes.BadUserAccessDenied
            async with connected(own, keys, "lina", "password of lina") as client:
                await beat(client)
            async with connected(own, keys, "plc", token) as client:
                await beat(client)
                await asyncio.to_thread(revoke)
                with pytest.raises(ua.UaStatusCodeError) as refused:  # in the session that it opened
                    await beat(client)
            assert refused.value.code == ua.StatusCodes.BadUserAccessDenied

        def lose():
            raise OperationalError("SELECT", {}, Exception("server closed the connection"))

        def shown(phase):
            own.write(LineOutputs(phase))
            return own._nodes._last is not None and own._nodes._last.phase == phase

        try:
            asyncio.run(drive())
            with monkeypatch.context() as lost:
                lost.setattr(station.database, "reading", lose)
                for phase in (Phase.READY, Phase.NOT_READY, Phase.READY):
                    wait_until(lambda phase=phase: shown(phase), 20)
                time.sleep(1.2)  # the recipes are looked at
                assert own.problem() == ""
            wait_until(lambda: shown(Phase.NOT_READY), 20)
            assert own.problem() == ""
        finally:
            own.close()
        assert own.problem() != ""
