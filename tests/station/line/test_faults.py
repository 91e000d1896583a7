"""Station and PLC are stopped, killed, restarted and cut off at each transition: the PLC's watchdog sees it, no part
passes without a record, and the line goes on."""

import json
import multiprocessing
import os
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from line_process import LIMITS, CutWire, FaultyWire, run_line, run_plc

from blemish.inspection.result import Verdict
from blemish.station.line.machine import LineError, Phase, PlcSignals
from blemish.station.line.plc import Plc, PlcAnswer, PlcLimits, StopReason

pytest.importorskip("pymodbus")
from blemish.station.line.modbus import ModbusPlcWire

if not hasattr(os, "fork"):
    pytest.skip("processes are stopped by SIGSTOP, which this system does not have", allow_module_level=True)
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["line_process", "pymodbus.server", "pymodbus.simulator"])
PLC = PlcLimits(watchdog_s=0.8, answer_s=4.0, ready_s=30.0)
PARTS = ("good-1", "none-2", "bad-3", "good-4")  # all transitions, and some of them twice
TRANSITIONS = [
    ("NOT_READY", "READY"),
    ("READY", "BUSY"),
    ("BUSY", "RESULT"),
    ("RESULT", "READY"),
    ("BUSY", "ERROR"),
    ("ERROR", "NOT_READY"),
]
# These happen only where something is wrong: the station cannot inspect any more, or the PLC's request is another one.
PROVOKED = {
    ("READY", "NOT_READY"): (Phase.READY, "unavailable"),
    ("READY", "ERROR"): (Phase.READY, "request"),
    ("RESULT", "NOT_READY"): (Phase.RESULT, "unavailable"),
    ("RESULT", "ERROR"): (Phase.RESULT, "request"),
}
STRIKES = [(fault, moment) for fault in ("stop", "kill") for moment in ("before", "after")]


class Line:
    """The process of a line, its record, and the wire to it."""

    def __init__(self, folder, *what):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self.what, self.wire = folder, what, CutWire(self.port)
        self.start()

    def start(self):
        self.process = PROCESSES.Process(target=run_line, args=(self.port, self.folder, *self.what), daemon=True)
        self.process.start()

    @property
    def records(self):
        path = self.folder / "record.jsonl"
        return [tuple(json.loads(text)) for text in path.read_text().splitlines()] if path.exists() else []

    @property
    def entries(self):
        path = self.folder / "line.jsonl"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # a line may be half written
        return [json.loads(text) for text in whole.splitlines()]

    @property
    def transitions(self):
        return [(entry["from"], entry["to"]) for entry in self.entries]


@contextmanager
def running(folder, *what):
    line = Line(folder, *what)
    try:
        yield line
    finally:
        line.process.kill()
        line.process.join()
        line.wire.close()


def check(line, answers):
    """No pass without a record, no part recorded twice, and no verdict but the recorded one."""
    records = line.records
    assert len({number for number, *_ in records}) == len(records)
    for part_id, answer in answers:
        assert (answer.verdict is None) == (answer.reason is not None)
        if answer.verdict is not None:
            assert (answer.number, part_id, answer.verdict) in records


def go_on(plc, answers):
    """More parts, until one passes."""
    until = time.monotonic() + 30
    while answers[-1][1].verdict != Verdict.PASS:
        assert time.monotonic() < until, answers
        answers.append(("good-more", plc.inspect("good-more")))


def wait_for(path):
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} did not come"
        time.sleep(0.01)


def provoke(line, wire, transition):
    """The wire, at which what brings the transition about happens once."""
    phase, what = PROVOKED[transition]

    def act():
        if what == "unavailable":
            (line.folder / "unavailable").touch()
        else:
            with suppress(OSError):  # the station may be gone before it answers
                wire.exchange(PlcSignals(heartbeat=40_000, request=True, number=0))  # 0 is no part's number
        if phase == Phase.READY or what == "request":  # the PLC's next request comes after the transition
            until = time.monotonic() + 30
            while transition not in line.transitions:
                assert time.monotonic() < until, f"{transition} did not come"
                time.sleep(0.005)

    return FaultyWire(wire, phase, act)


def strike_station(folder, fault, moment, transition):
    with running(folder, fault, moment, transition) as line:
        wire = ModbusPlcWire("127.0.0.1", line.wire.port, timeout_s=0.3)
        if transition in PROVOKED:
            wire = provoke(line, wire, transition)
        plc, seen, done = Plc(wire, PLC), threading.Event(), threading.Event()

        def repair():
            wait_for(folder / "struck")
            while plc.alive:
                time.sleep(0.01)
            seen.set()
            (folder / "unavailable").unlink(missing_ok=True)
            if fault == "stop":
                os.kill(line.process.pid, signal.SIGCONT)
            else:
                line.process.join()
                line.start()
            done.set()

        thread = threading.Thread(target=repair, daemon=True)
        thread.start()
        answers = [(part_id, plc.inspect(part_id)) for part_id in PARTS]
        go_on(plc, answers)
        thread.join(30)
        wire.close()
        assert seen.is_set()
        assert done.is_set()
        assert transition in line.transitions
        check(line, answers)
        # Without a verdict: the part without an image, and those that were asked for while the station stood still.
        assert sum(answer.verdict is None for _, answer in answers) <= 3, answers


