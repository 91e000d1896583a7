"""`make line`: a fake GigE Vision camera, a station and a simulated PLC inspect 200 parts, and the counts are compared.

    python -m blemish.station.line.demo [--out DIR] [--parts N]

Without Aravis and its tools a video file stands in for the camera, and the last line says so. Pictures of the camera
are taken, a bundle is trained on them, and two recipes keep the camera's settings: with those of the second one, which
the PLC asks for now and then, the pictures are too bright, as with a broken light. Nothing here is a real surface; it
shows that camera, station and PLC work together, and says nothing about detecting defects.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from blemish.errors import BlemishError, MissingExtraError
from blemish.imaging.read import write_image
from blemish.station.cameras.aravis import list_cameras
from blemish.station.cameras.connect import open_camera
from blemish.station.cameras.settings import CameraSettings
from blemish.station.line.modbus import ModbusPlcWire
from blemish.station.line.plc import Plc, PlcAnswer, PlcLimits
from blemish.station.tickets import NotAnsweredError

FAKE, SERIAL = "arv-fake-gv-camera-0.8", "LINE"
PICTURES = 24  # that the bundle is trained on
SKIPPED = 10  # pictures between two of them: the fake camera's pattern wanders, and comes back after 256 pictures
BRIGHT_EVERY = 10  # parts
NORMAL = CameraSettings(exposure_us=5000, gain_db=0, roi=(0, 0, 128, 128), pixel_format="Mono8", trigger="software")
BRIGHT = NORMAL.model_copy(update={"exposure_us": 20_000.0})
START_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description="camera, station and PLC inspect parts together")
    parser.add_argument("--out", type=Path, default=Path("demo/line-demo"), help="folder, which is replaced")
    parser.add_argument("--parts", type=int, default=200)
    given = parser.parse_args()
    try:
        equal = run(given.out, given.parts)
    except BlemishError as error:
        sys.exit(f"error: {error}")
    sys.exit(0 if equal else 1)


def run(out: Path, parts: int) -> bool:
    """Whether the station's record and the PLC have the same verdict of every part."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with ExitStack() as stack:
        kind, address = stack.enter_context(_camera(out))
        settings = (NORMAL, BRIGHT) if kind == "aravis" else (None, None)
        print(f"camera: {address}", flush=True)
        _take_pictures(address, settings[0], out)
        _train(out)
        line, port = _free_port(), _free_port()
        client = stack.enter_context(_station(out, address, line, port))
        bright = _make_recipes(client, settings)
        wire = ModbusPlcWire("127.0.0.1", line)
        stack.callback(wire.close)
        answers = _ask(Plc(wire, PlcLimits(watchdog_s=3.0, answer_s=15.0, ready_s=60.0)), parts, bright)
        recorded = _read_record(client)
    shown = {part: answer.verdict for part, answer in answers.items() if answer.verdict is not None}
    verdicts = {verdict: list(recorded.values()).count(verdict) for verdict in ("pass", "review", "reject")}
    print(", ".join(f"{number} {verdict}" for verdict, number in verdicts.items()))
    for part, answer in answers.items():
        if answer.verdict is None or recorded.get(part) != answer.verdict:
            print(f"{part}: station {recorded.get(part)}, PLC {answer.verdict or answer.reason}")
    equal = recorded == shown and len(shown) == parts
    print(f"station {len(recorded)} plc {len(shown)} {'equal' if equal else 'DIFFERENT'} camera {kind}")
    return equal


@contextmanager
def _camera(out: Path) -> Iterator[tuple[str, str]]:
    """Kind and address of a camera that runs as long as the block."""
    process = _start_fake()
    if process is None:
        yield "video", str(_make_video(out / "parts.avi"))
        return
    try:
        yield "aravis", f"aravis:Aravis-Fake-{SERIAL}?packet_size=8192&socket=udp"
    finally:
        process.terminate()
        process.wait()


def _start_fake() -> "subprocess.Popen[bytes] | None":
    program = shutil.which(FAKE)
    try:
        if program is None:
            raise MissingExtraError(f"{FAKE} is not installed (apt install aravis-tools)")
        list_cameras()
    except MissingExtraError as error:
        print(f"no Aravis, so a video file is the camera: {error}", flush=True)
        return None
    command = [program, "-i", "127.0.0.1", "-s", SERIAL]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + START_S
    while f"Aravis-Fake-{SERIAL}" not in list_cameras():
        if time.monotonic() > until or process.poll() is not None:
            process.kill()
            raise BlemishError("the fake camera does not start")
        time.sleep(0.1)
    return process


