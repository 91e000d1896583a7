"""Watched folders, videos and cameras."""

import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from station_helpers import Server, make_client, picture, run_station, wait_until

from blemish.station import video_source, watched_folder
from blemish.station.station import Station, activate_bundle
from blemish.station.tickets import NotAnsweredError


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
    path, files = tmp_path / "p.png", watched_folder.SettledFiles(tmp_path)
    for length in range(3):
        path.write_bytes(bytes(length))
        os.utime(path, (0, 0))  # a copy keeps the time of the original
        assert files.find() == []
        time.sleep(2 * watched_folder.SETTLED_S)
    assert files.find() == [path]
    ahead = time.time() + 3600
    path.write_bytes(b"other")
    os.utime(path, (ahead, ahead))
    assert files.find() == []
    time.sleep(2 * watched_folder.SETTLED_S)
    assert files.find() == [path]


def test_inspected_files_are_deleted_after_the_days_that_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "p.png").touch()
    watched_folder.prune_done(tmp_path, days=1)
    assert names(tmp_path, "done") == ["p.png"]
    time.sleep(0.02)
    watched_folder.prune_done(tmp_path, days=1e-8)
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


def write_video(path: Path, frames: int = 6) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 10.0, (64, 64))
    for _ in range(frames):
        writer.write(np.random.default_rng(0).integers(0, 60, (64, 64, 3)).astype(np.uint8))
    writer.release()
    return path


def source_states(station: Station) -> dict[str, tuple[str, str]]:
    found = station.service.sources.states("source")
    return defaultdict(lambda: ("", ""), {source.name: (source.state, str(source.detail)) for source in found})


def test_folders_of_one_name_have_states_of_their_own(tmp_path: Path) -> None:
    """Without a recipe, too: a folder that is gone is no readable one."""
    folders = [tmp_path / line / "in" for line in ("line1", "line2")]
    for folder in folders:
        folder.mkdir(parents=True)
    with run_station(tmp_path / "s", None, watch=folders) as station:
        names = [f"folder {folder}" for folder in folders]
        wait_until(lambda: [source_states(station)[name][0] for name in names] == ["ok", "ok"])
        shutil.rmtree(folders[0])
        wait_until(lambda: source_states(station)[names[0]][0] == "lost")
        for _ in range(10):
            time.sleep(0.1)
            assert [source_states(station)[name][0] for name in names] == ["lost", "ok"]


