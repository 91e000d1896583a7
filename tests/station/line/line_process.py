"""A line in a process of its own, which stops or dies at a given transition; and a wire that can be cut."""

import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from blemish.inspection.result import Verdict
from blemish.station.line.driver import LineDriver, LineOutputs, TransitionLog
from blemish.station.line.machine import LineLimits, LineState
from blemish.station.line.modbus import ModbusLine

LIMITS = LineLimits(heartbeat_s=0.8, answer_s=5.0)


def run_line(port: int, folder: Path, fault: str, moment: str, transition: tuple[str, str]) -> None:
    """Parts `good…` pass, `bad…` are rejected, others have no answer. The fault comes once, before or after the output
    of the transition is shown."""
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
    LineDriver(line, inspect, lambda: True, record, LIMITS).run(threading.Event())


def record_part(path: Path, part: LineState) -> Verdict:
    if not part.part_id.startswith(("good", "bad")):
        raise RuntimeError("no image")
    verdict = Verdict.PASS if part.part_id.startswith("good") else Verdict.REJECT
    with path.open("a") as stream:
        stream.write(json.dumps([part.number, part.part_id, verdict]) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return verdict


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
