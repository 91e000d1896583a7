"""Many parts of a real station, with cuts, restarts and silences at random times: no pass without a record, no part
recorded twice, none skipped in silence."""

import json
import random
import socket
import threading
import time
from contextlib import ExitStack

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle
from line_process import CutWire
from sqlalchemy import select
from station_helpers import run_station

from blemish.station.line import driver
from blemish.station.line.cameras import LineCameras
from blemish.station.line.connect import open_line
from blemish.station.line.machine import LineLimits
from blemish.station.line.plc import Plc, PlcLimits
from blemish.station.models import InspectionRow

pytest.importorskip("pymodbus")
from blemish.station.line.modbus import ModbusPlcWire

LIMITS = LineLimits(heartbeat_s=0.3, answer_s=3.0)
PLC = PlcLimits(watchdog_s=0.3, answer_s=3.5, ready_s=60.0, poll_s=0.002)


class Line:
    """A line of a station that is closed and opened again while its PLC goes on."""

    def __init__(self, service, video):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._service, self._stack = service, ExitStack()
        self._cameras = LineCameras([video], service.settings.data, service.sources)
        self._lock = threading.Lock()
        self.open()

    def open(self):
        address = f"modbus://127.0.0.1:{self.port}"
        self._stack.enter_context(open_line(self._service, address, self._cameras, LIMITS))

    def restart(self):
        with self._lock:
            self._stack.close()
            self.open()

    def close(self):
        with self._lock:
            self._stack.close()
        self._cameras.close()


def ask(folder, count, share, seed):
    """The answers of a PLC to `count` parts; a fault comes at a random time after a `share` of the requests."""
    rng = random.Random(seed)
    video = cv2.VideoWriter(str(folder / "parts.avi"), cv2.VideoWriter_fourcc(*"FFV1"), 10, (64, 64))
    for number in range(7):
        video.write(np.full((64, 64, 3), 200 if number % 3 == 2 else 60, np.uint8))
    video.release()
    bundle = anomaly_bundle(folder / "grey.blemish")
    answers, threads, faults = [], [], dict.fromkeys(("cut", "restart", "silence"), 0)
    with run_station(folder / "station", bundle, keep="none") as station:
        line = Line(station.service, str(folder / "parts.avi"))
        relay = CutWire(line.port)
        wire = ModbusPlcWire("127.0.0.1", relay.port, timeout_s=0.2)
        plc = Plc(wire, PLC)
        for number in range(count):
            if rng.random() < share:
                fault = rng.choice(list(faults))
                faults[fault] += 1
                if fault == "silence":
                    time.sleep(LIMITS.heartbeat_s * rng.uniform(0.5, 1.5))
                else:
                    action = relay.cut if fault == "cut" else line.restart
                    threads.append(threading.Timer(rng.uniform(0, 0.08), action))
                    threads[-1].start()
            answers.append((f"part-{number:06}", plc.inspect(f"part-{number:06}")))
        for thread in threads:
            thread.join()
        wire.close()
        line.close()
        relay.close()
        with station.database.reading() as session:
            rows = session.execute(select(InspectionRow.part_id, InspectionRow.verdict)).all()
    return answers, rows, faults


def check(folder, answers, rows, faults):
    recorded = dict(rows)
    assert len(recorded) == len(rows)  # none doubled
    assert set(recorded) <= {part for part, _ in answers}
    for part, answer in answers:
        if answer.verdict is None:
            assert answer.reason is not None  # none skipped in silence
        else:
            assert recorded[part] == answer.verdict
    entries = [json.loads(text) for text in (folder / "station" / "line.jsonl").read_text().splitlines()]
    results = {entry["part_id"]: entry["verdict"] for entry in entries if entry["to"] == "RESULT"}
    assert results.items() <= recorded.items()
    answered = [part for part, answer in answers if answer.verdict is not None]
    assert set(answered) <= set(results)
    assert all(faults.values())
    assert len(answered) >= len(answers) / 2  # a fault costs a part or two; a busy machine stops further ones
    assert {recorded[part] for part in answered} == {"pass", "reject"}


def test_300_parts_with_random_cuts(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "CYCLE_S", 0.002)
    check(tmp_path, *ask(tmp_path, 300, 0.04, seed=3))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 14))
def test_10000_parts_with_random_cuts(tmp_path, monkeypatch, seed):
    """A thousand each, so that one that fails is soon repeated."""
    monkeypatch.setattr(driver, "CYCLE_S", 0.002)
    check(tmp_path, *ask(tmp_path, 1000, 0.02, seed))