def test_a_folder_that_cannot_be_made_is_lost(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("no folder")
    with run_station(tmp_path / "s", None, watch=[tmp_path / "in"]) as station:
        wait_until(lambda: "directory" in source_states(station)["folder in"][1].lower())
        assert source_states(station)["folder in"][0] == "lost"
        (tmp_path / "in").unlink()
        wait_until(lambda: source_states(station)["folder in"][0] == "ok")


def test_names_of_files_are_ids_that_are_never_cut(tmp_path: Path, bundle_file: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    long = "p" * 180
    with run_station(tmp_path / "s", bundle_file, watch=[folder]) as station:
        for seed, name in enumerate((f"1{long}.png", f"2{long}.png", f"{'q' * 205}.png", f"{'r' * 230}.png")):
            (folder / name).write_bytes(picture(seed=seed))
        wait_until(lambda: (folder / "done").is_dir() and len(names(folder, "done") + names(folder, "failed")) == 6)
        found = make_client(station).get("/v1/inspections").json()["items"]
    assert sorted(row["part_id"] for row in found) == [f"1{long}", f"2{long}"]
    told = [path.read_text() for path in (folder / "failed").glob("*.txt")]
    assert len(told) == 2
    assert all("too long" in text or "more than 200" in text for text in told)


def test_a_frame_of_a_video_waits_until_it_is_recorded(
    tmp_path: Path, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_source, "RETRY_S", 0.5)
    video, submit, lost = write_video(tmp_path / "belt.avi"), video_source.submit_stream, [True]

    def unlucky(service, stream, origin, stop, part_id, *rest):  # type: ignore[no-untyped-def]
        if lost[0] and part_id == "belt-000003":
            raise NotAnsweredError("the database is away")
        return submit(service, stream, origin, stop, part_id, *rest)

    monkeypatch.setattr(video_source, "submit_stream", unlucky)
    with run_station(tmp_path / "s", bundle_file, cameras=[str(video)], camera_interval_s=0.1) as station:
        client = make_client(station)
        wait_until(lambda: source_states(station)["belt"] == ("lost", "the database is away"))
        assert client.get("/v1/inspections").json()["total"] == 2
        lost[0] = False
        wait_until(lambda: client.get("/v1/inspections").json()["total"] == 6)
        wait_until(lambda: source_states(station)["belt"] == ("ok", "works"))
        found = client.get("/v1/inspections").json()["items"]
    assert [row["part_id"] for row in reversed(found)] == [f"belt-{number:06}" for number in range(1, 7)]


def test_a_video_that_is_cut_off_is_lost_and_not_ended(tmp_path: Path, bundle_file: Path) -> None:
    whole = write_video(tmp_path / "belt.avi", 20).read_bytes()
    (tmp_path / "belt.avi").write_bytes(whole[: len(whole) * 6 // 10])
    settings = {"cameras": [str(tmp_path / "belt.avi")], "camera_interval_s": 0.5}
    with run_station(tmp_path / "s", bundle_file, **settings) as station:
        wait_until(lambda: source_states(station)["belt"][1].startswith("it broke off after"))
        assert source_states(station)["belt"][0] == "lost"
        assert source_states(station)["belt"][1].endswith("of 20 frames")


class SilentCamera:
    """OpenCV's device that grabs for ever; its frames can be read while `pictures` are left."""

    pictures, opened = 3, 0

    def __init__(self, address: object) -> None:
        type(self).opened += 1

    def grab(self) -> bool:
        time.sleep(0.01)
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        type(self).pictures -= 1
        return (True, np.full((64, 64, 3), 50, np.uint8)) if self.pictures >= 0 else (False, None)

    def release(self) -> None:
        pass


def test_a_camera_that_gives_no_more_pictures_is_lost_and_reopened(
    tmp_path: Path, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_source.cv2, "VideoCapture", SilentCamera)
    monkeypatch.setattr(video_source, "SILENT_S", 0.5)
    monkeypatch.setattr(video_source, "RETRY_S", 0.05)
    with run_station(tmp_path / "s", bundle_file, cameras=["7"], camera_interval_s=0.05) as station:
        client = make_client(station)
        wait_until(lambda: client.get("/v1/inspections").json()["total"] == 3)
        wait_until(lambda: source_states(station)["camera-7"] == ("lost", "no image"))
        wait_until(lambda: SilentCamera.opened > 1)
        for _ in range(10):
            time.sleep(0.05)
            assert source_states(station)["camera-7"] == ("lost", "no image")
        SilentCamera.pictures = 100
        wait_until(lambda: source_states(station)["camera-7"][0] == "ok")


def test_camera_settings_of_the_recipe_that_cannot_be_set_leave_no_picture(
    tmp_path: Path, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a number, an address and a file alike, as for a camera of the line."""
    monkeypatch.setattr(video_source, "RETRY_S", 0.1)
    monkeypatch.setattr(SilentCamera, "pictures", 10**6)
    video, capture = str(write_video(tmp_path / "belt.avi")), cv2.VideoCapture
    monkeypatch.setattr(video_source.cv2, "VideoCapture", lambda at: capture(at) if at == video else SilentCamera(at))
    with run_station(tmp_path / "s", bundle_file) as station:
        client = make_client(station)
        sha = client.get("/v1/bundles").json()[0]["sha256"]
        given = {"name": "set", "bundle": sha, "cameras": {"": {"exposure_us": 5000}}}
        made = client.post("/v1/recipes", json=given).json()
        assert client.post(f"/v1/recipes/{made['id']}/activate").status_code == 200
    settings = {"cameras": ["7", "rtsp://u:p@10.0.0.5/a", video], "camera_interval_s": 0.1}
    with run_station(tmp_path / "s", None, **settings) as station:
        client = make_client(station)
        told = ("lost", "exposure_us of the recipe's camera settings cannot be set without GenICam")
        wait_until(lambda: list(source_states(station).values()) == [told] * 3)
        assert client.get("/v1/inspections").json()["total"] == 0
        plain = client.post("/v1/recipes", json={"name": "plain", "bundle": sha}).json()
        client.post(f"/v1/recipes/{plain['id']}/activate")
        wait_until(lambda: all(state == "ok" for state, _ in source_states(station).values()))
        wait_until(lambda: client.get("/v1/inspections", params={"part_id": "belt-000006"}).json()["total"] == 1)
        found = client.get("/v1/inspections", params={"limit": 500}).json()["items"]
    assert {row["recipe"]["name"] for row in found} == {"plain"}


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
    monkeypatch.setattr(video_source, "RETRY_S", 0.05)
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
    names = [video_source.camera_name(address, addresses) for address in addresses]
    assert names == ["camera-10.0.0.5-1", "camera-10.0.0.5-2", "camera-0", "camera-other"]


def test_videos_of_one_name_are_named_by_their_paths(tmp_path: Path) -> None:
    for line in ("line1", "line2"):
        (tmp_path / line).mkdir()
        (tmp_path / line / "belt.avi").touch()
    videos = [str(tmp_path / line / "belt.avi") for line in ("line1", "line2")]
    assert [video_source.camera_name(video, videos) for video in videos] == videos
    assert video_source.camera_name(videos[0], [videos[0], "0"]) == "belt"
