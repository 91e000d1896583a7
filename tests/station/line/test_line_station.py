"""A station with a line: a PLC asks for parts, a video is the camera, and the record has what was shown."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from io import BytesIO

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle
from station_helpers import make_client, picture, run_station, wait_until

from blemish.errors import OptionError
from blemish.station.line import driver as driver_module
from blemish.station.line.connect import inspect_part
from blemish.station.line.driver import LineDriver, LineOutputs
from blemish.station.line.machine import LineError, LineLimits, Phase, PlcSignals
from blemish.station.line.tcp import TcpLine
from blemish.station.models import InspectionRow


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_what_the_plc_gets_is_what_is_recorded(tmp_path):
    """Frames of a video: every third part is defective."""
    video = cv2.VideoWriter(str(tmp_path / "parts.avi"), cv2.VideoWriter_fourcc(*"FFV1"), 10, (64, 64))
    for number in range(6):
        video.write(np.full((64, 64, 3), 200 if number % 3 == 2 else 60, np.uint8))
    video.release()
    bundle = anomaly_bundle(tmp_path / "grey.blemish")
    port = free_port()
    settings = {"line": f"tcp://127.0.0.1:{port}", "line_cameras": [str(tmp_path / "parts.avi")]}
    with (
        run_station(tmp_path / "station", bundle, **settings) as station,
        socket.create_connection(("127.0.0.1", port)) as plc,
    ):
        answers = plc.makefile("r", encoding="ascii")

        def say(text):
            plc.sendall(text.encode("ascii") + b"\n")
            return answers.readline().strip()

        until = time.monotonic() + 20
        while say("BEAT") != "STATE READY":
            assert time.monotonic() < until
            time.sleep(0.1)
        shown = [say(f"PART {number} 0 part-{number}") for number in range(1, 7)]
        with station.database.reading() as session:
            rows = session.query(InspectionRow).order_by(InspectionRow.id).all()
            recorded = [f"RESULT {row.part_id.split('-')[1]} {row.verdict.upper()}" for row in rows]
    assert shown == recorded
    assert [text.split()[-1] for text in shown] == ["PASS", "PASS", "REJECT"] * 2


def test_a_line_needs_a_camera(tmp_path):
    with (
        pytest.raises(OptionError, match="needs a camera"),
        run_station(tmp_path / "station", None, line=f"tcp://127.0.0.1:{free_port()}"),
    ):
        pass


class HandDrivenLine:
    """A line of a real station whose cycles, PLC signals and camera are the test's."""

    def __init__(self, station):
        self.signals, self.outputs, self.now = PlcSignals(), LineOutputs(), 100.0
        self.begun, self.exposures, self.go_on = threading.Event(), 0, threading.Event()
        self.station, self.pool = station, ThreadPoolExecutor(1)
        inspect = partial(self.pool.submit, inspect_part, station.service, self, self)
        self.driver = LineDriver(self, inspect, lambda: True, lambda before, after: None, LineLimits(1.0, 3.0))

    def read(self):
        return self.signals

    def write(self, outputs):
        self.outputs = outputs

    def publish(self, number, result):
        pass

    def take(self, views, settings):
        """The camera."""
        self.exposures += 1
        self.begun.set()
        assert self.go_on.wait(20)
        return BytesIO(picture(seed=self.exposures))

    def cycle(self, seconds=0.1, beats=True, **changes):
        self.now += seconds
        self.signals = replace(self.signals, heartbeat=self.signals.heartbeat + beats, **changes)
        self.driver.cycle(self.now)
        return Phase(self.outputs.phase)

    def ask(self, number):
        self.begun.clear()
        assert self.cycle(request=True, reset=False, number=number, part_id=f"part-{number}") == Phase.BUSY

    def reset(self):
        self.cycle(request=False, reset=True)
        return self.cycle(reset=False)

    def parts(self):
        with self.station.database.reading() as session:
            return [row.part_id for row in session.query(InspectionRow).order_by(InspectionRow.id)]


GIVE_UP = {
    LineError.ORDER: [{"request": False}],
    LineError.TIMEOUT: [{"seconds": 0.9}] * 4,
    LineError.HEARTBEAT: [{"seconds": 1.1, "beats": False}],
}