def _make_video(path: Path) -> Path:
    """Grey frames with a little noise, of which every tenth is too bright."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 10, (128, 128))
    rng = np.random.default_rng(0)
    for number in range(200):
        level = 220 if number % BRIGHT_EVERY == BRIGHT_EVERY - 1 else 100
        video.write((level + rng.integers(-8, 9, (128, 128, 1))).astype(np.uint8).repeat(3, axis=2))
    video.release()
    return path


def _take_pictures(address: str, settings: CameraSettings | None, out: Path) -> None:
    folder = out / "pictures" / "train" / "good"
    folder.mkdir(parents=True)
    camera = open_camera(address, settings, out)
    number, until = 0, time.monotonic() + START_S
    while number < PICTURES:
        try:
            image = camera.take()
            for _ in range(SKIPPED if settings is not None else 0):
                camera.take()
        except NotAnsweredError as error:
            if time.monotonic() > until:
                raise
            print(f"again: {error}", flush=True)
            time.sleep(0.2)
            continue
        if image.mean() < 200:  # of the video, without the bright ones
            write_image(folder / f"{number:03}.png", image)
            number += 1
    camera.close()


def _train(out: Path) -> None:
    command = [
        sys.executable, "-m", "blemish", "train", str(out / "pictures"), "--method", "patchcore",
        "--set", "image_size=128",
    ]  # fmt: skip
    subprocess.run([*command, "--out", str(out / "run")], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _station(out: Path, camera: str, line: int, port: int) -> Iterator[httpx.Client]:
    command = [
        sys.executable, "-m", "blemish", "serve", "--bundle", str(out / "run"), "--data", str(out / "station"),
        "--port", str(port), "--line", f"modbus://127.0.0.1:{line}", "--line-camera", camera,
    ]  # fmt: skip
    with (out / "station.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
        try:
            until = time.monotonic() + START_S
            while not _is_ready(client):
                if time.monotonic() > until or process.poll() is not None:
                    raise BlemishError(f"the station does not start: {(out / 'station.log').read_text()[-500:]}")
                time.sleep(0.2)
            yield client
        finally:
            process.terminate()
            process.wait()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _make_recipes(client: httpx.Client, settings: tuple[CameraSettings | None, CameraSettings | None]) -> int:
    """Activate a recipe with the bright settings, then one with the normal ones; the id of the first."""
    bundle = client.get("/v1/recipes").raise_for_status().json()[0]["bundle"]
    ids = []
    for name, own in (("bright", settings[1]), ("normal", settings[0])):
        given: dict[str, Any] = {"name": name, "bundle": bundle}
        if own is not None:
            given["cameras"] = {"": own.model_dump()}
        made = client.post("/v1/recipes", json=given).raise_for_status().json()
        client.post(f"/v1/recipes/{made['id']}/activate").raise_for_status()
        ids.append(int(made["id"]))
    return ids[0]


def _ask(plc: Plc, parts: int, bright: int) -> dict[str, PlcAnswer]:
    answers = {}
    for number in range(1, parts + 1):
        part = f"part-{number:04}"
        answers[part] = plc.inspect(part, bright if number % BRIGHT_EVERY == 0 else 0)
        if number % 50 == 0:
            print(f"{number} parts", flush=True)
    return answers


def _read_record(client: httpx.Client) -> dict[str, str]:
    """The verdict of each recorded part; raises BlemishError for a part that was recorded twice."""
    recorded: dict[str, str] = {}
    before: int | None = None
    while True:
        query = {"limit": 100} if before is None else {"limit": 100, "before": before}
        page = client.get("/v1/inspections", params=query).raise_for_status().json()
        for item in page["items"]:
            if item["part_id"] in recorded:
                raise BlemishError(f"{item['part_id']} was recorded twice")
            recorded[item["part_id"]] = item["verdict"]
        before = page["next"]
        if before is None:
            return dict(sorted(recorded.items()))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main()
