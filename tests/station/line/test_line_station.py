"""A station with a line: a PLC asks for parts, a video is the camera, and the record has what was shown."""

import socket
import time

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle
from station_helpers import run_station

from blemish.errors import OptionError
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
