"""The line with real peers on this machine: a pymodbus client and a socket, cut and silent ones too."""

import asyncio
import json
import socket
import threading
import time

import pytest
from station_helpers import wait_until

from blemish.errors import DataError, OptionError
from blemish.inspection.result import Verdict
from blemish.station.line import loop_thread, tcp
from blemish.station.line.connect import make_transport
from blemish.station.line.driver import LineOutputs, TransitionLog
from blemish.station.line.machine import LineError, LineLimits, LineState, Phase, PlcSignals
from blemish.station.line.tcp import TcpLine
from blemish.station.line.transport import LineContext, parse_address


class WireInMemory:
    """Signals that a test sets, and outputs that it looks at."""

    def __init__(self):
        self.signals, self.outputs, self.broken = PlcSignals(), LineOutputs(), False

    def read(self):
        if self.broken:
            raise ConnectionResetError
        return self.signals

    def write(self, outputs):
        self.outputs = outputs


def ready_driver(plant):
    wire = WireInMemory()
    driver = plant.driver(wire)
    for beat in (1, 2):
        wire.signals = PlcSignals(beat)
        driver.cycle(beat / 10)
    assert wire.outputs.phase == Phase.READY
    return wire, driver


def until_answered(driver, wire, now):
    for _ in range(200):
        now += 0.001
        driver.cycle(now)
        if wire.outputs.phase != Phase.BUSY:
            return
        time.sleep(0.005)


def test_a_pass_is_shown_after_its_record_and_each_transition_is_recorded(plant):
    wire, driver = ready_driver(plant)
    wire.signals = PlcSignals(3, request=True, number=5, part_id="good 1")
    driver.cycle(0.3)
    until_answered(driver, wire, 0.3)
    assert plant.recorded == [(5, "good 1", Verdict.PASS)]
    assert (wire.outputs.phase, wire.outputs.verdict, wire.outputs.number) == (Phase.RESULT, 1, 5)
    wire.signals = PlcSignals(4)
    driver.cycle(0.5)
    names = [phase for _, phase in plant.transitions]
    assert names == [Phase.READY, Phase.BUSY, Phase.RESULT, Phase.READY]


def test_a_full_disk_is_never_a_pass(plant):
    wire, driver = ready_driver(plant)
    wire.signals = PlcSignals(3, request=True, number=5, part_id="good 1")
    driver.cycle(0.3)
    plant.disk_full = True
    until_answered(driver, wire, 0.3)
    assert (wire.outputs.phase, wire.outputs.verdict, wire.outputs.error) == (Phase.ERROR, 0, LineError.RECORD)


def test_no_image_a_dead_wire_and_a_silent_plc_are_errors(plant):
    wire, driver = ready_driver(plant)
    wire.signals = PlcSignals(3, request=True, number=5, part_id="none")
    driver.cycle(0.3)
    until_answered(driver, wire, 0.3)
    assert wire.outputs.error == LineError.NO_ANSWER
    for broken in (True, False):  # a wire that cannot be read, and one that gives the same values for ever
        wire, driver = ready_driver(plant)
        wire.signals = PlcSignals(3, request=True, number=5, part_id="good")
        driver.cycle(0.3)
        until_answered(driver, wire, 0.3)
        assert wire.outputs.verdict == 1
        wire.broken = broken
        driver.cycle(1.2)
        assert (wire.outputs.verdict, wire.outputs.error) == (0, LineError.HEARTBEAT)


def test_an_inspection_that_cannot_begin_is_an_error(plant):
    wire, driver = ready_driver(plant)

    def refuse(part, key):
        raise OSError("queue full")

    driver._inspect = refuse
    wire.signals = PlcSignals(3, request=True, number=5, part_id="good")
    driver.cycle(0.3)
    assert (wire.outputs.phase, wire.outputs.error) == (Phase.ERROR, LineError.NO_ANSWER)


def test_transitions_on_disk(tmp_path):
    log = TransitionLog(tmp_path / "line.jsonl")
    log.append(LineState(Phase.BUSY, number=3, part_id="A"), LineState(Phase.RESULT, number=3, verdict=Verdict.REJECT))
    entry = json.loads((tmp_path / "line.jsonl").read_text())
    assert (entry["from"], entry["to"], entry["number"], entry["verdict"]) == ("BUSY", "RESULT", 3, "reject")
    with pytest.raises(OSError, match="No such file"):
        TransitionLog(tmp_path / "gone" / "line.jsonl").append(LineState(), LineState())


