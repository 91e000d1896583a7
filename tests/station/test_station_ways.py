"""Sources and sinks: folders, videos, files, a webhook and a broker that are killed in between."""

import csv
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from graphs import anomaly_bundle
from station_helpers import Server, client_of, free_port, picture, running, wait_until

from blemish.errors import OptionError
from blemish.inspection.manifest import Decision
from blemish.station import sinks, sources
from blemish.station.sinks import check_sink, count_pending
from blemish.station.sources import check_camera
from blemish.station.station import activate_bundle, open_station

BROKER = """
import asyncio, sys
from amqtt.broker import Broker
async def main():
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
                     "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}})
    await broker.start()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(sinks, "MAX_WAIT_S", 0.3)
    monkeypatch.setattr(sinks, "TIMEOUT_S", 2.0)
    monkeypatch.setattr(sources, "SETTLED_S", 0.05)


def send(client: TestClient, index: int) -> int:
    files = {"image": ("x.png", picture(defect=index % 2 == 1, seed=index))}
    answer = client.post("/v1/inspections", files=files, data={"part_id": f"=p{index}"})
    return int(answer.json()["id"])


def test_files_get_every_result_once_and_in_order(tmp_path: Path, bundle_file: Path) -> None:
    lines, table = tmp_path / "out" / "r.jsonl", tmp_path / "r.csv"
    lines.parent.mkdir()
    lines.write_text('{"id": 0')  # half a line of an earlier crash
    with running(tmp_path / "s", bundle_file, sinks=[f"jsonl:{lines}", f"csv:{table}"]) as station:
        client = client_of(station)
        ids = [send(client, index) for index in range(8)]
        wait_until(lambda: not count_pending(station.database))
    found = [json.loads(line) for line in lines.read_text().splitlines()[1:]]
    assert [row["id"] for row in found] == ids
    assert [row["verdict"] for row in found] == ["pass", "reject"] * 4
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["id"]) for row in rows] == ids
    assert rows[1]["part_id"] == "'=p1"  # no formula for a spreadsheet
    assert [int(rows[1][name]) for name in ("x0", "y0", "x1", "y1")] == [20, 20, 40, 30]


class Hook:
    """A web server that takes results, and can be stopped or told to fail."""

    def __init__(self) -> None:
        self.port, self.taken, self.fails = free_port(), [], 0  # type: ignore[var-annotated]

    @contextmanager
    def up(self) -> Iterator[None]:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.fails -= 1
                if hook.fails < 0:
                    hook.taken.append((content["id"], self.headers["Idempotency-Key"]))
                self.send_response(200 if hook.fails < 0 else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def test_a_webhook_that_is_down_or_fails_gets_everything_later(tmp_path: Path, bundle_file: Path) -> None:
    hook = Hook()
    with running(tmp_path / "s", bundle_file, sinks=[f"http://127.0.0.1:{hook.port}/in"]) as station:
        client = client_of(station)
        with hook.up():
            ids = [send(client, 0)]
            wait_until(lambda: len(hook.taken) == 1)
        ids += [send(client, index) for index in range(1, 4)]
        assert len(hook.taken) == 1
        assert list(count_pending(station.database).values()) == [3]
        hook.fails = 2
        with hook.up():
            wait_until(lambda: not count_pending(station.database))
    assert list(dict(hook.taken)) == ids
    assert hook.taken[0][1] == f"station-{ids[0]}"


def test_results_outlive_the_station(tmp_path: Path, bundle_file: Path) -> None:
    hook = Hook()
    address = f"http://127.0.0.1:{hook.port}/"
    with running(tmp_path / "s", bundle_file, sinks=[address]) as station:
        ids = [send(client_of(station), index) for index in range(3)]
    with hook.up(), running(tmp_path / "s", None, sinks=[address]) as station:
        wait_until(lambda: not count_pending(station.database))
    assert [key for key, _ in hook.taken] == ids


@contextmanager
def broker(port: int) -> Iterator[None]:
    command = [sys.executable, "-c", BROKER, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == b"ready"
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def subscriber(port: int) -> Iterator[list[int]]:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client, found, ready = Client(CallbackAPIVersion.VERSION2), [], threading.Event()  # type: ignore[var-annotated]
    client.on_message = lambda _c, _u, message: found.append(json.loads(message.payload)["id"])
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe("line/results", qos=1)
    assert ready.wait(10)
    try:
        yield found
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_broker_that_is_killed_gets_everything_later(tmp_path: Path, bundle_file: Path) -> None:
    pytest.importorskip("amqtt", reason="no MQTT broker: pip install amqtt")
    port = free_port()
    with running(tmp_path / "s", bundle_file, sinks=[f"mqtt://127.0.0.1:{port}/line/results"]) as station:
        client = client_of(station)
        with broker(port), subscriber(port) as first:
            ids = [send(client, index) for index in range(2)]
            wait_until(lambda: len(first) == 2)
            wait_until(lambda: not count_pending(station.database))
        ids += [send(client, index) for index in range(2, 5)]
        with broker(port), subscriber(port) as second:
            wait_until(lambda: not count_pending(station.database))
            wait_until(lambda: len(set(second)) == 3)
    assert first + list(dict.fromkeys(second)) == ids


def test_a_sink_or_camera_that_is_not_understood_is_one_line(tmp_path: Path) -> None:
    for text in ("csv:", "nowhere", "mqtt://host", "http://", "ftp://host/x"):
        with pytest.raises(OptionError, match="invalid sink"):
            check_sink(text)
    for text in ("belt.avi", "rtsp:/host", ""):
        with pytest.raises(OptionError, match="no camera or video"):
            check_camera(text)
    text = tmp_path / "belt.avi"
    text.write_text("no video")
    with pytest.raises(OptionError, match="is no readable video"):
        check_camera(str(text))


def test_the_outbox_calls_a_sink_by_a_short_name_without_its_secrets() -> None:
    signed = "https://line:geheim@host/hook?signature=" + "x" * 500
    assert len(sinks.sink_key("s" * 64, signed)) <= 300
    assert "geheim" not in sinks.sink_key("s", signed)
    assert sinks.sink_key("s", signed) != sinks.sink_key("s", signed + "y")


def test_a_bundle_that_loses_the_golden_set_does_not_start(tmp_path: Path, bundle_file: Path) -> None:
    blind = anomaly_bundle(tmp_path / "blind.blemish", decision=Decision(reject=5.0))
    with running(tmp_path / "s", bundle_file) as station:
        client = client_of(station)
        part = client.post("/v1/inspections", files={"image": picture(defect=True)}).json()["id"]
        client.put(f"/v1/golden/{part}", json={"label": "defect"})
        assert activate_bundle(station, blind) is None
        assert client.post("/v1/inspections", files={"image": picture(defect=True)}).json()["verdict"] == "reject"


def test_the_outbox_is_counted_and_shows_no_password(tmp_path: Path, bundle_file: Path) -> None:
    sink = f"mqtt://line:geheim@127.0.0.1:{free_port()}/results"
    with running(tmp_path / "s", bundle_file, sinks=[sink]) as station:
        client = client_of(station)
        shown = 'blemish_outbox_pending{sink="station/mqtt://' + sink.rpartition("@")[2] + '"} '
        assert shown + "0.0" in client.get("/metrics").text
        send(client, 0)
        assert shown + "1.0" in client.get("/metrics").text
        assert "geheim" not in client.get("/metrics").text


def drop(folder: Path, name: str, content: bytes) -> None:
    """As a well-behaved sender: written beside, then renamed."""
    part = folder / f".{name}.part"
    part.write_bytes(content)
    part.rename(folder / name)


def names(folder: Path, kind: str) -> list[str]:
    return sorted(path.name for path in (folder / kind).iterdir())


def test_a_watched_folder_is_worked_off(tmp_path: Path, bundle_file: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with running(tmp_path / "s", bundle_file, watch=[folder]) as station:
        for index in range(5):
            drop(folder, f"p{index}.png", picture(defect=index == 2, seed=index))
        drop(folder, "broken.png", b"no image")
        drop(folder, "empty.png", b"")
        (folder / "notes.txt").write_text("left alone")
        wait_until(lambda: len(names(folder, "done")) + len(names(folder, "failed")) >= 8)
        drop(folder, "p0.png", picture(seed=77))  # a name that was used before
        wait_until(lambda: len(names(folder, "done")) == 6)
        found = client_of(station).get("/v1/inspections").json()["items"]
    verdicts = sorted((row["part_id"], row["verdict"]) for row in found)
    assert verdicts == [("broken", "review"), ("p0", "pass"), ("p0", "pass"), ("p1", "pass"), ("p2", "reject"),
                        ("p3", "pass"), ("p4", "pass")]  # fmt: skip
    assert names(folder, "failed") == ["broken.png", "empty.png", "empty.png.txt"]
    assert names(folder, "working") == []
    assert (folder / "notes.txt").exists()


def test_a_watched_folder_goes_on_where_it_was_killed(tmp_path: Path, serve: Callable[..., Server]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(40):
        drop(folder, f"p{index:02}.png", picture(seed=index))
    server = serve("s", "--watch", str(folder))
    wait_until(lambda: len(list((folder / "done").glob("*"))) >= 5)
    server.kill()
    assert len(names(folder, "done")) < 40
    server.start()
    wait_until(lambda: len(names(folder, "done")) == 40)
    server.kill()
    with open_station_quietly(tmp_path / "s") as client:
        found = client.get("/v1/inspections", params={"limit": 100}).json()["items"]
    assert sorted(row["part_id"] for row in found) == [f"p{index:02}" for index in range(40)]


@contextmanager
def open_station_quietly(folder: Path) -> Iterator[TestClient]:
    with running(folder, None) as station:
        yield client_of(station)


def test_a_video_is_inspected_frame_by_frame(tmp_path: Path, bundle_file: Path) -> None:
    video = tmp_path / "belt.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 64))
    for index in range(20):
        writer.write(np.full((64, 64, 3), 220 if index == 10 else 50, np.uint8))
    writer.release()
    with running(tmp_path / "s", None, keep="rejects", cameras=[str(video)]) as station:
        time.sleep(0.3)
        activate_bundle(station, bundle_file)  # nothing is lost because there was no recipe yet
        client = client_of(station)
        wait_until(lambda: client.get("/v1/inspections").json()["total"] == 2)
        found = client.get("/v1/inspections").json()["items"]
    assert [row["verdict"] for row in reversed(found)] == ["pass", "reject"]  # one a second, at ten frames a second
    assert [row["image_stored"] for row in reversed(found)] == [False, True]
    assert found[0]["part_id"] == "belt-000011"


class NetworkCamera(BaseHTTPRequestHandler):
    """Pictures, one after the other, in an answer that never ends: grey ones, and bright ones after a reconnection."""

    level = 50

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        jpeg = bytes(cv2.imencode(".jpg", np.full((64, 64, 3), type(self).level, np.uint8))[1])
        try:
            for _ in range(40):
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg + b"\r\n")
                time.sleep(0.01)
        except ConnectionError:
            pass
        type(self).level = 220

    def log_message(self, *_: object) -> None:
        pass


def test_a_network_camera_that_is_lost_is_looked_for_again(
    tmp_path: Path, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_RETRY_S", 0.05)
    server = ThreadingHTTPServer(("127.0.0.1", 0), NetworkCamera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/secret"
    with running(tmp_path / "s", bundle_file, cameras=[address], camera_interval_s=0.05) as station:
        client = client_of(station)
        wait_until(lambda: client.get("/v1/inspections", params={"verdict": "reject"}).json()["total"] > 1)
    server.shutdown()
    server.server_close()
    with running(tmp_path / "s", None) as station:
        found = client_of(station).get("/v1/inspections", params={"limit": 500}).json()["items"]
    verdicts = [row["verdict"] for row in reversed(found)]
    assert verdicts == sorted(verdicts)  # "pass" until it was lost, "reject" since
    assert verdicts[0] == "pass"
    assert all(row["part_id"].startswith("camera-127.0.0.1-") for row in found)


def test_two_stations_do_not_share_a_folder(tmp_path: Path, bundle_file: Path) -> None:
    with running(tmp_path / "s", bundle_file) as station:
        second = open_station(station.settings)
        with pytest.raises(OptionError, match="another station"):
            second.__enter__()


def test_a_known_dataset_is_inspected_once_and_its_truth_entered(tmp_path: Path, bundle_file: Path) -> None:
    for kind, seeds in (("good", (1, 2)), ("defect", (3,))):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for seed in seeds:
            (tmp_path / "data" / kind / f"{seed}.png").write_bytes(picture(defect=kind == "defect", seed=seed))
    (tmp_path / "data" / "good" / "broken.png").write_bytes(b"no image")
    seen = tmp_path / "seen.png"
    seen.write_bytes(picture(seed=9))
    lines = [f"data/{kind}/{name},{kind},test" for kind, name in (
        ("good", "1.png"), ("good", "broken.png"), ("good", "2.png"), ("defect", "3.png"),
    )]  # fmt: skip
    (tmp_path / "parts.csv").write_text("\n".join(["image,label,split", "seen.png,good,train", *lines]))
    for _ in range(2):  # again after a restart
        with running(tmp_path / "s", bundle_file, known=[tmp_path / "parts.csv"]) as station:
            client = client_of(station)
            wait_until(lambda: client.get("/v1/inspections", params={"reviewed": True}).json()["total"] == 3)  # noqa: B023
            time.sleep(0.3)
            found = client.get("/v1/inspections").json()["items"]
            assert {(part["verdict"], part["reviews"][0]["label"]) for part in found} == {
                ("pass", "good"),
                ("reject", "defect"),
            }
            assert [len(part["reviews"]) for part in found] == [1, 1, 1]
            assert {part["part_id"] for part in found} == {"good/1.png", "good/2.png", "defect/3.png"}
