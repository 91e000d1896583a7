"""A line in a process of its own, which stops or dies at a given transition; a PLC in one, which stops at a phase; and
a wire that can be cut."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from blemish.inspection.result import Verdict
from blemish.station.line.driver import LineDriver, LineOutputs, TransitionLog
from blemish.station.line.machine import LineLimits, LineState, Phase, PlcSignals
from blemish.station.line.modbus import ModbusLine, ModbusPlcWire
from blemish.station.line.plc import Plc, PlcLimits, PlcWire

LIMITS = LineLimits(heartbeat_s=0.8, answer_s=5.0)


def run_line(port: int, folder: Path, fault: str, moment: str, transition: tuple[str, str]) -> None:
    """Parts `good…` pass, `bad…` are rejected, others have no answer. The fault comes once, before or after the output
    of the transition is shown. No part can be inspected while there is a file `unavailable`."""
    pool, log = ThreadPoolExecutor(1), TransitionLog(folder / "line.jsonl")
    due = False

    def strike() -> None:
        flag = folder / "struck"
        if not flag.exists():
            flag.touch()
            if fault == "kill":
                os._exit(9)
            os.kill(os.getpid(), signal.SIGSTOP)

    def record(before: LineState, after: LineState) -> None:
        nonlocal due
        log.append(before, after)
        if (before.phase.name, after.phase.name) == transition:
            if moment == "before":
                strike()
            due = moment == "after"

    class Line(ModbusLine):
        def write(self, outputs: LineOutputs) -> None:
            nonlocal due
            super().write(outputs)
            if due:
                due = False
                time.sleep(0.05)  # so that the PLC reads it
                strike()

    def inspect(part: LineState, key: str) -> "Future[Verdict]":
        return pool.submit(record_part, folder / "record.jsonl", part)

    line = Line("127.0.0.1", port)
    line.open()
    LineDriver(line, inspect, lambda: not (folder / "unavailable").exists(), record, LIMITS).run(threading.Event())


def record_part(path: Path, part: LineState) -> Verdict:
    if not part.part_id.startswith(("good", "bad")):
        raise RuntimeError("no image")
    verdict = Verdict.PASS if part.part_id.startswith("good") else Verdict.REJECT
    with path.open("a") as stream:
        stream.write(json.dumps([part.number, part.part_id, verdict]) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return verdict


class FaultyWire:
    """A PLC's wire, at which something happens once, when a phase is read for the first time."""

    def __init__(self, wire: PlcWire, phase: Phase, action: Callable[[], None]) -> None:
        self._wire, self._phase, self._action = wire, phase, action

    def exchange(self, signals: PlcSignals) -> LineOutputs:
        own = self._wire.exchange(signals)
        if own.phase == self._phase and self._action is not None:
            action, self._action = self._action, None
            action()
        return own

    def close(self) -> None:
        self._wire.close()


def run_plc(port: int, folder: Path, phase: Phase, parts: Sequence[str], limits: PlcLimits) -> None:
    """Ask for the parts, and then for more until one passes; the process stops when it reads the phase first. The
    answers are lines of `answers.jsonl`."""

    def stop() -> None:
        (folder / "stopped").touch()
        os.kill(os.getpid(), signal.SIGSTOP)

    wire = FaultyWire(ModbusPlcWire("127.0.0.1", port, timeout_s=0.3), phase, stop)
    plc, verdict = Plc(wire, limits), None
    asked = iter((*parts, *["good-more"] * 30))
    with (folder / "answers.jsonl").open("a") as stream:
        for number, part_id in enumerate(asked):
            if number >= len(parts) and verdict == Verdict.PASS:
                break
            answer = plc.inspect(part_id)
            verdict = answer.verdict
            stream.write(json.dumps([part_id, answer.number, verdict, answer.reason, answer.error]) + "\n")
            stream.flush()
    wire.close()


class CutWire:
    """A TCP relay to a port: `cut` closes what is open, and nothing comes through while `closed`."""

    def __init__(self, target: int) -> None:
        self._target, self.closed, self._open = target, False, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.closed:
                    raise ConnectionError
                far = socket.create_connection(("127.0.0.1", self._target), 1)
            except OSError:
                near.close()
                continue
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=pair, daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def cut(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()