@pytest.mark.parametrize(
    ("fault", "moment", "transition"),
    [
        ("stop", "after", ("BUSY", "RESULT")),
        ("kill", "before", ("READY", "BUSY")),
        ("stop", "before", ("RESULT", "ERROR")),
        ("kill", "after", ("READY", "NOT_READY")),
    ],
)
def test_a_station_that_stops_or_dies(tmp_path, fault, moment, transition):
    strike_station(tmp_path, fault, moment, transition)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "moment"), STRIKES)
@pytest.mark.parametrize("transition", [*TRANSITIONS, *PROVOKED], ids="-".join)
def test_a_station_that_stops_or_dies_at_any_transition(tmp_path, fault, moment, transition):
    strike_station(tmp_path, fault, moment, transition)


class PlcRestartedError(Exception):
    pass


def strike_plc(folder, fault, phase):
    with running(folder, "none", "before", ("", "")) as line:
        watcher = ModbusPlcWire("127.0.0.1", line.port)

        def cut():
            line.wire.closed = True
            line.wire.cut()
            threading.Timer(1.2 * LIMITS.heartbeat_s, setattr, (line.wire, "closed", False)).start()

        def be_silent():
            time.sleep(1.5 * LIMITS.heartbeat_s)
            own = watcher._client.read_input_registers(0, count=5).registers
            assert own[0] not in (Phase.BUSY, Phase.RESULT, Phase.READY)
            assert own[1] == 0  # a silent PLC finds no verdict when it comes back

        def restart():
            raise PlcRestartedError

        actions = {"cut": cut, "silent": be_silent, "restart": restart}
        inner = ModbusPlcWire("127.0.0.1", line.wire.port, timeout_s=0.3)
        wire = FaultyWire(inner, phase, actions[fault])
        plc, answers = Plc(wire, PLC), []
        for part_id in PARTS:
            try:
                answers.append((part_id, plc.inspect(part_id)))
            except PlcRestartedError:
                inner.close()
                plc = Plc(wire, PLC, first_number=1001)
        go_on(plc, answers)
        if fault == "cut" and phase == Phase.BUSY:
            assert any(answer.reason in (StopReason.WATCHDOG, StopReason.ERROR) for _, answer in answers)
        check(line, answers)
        wire.close()
        watcher.close()


def test_a_plc_that_is_cut_off(tmp_path):
    strike_plc(tmp_path, "cut", Phase.BUSY)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "silent", "restart"])
@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.name)
def test_a_plc_that_is_cut_off_silent_or_restarted_in_any_phase(tmp_path, fault, phase):
    strike_plc(tmp_path, fault, phase)


def stop_plc(folder, phase):
    """The PLC is a process that stands still from the phase on: the station takes its verdict back within its time."""
    with running(folder, "none", "before", ("", "")) as line:
        watcher = ModbusPlcWire("127.0.0.1", line.port)
        plc = PROCESSES.Process(target=run_plc, args=(line.wire.port, folder, phase, PARTS, PLC), daemon=True)
        plc.start()
        try:
            wait_for(folder / "stopped")
            until = time.monotonic() + 30
            while True:
                shown, verdict, *_ = watcher._client.read_input_registers(0, count=5).registers
                if shown in (Phase.NOT_READY, Phase.ERROR):
                    break
                assert time.monotonic() < until, f"{Phase(shown).name} stays"
                time.sleep(0.01)
            assert verdict == 0
            time.sleep(1.5 * LIMITS.heartbeat_s)
            shown, verdict, *_ = watcher._client.read_input_registers(0, count=5).registers
            assert shown in (Phase.NOT_READY, Phase.ERROR)  # and it stays so while the PLC stands still
            assert verdict == 0
            os.kill(plc.pid, signal.SIGCONT)
            plc.join(60)
            assert plc.exitcode == 0
        finally:
            plc.kill()
            plc.join()
            watcher.close()
        answers = [json.loads(text) for text in (folder / "answers.jsonl").read_text().splitlines()]
        answers = [
            (part_id, PlcAnswer(number, None if verdict is None else Verdict(verdict), reason, LineError(error)))
            for part_id, number, verdict, reason, error in answers
        ]
        assert answers[-1][1].verdict == Verdict.PASS
        check(line, answers)
        if phase in (Phase.READY, Phase.BUSY, Phase.RESULT):  # in the others there is nothing to lose
            assert any(entry["error"] == "HEARTBEAT" for entry in line.entries)


def test_a_plc_whose_process_stands_still(tmp_path):
    stop_plc(tmp_path, Phase.RESULT)


@pytest.mark.slow
@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.name)
def test_a_plc_whose_process_stands_still_in_any_phase(tmp_path, phase):
    stop_plc(tmp_path, phase)