class ModbusPlc:
    """A PLC that keeps its own copy of the registers and beats while it waits."""

    def __init__(self, client):
        self.client, self.beat = client, 0

    def write(self, flags=0, number=0, part_id="", recipe=0):
        self.beat = (self.beat + 1) % 65536
        text = part_id.encode("ascii").ljust(32, b"\0")
        words = [self.beat, flags, number, recipe, *(int.from_bytes(text[i : i + 2], "big") for i in range(0, 32, 2))]
        assert not self.client.write_registers(0, words).isError()

    def read(self):
        return LineOutputs(*self.client.read_input_registers(0, count=5).registers)

    def wait(self, *phases, **signals):
        until = time.monotonic() + 8
        while (own := self.read()).phase not in phases:
            assert time.monotonic() < until, own
            self.write(**signals)
            time.sleep(0.02)
        return own


@pytest.fixture
def modbus(plant):
    pytest.importorskip("pymodbus")
    from pymodbus.client import ModbusTcpClient

    from blemish.station.line.modbus import ModbusLine

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = ModbusLine("127.0.0.1", port)
    line.open()
    client = ModbusTcpClient("127.0.0.1", port=port)
    assert client.connect()
    yield line, ModbusPlc(client)
    client.close()
    line.close()


def test_parts_over_modbus(plant, modbus):
    line, plc = modbus
    with plant.running(line):
        plc.wait(Phase.READY)
        for number, (part_id, code) in enumerate((("good-1", 1), ("bad-2", 3), ("good-3", 1)), 1):
            own = plc.wait(Phase.RESULT, flags=1, number=number, part_id=part_id)
            assert (own.verdict, own.number) == (code, number)
            assert plant.recorded[-1][:2] == (number, part_id)
            assert plc.wait(Phase.READY, flags=0).verdict == 0
        own = plc.wait(Phase.ERROR, flags=1, number=4, part_id="none")
        assert (own.verdict, own.error) == (0, LineError.NO_ANSWER)
        plc.wait(Phase.NOT_READY, flags=2)
        plc.wait(Phase.READY)
        assert [number for number, *_ in plant.recorded] == [1, 2, 3]


def test_a_station_that_stands_still_shows_an_error_over_modbus(plant, modbus):
    line, plc = modbus
    line.write(LineOutputs(Phase.RESULT, 1, 9, 0, 5))
    assert plc.read().verdict == 1
    time.sleep(1.1)  # the time of the interface's own watchdog
    own = plc.read()
    assert (own.phase, own.verdict, own.error) == (Phase.ERROR, 0, LineError.STALLED)


def test_a_plc_that_is_cut_off_over_modbus(plant, modbus):
    line, plc = modbus
    with plant.running(line):
        plc.wait(Phase.READY)
        plc.wait(Phase.RESULT, flags=1, number=1, part_id="good")
        time.sleep(0.8)  # no beat for longer than the limit
        own = plc.read()
        assert (own.phase, own.verdict, own.error) == (Phase.ERROR, 0, LineError.HEARTBEAT)


def test_parts_over_plain_tcp(plant):
    line = TcpLine("127.0.0.1", 0)
    line.open()
    try:
        with plant.running(line), socket.create_connection(("127.0.0.1", line.port)) as plc:
            answers = plc.makefile("r", encoding="ascii")

            def say(text):
                plc.sendall(text.encode("ascii") + b"\n")
                return answers.readline().strip()

            until = time.monotonic() + 5
            while say("BEAT") != "STATE READY":
                assert time.monotonic() < until
                time.sleep(0.05)
            assert say("PART 1 0 good one") == "RESULT 1 PASS"
            assert say("PART 2 0 bad") == "RESULT 2 REJECT"
            assert say("PART 2 0 good") == "ERROR 2 ORDER"
            assert say("PART 3 0 good") == "ERROR 3 ERROR"
            assert say("RESET") == "STATE READY"
            assert say("PART 3 0 none") == "ERROR 3 NO_ANSWER"
            assert say("PART x 0 good") == "ERROR 0 UNKNOWN"
            assert [number for number, *_ in plant.recorded] == [1, 2]
    finally:
        line.close()


@pytest.fixture
def tcp_line():
    line = TcpLine("127.0.0.1", 0)
    line.open()
    yield line
    line.close()


def talk(line):
    """A connection, and what sends a text and returns the answer."""
    connection = socket.create_connection(("127.0.0.1", line.port), timeout=10)
    answers = connection.makefile("r", encoding="ascii")

    def say(text):
        connection.sendall(text.encode() + b"\n")
        return answers.readline().strip()

    return connection, say


