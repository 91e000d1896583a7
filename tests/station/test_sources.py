"""Watched folders, videos and cameras."""

import os
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
from station_helpers import Server, make_client, picture, run_station, wait_until

from blemish.station import sources
from blemish.station.station import activate_bundle


def drop(folder: Path, name: str, content: bytes) -> None:
    """Like a well-behaved sender: write next to the target, then rename."""
    part = folder / f".{name}.part"
    part.write_bytes(content)
    part.rename(folder / name)


def names(folder: Path, kind: str) -> list[str]:
    return sorted(path.name for path in (folder / kind).iterdir())


def test_every_file_of_a_watched_folder_is_inspected(tmp_path: Path, bundle_file: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with run_station(tmp_path / "s", bundle_file, watch=[folder]) as station:
        for index in range(5):
            drop(folder, f"p{index}.png", picture(defect=index == 2, seed=index))
        drop(folder, "broken.png", b"no image")
        drop(folder, "empty.png", b"")
        (folder / "notes.txt").write_text("left alone")
        wait_until(lambda: len(names(folder, "done")) + len(names(folder, "failed")) >= 8)
        drop(folder, "p0.png", picture(seed=77))  # a name that was used before
        wait_until(lambda: len(names(folder, "done")) == 6)
        found = make_client(station).get("/v1/inspections").json()["items"]
    verdicts = sorted((row["part_id"], row["verdict"]) for row in found)
    assert verdicts == [("broken", "review"), ("p0", "pass"), ("p0", "pass"), ("p1", "pass"), ("p2", "reject"),
                        ("p3", "pass"), ("p4", "pass")]  # fmt: skip
    assert names(folder, "failed") == ["broken.png", "empty.png", "empty.png.txt"]
    assert names(folder, "working") == []
    assert (folder / "notes.txt").exists()


def test_a_watched_folder_continues_after_a_kill(tmp_path: Path, serve: Callable[..., Server]) -> None:
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


def test_a_file_is_settled_when_two_looks_see_the_same(tmp_path: Path) -> None:
    """Whatever the clock of the sender says, and however slowly it writes."""
    path, files = tmp_path / "p.png", sources.SettledFiles(tmp_path)
    for length in range(3):
        path.write_bytes(bytes(length))
        os.utime(path, (0, 0))  # a copy keeps the time of the original
        assert files.find() == []
        time.sleep(2 * sources.SETTLED_S)
    assert files.find() == [path]
    ahead = time.time() + 3600
    path.write_bytes(b"other")
    os.utime(path, (ahead, ahead))
    assert files.find() == []
    time.sleep(2 * sources.SETTLED_S)
    assert files.find() == [path]


def test_inspected_files_are_deleted_after_the_days_that_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "p.png").touch()
    sources.prune_done(tmp_path, days=1)
    assert names(tmp_path, "done") == ["p.png"]
    time.sleep(0.02)
    sources.prune_done(tmp_path, days=1e-8)
    assert names(tmp_path, "done") == []


@contextmanager
def open_station_quietly(folder: Path) -> Iterator[TestClient]:
    with run_station(folder, None) as station:
        yield make_client(station)


def test_a_video_is_inspected_frame_by_frame(tmp_path: Path, bundle_file: Path) -> None:
    video = tmp_path / "belt.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 64))
    for index in range(20):
        writer.write(np.full((64, 64, 3), 220 if index == 10 else 50, np.uint8))
    writer.release()
    with run_station(tmp_path / "s", None, keep="rejects", cameras=[str(video)]) as station:
        time.sleep(0.3)
        activate_bundle(station, bundle_file)  # nothing is lost because there was no recipe yet
        client = make_client(station)
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


def test_a_lost_network_camera_is_reopened(tmp_path: Path, bundle_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_RETRY_S", 0.05)
    server = ThreadingHTTPServer(("127.0.0.1", 0), NetworkCamera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/secret"
    with run_station(tmp_path / "s", bundle_file, cameras=[address], camera_interval_s=0.05) as station:
        client = make_client(station)
        wait_until(lambda: client.get("/v1/inspections", params={"verdict": "reject"}).json()["total"] > 1)
    server.shutdown()
    server.server_close()
    with run_station(tmp_path / "s", None) as station:
        found = make_client(station).get("/v1/inspections", params={"limit": 500}).json()["items"]
    verdicts = [row["verdict"] for row in reversed(found)]
    assert verdicts == sorted(verdicts)  # "pass" until it was lost, "reject" since
    assert verdicts[0] == "pass"
    assert all(row["part_id"].startswith("camera-127.0.0.1-") for row in found)


def test_cameras_of_one_host_have_names_of_their_own_without_secrets() -> None:
    addresses = ["rtsp://u:geheim@10.0.0.5/a?token=geheim", "rtsp://10.0.0.5/geheim", "0", "rtsp://other/x"]
    names = [sources.camera_name(address, addresses) for address in addresses]
    assert names == ["camera-10.0.0.5-1", "camera-10.0.0.5-2", "camera-0", "camera-other"]