@pytest.fixture
def hand_driven(tmp_path):
    with run_station(tmp_path / "station", anomaly_bundle(tmp_path / "grey.blemish")) as station:
        line = HandDrivenLine(station)
        line.cycle()
        assert line.cycle() == Phase.READY
        yield line
        line.go_on.set()
        line.pool.shutdown()


def test_a_part_whose_request_ended_is_never_recorded_and_the_line_waits_for_its_camera(hand_driven):
    """Its picture may be that of the next part."""
    line = hand_driven
    for number, (error, steps) in enumerate(GIVE_UP.items(), 1):
        line.go_on.clear()
        line.ask(number)
        assert line.begun.wait(20)  # in the midst of the exposure
        for step in steps:
            line.cycle(**step)
        assert (line.outputs.phase, line.outputs.error) == (Phase.ERROR, error)
        assert line.reset() == Phase.NOT_READY
        assert line.cycle() == Phase.NOT_READY  # as long as the camera is at work
        line.go_on.set()
        wait_until(lambda: line.cycle() == Phase.READY, 20)
        assert line.parts() == []
    line.ask(9)
    wait_until(lambda: line.cycle(0.001) == Phase.RESULT, 20)
    assert line.parts() == ["part-9"]


def test_a_request_that_ended_while_it_waited_is_not_photographed(hand_driven):
    line, free = hand_driven, threading.Event()
    line.pool.submit(free.wait)
    line.ask(1)
    line.cycle(request=False)
    assert line.reset() == Phase.NOT_READY
    free.set()
    wait_until(lambda: line.cycle() == Phase.READY, 20)
    assert (line.exposures, line.parts()) == (0, [])


def test_a_request_that_ended_before_the_commit_is_not_recorded(hand_driven):
    line = hand_driven
    line.go_on.set()
    with line.station.database.writing():  # another writer: the part is inspected, and its record waits
        line.ask(1)
        assert line.begun.wait(20)
        wait_until(lambda: line.station.service._results.empty() and not line.station.service._busy, 20)
        time.sleep(0.3)
        line.cycle(request=False)
        assert line.outputs.error == LineError.ORDER
        assert line.reset() == Phase.NOT_READY
    wait_until(lambda: line.cycle() == Phase.READY, 20)
    assert line.parts() == []


def test_a_request_stands_only_while_the_cycle_of_the_line_moves(hand_driven, monkeypatch):
    line = hand_driven
    line.ask(1)
    assert line.driver._request.stands()
    monkeypatch.setattr(driver_module, "STALLED_S", 0.05)
    time.sleep(0.1)
    assert not line.driver._request.stands()


def test_a_line_that_is_down_is_a_component_an_alarm_and_not_ready(tmp_path, monkeypatch):
    video = cv2.VideoWriter(str(tmp_path / "parts.avi"), cv2.VideoWriter_fourcc(*"FFV1"), 10, (64, 64))
    video.write(np.full((64, 64, 3), 60, np.uint8))
    video.release()
    bundle = anomaly_bundle(tmp_path / "grey.blemish")
    settings = {"line": f"tcp://127.0.0.1:{free_port()}", "line_cameras": [str(tmp_path / "parts.avi")]}
    with run_station(tmp_path / "station", bundle, **settings) as station:
        client = make_client(station)

        def seen():
            states = [part.state for part in station.status.components() if part.kind == "line"]
            alarms = [alarm["kind"] for alarm in client.get("/v1/alarms").json() if alarm["ended_at"] is None]
            problem = client.get("/v1/status").json()["problem"] or {}
            return client.get("/readyz").status_code, states, problem.get("kind"), "line" in alarms

        wait_until(lambda: seen() == (200, ["ok"], None, False), 20)
        with monkeypatch.context() as down:
            down.setattr(TcpLine, "problem", lambda self: "its server has ended")
            wait_until(lambda: seen() == (503, ["lost"], "line", True), 20)
            assert client.get("/readyz").json()["detail"] == "the line is down: its server has ended"
        wait_until(lambda: seen() == (200, ["ok"], None, False), 20)
        with monkeypatch.context() as still:  # a cycle that does not come back
            still.setattr(LineDriver, "cycle", lambda self, now: time.sleep(0.05))
            wait_until(lambda: seen() == (503, ["lost"], "line", True), 20)
        wait_until(lambda: seen() == (200, ["ok"], None, False), 20)