def test_part_ids_over_plain_tcp_are_whole_or_an_error(plant, tcp_line):
    """Two ids that differ at their ends, or in letters that are no ASCII."""
    long = "good-" + "0" * 190
    with plant.running(tcp_line):
        connection, say = talk(tcp_line)
        with connection:
            until = time.monotonic() + 5
            while say("BEAT") != "STATE READY":
                assert time.monotonic() < until
                time.sleep(0.05)
            assert [say(f"PART {number} 0 {long}-{number}") for number in (1, 2)] == ["RESULT 1 PASS", "RESULT 2 PASS"]
            for number, part_id in enumerate(("good Ä", "good Ö", "good\t1", f"{long}000000"), 3):
                assert say(f"PART {number} 0 {part_id}") == f"ERROR {number} ORDER"
                assert say("RESET") == "STATE READY"
    assert [part_id for _, part_id, _ in plant.recorded] == [f"{long}-1", f"{long}-2"]


def test_part_ids_over_modbus_are_whole_or_an_error(plant, modbus):
    line, plc = modbus
    with plant.running(line):
        plc.wait(Phase.READY)
        line._written[4:6] = [0x476F, 0xC400]  # "Go" and a byte that is no ASCII
        assert line.read().part_id == "Go\udcc4"
        own = plc.wait(Phase.RESULT, flags=1, number=2, part_id="good" + 28 * "x")
        assert (own.verdict, plant.recorded) == (1, [(2, "good" + 28 * "x", Verdict.PASS)])
    from blemish.station.line.modbus import holding_words

    with pytest.raises(DataError, match="cannot be sent whole"):
        holding_words(PlcSignals(part_id="good" + 29 * "x"))


def test_a_station_that_stands_still_shows_an_error_over_plain_tcp(tcp_line):
    connection, say = talk(tcp_line)
    with connection:
        tcp_line.write(LineOutputs(Phase.READY))
        assert say("BEAT") == "STATE READY"
        time.sleep(1.1)  # the time of the interface's own watchdog
        assert say("BEAT") == "STATE ERROR"
        tcp_line.write(LineOutputs(Phase.READY))
        assert say("PART 1 0 good") == "ERROR 1 STALLED"  # nobody takes the request


def test_a_plc_that_was_switched_off_gives_its_place_away_and_a_living_one_does_not(plant, tcp_line, monkeypatch):
    monkeypatch.setattr(tcp, "LIMITS", LineLimits(heartbeat_s=0.5))
    with plant.running(tcp_line):
        first, say = talk(tcp_line)
        second, _ = talk(tcp_line)
        second.sendall(b"BEAT\n")
        second.settimeout(0.2)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert say("BEAT").startswith("STATE")
            with pytest.raises(TimeoutError):
                second.recv(1)
        second.settimeout(10)
        assert second.recv(99).startswith(b"STATE ")  # the first one is silent, and its connection was never closed
        second.close()
        first.close()


def test_addresses(tmp_path):
    own = parse_address("opcua://0.0.0.0:4840/a/b?x=1", ["modbus", "opcua"])
    assert (own.kind, own.host, own.port, own.path, own.options) == ("opcua", "0.0.0.0", 4840, ("a", "b"), {"x": "1"})
    for text in ("modbus://host", "profinet://host:1", "tcp", "tcp://host:99999"):
        with pytest.raises(OptionError, match="no line"):
            make_transport(text, LineContext(tmp_path))


def test_a_taken_address_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OptionError, match="no line at"):
        TcpLine("127.0.0.1", taken.getsockname()[1]).open()


def test_a_server_that_fails_says_so_and_serves_again(monkeypatch):
    monkeypatch.setattr(loop_thread, "RETRY_S", 0.2)
    fail, served = threading.Event(), []

    async def run():
        served.append(1)
        thread.serves()
        while not thread.stopping.is_set():
            if fail.is_set():
                fail.clear()
                raise OSError("the database is lost")
            await asyncio.sleep(0.01)

    thread = loop_thread.LoopThread("test", run)
    thread.start(5, "no server")
    assert thread.problem == ""
    fail.set()
    wait_until(lambda: thread.problem == "the database is lost", 5)
    wait_until(lambda: thread.problem == "", 5)
    thread.join(5)
    assert (len(served), thread.is_alive(), thread.problem) == (2, False, "its server has ended")
