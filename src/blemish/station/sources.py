"""Where parts come from besides requests: a watched folder, a camera, a video file. Each runs in its own thread."""

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError, OptionError
from blemish.imaging.read import IMAGE_SUFFIXES, encode
from blemish.station.image_store import take_in
from blemish.station.recipes import active, resolve
from blemish.station.repository import Arrival
from blemish.station.schemas import InspectionOut
from blemish.station.service import Service
from blemish.station.tickets import NotAnsweredError, QueueFullError, Ticket

log = logging.getLogger("blemish.station")
WORKING, DONE, FAILED = "working", "done", "failed"
POLL_S = 0.2
SETTLED_S = 0.5  # a file unchanged for so long is whole; better: write it elsewhere, then rename it into the folder
_RETRY_S = 2.0
_MAX_NAME = 150


def watch_folder(service: Service, folder: Path, stop: threading.Event) -> None:
    """Inspect image files that appear in `folder`, and move them to `done` or `failed` there.

    A file is first moved to `working`, under a name with a key of its own: after a kill it is found there, and its
    key tells whether its inspection was recorded already.
    """
    for name in (WORKING, DONE, FAILED):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(service.settings.batch_size, "blemish-folder") as pool:
        while not stop.is_set():
            try:
                if _ready(service):
                    for path in _settled(folder):
                        path.rename(folder / WORKING / f"{uuid.uuid4().hex}__{path.name[-_MAX_NAME:]}")
                    waiting = sorted((folder / WORKING).iterdir())
                    list(pool.map(partial(_inspect_file, service, folder, stop), waiting))
            except Exception:
                log.exception("folder %s: what got no answer stays in '%s' and is tried again", folder, WORKING)
                stop.wait(_RETRY_S)
            stop.wait(POLL_S)


def _ready(service: Service) -> bool:
    with service.database.reading() as session:
        return active(session) is not None


def _settled(folder: Path) -> Iterator[Path]:
    """Image files in the folder that nobody seems to be writing any more, oldest first."""
    found = []
    for path in folder.iterdir():
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            changed = path.stat().st_mtime
            if time.time() - changed >= SETTLED_S:
                found.append((changed, path))
    return (path for _, path in sorted(found))


def _inspect_file(service: Service, folder: Path, stop: threading.Event, path: Path) -> None:
    """One file of `working`; it stays there as long as no answer could be recorded."""
    if stop.is_set():
        return
    key, _, name = path.name.partition("__")
    try:
        with path.open("rb") as stream:
            answer = submit(service, stream, "folder", stop, part_id=Path(name).stem, key=f"folder-{key}")
    except NotAnsweredError:
        raise
    except BlemishError as error:
        log.warning("%s: %s", name, error)
        (folder / FAILED / f"{name}.txt").write_text(f"{error}\n", encoding="utf-8")
        _move(path, folder / FAILED / name)
        return
    if answer is not None:
        _move(path, folder / (FAILED if answer.error else DONE) / name)


def _move(path: Path, target: Path) -> None:
    """Never over a file of the same name."""
    while target.exists():
        target = target.with_name(f"{target.stem}-{uuid.uuid4().hex[:8]}{target.suffix}")
    path.rename(target)


def submit(
    service: Service, stream: BinaryIO, source: str, stop: threading.Event, part_id: str, key: str | None = None
) -> InspectionOut | None:
    """The recorded answer to an image, waiting for a place as long as it takes; None where `stop` came first.

    What is no image, or too large a one, is recorded too, with the verdict to review. Raises BlemishError where
    there can be no record.
    """
    if not wait_for_place(service, stop):
        return None
    try:
        settings = service.settings
        incoming = take_in(stream, settings.incoming, settings.max_image_bytes)
        with service.database.reading() as session:
            recipe = resolve(session, None)
        arrival = Arrival(recipe, incoming.sha256, incoming.size, source, part_id=part_id[:200], key=key)
        ticket = Ticket(arrival, incoming.path, record_failure=True)
    except BaseException:
        service.give_up()
        raise
    return service.submit(ticket).result()


def wait_for_place(service: Service, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            service.take()
        except QueueFullError:
            stop.wait(0.05)
        else:
            return True
    return False


def check_camera(text: str) -> None:
    """Raise OptionError for what is no camera's number, no address and no file."""
    place = Path(text)  # may be a device, too
    if not (text.isdigit() or urlsplit(text).hostname or (place.exists() and not place.is_dir())):
        raise OptionError(f"there is no camera or video '{text}'; give a number, rtsp://... or the path of a file")
    if place.is_file() and not _opens(text):
        raise OptionError(f"{text} is no video that can be read; give an AVI or MP4 file, or a camera")


def _opens(path: str) -> bool:
    video = cv2.VideoCapture(path)
    try:
        return bool(video.isOpened() and video.grab())
    finally:
        video.release()


def watch_camera(service: Service, address: str, stop: threading.Event) -> None:
    """Inspect pictures of a camera (a number, or an RTSP address) or of a video file, one in `camera_interval_s`.

    A camera that is lost is looked for again. Its pictures are passed over while one of them is on its way, so that the
    next one is new; those of a file wait, and the file ends.
    """
    is_file = Path(address).is_file()
    name = Path(address).stem if is_file else _camera_name(address)
    while not _ready(service):  # a file's pictures come once only
        if stop.wait(POLL_S):
            return
    while not stop.is_set():
        camera = cv2.VideoCapture(int(address) if address.isdigit() else address)
        try:
            (_inspect_file_frames if is_file else _inspect_live_frames)(service, camera, name, stop)
        except Exception:
            log.exception("%s", name)
        finally:
            camera.release()
        if is_file:
            return
        log.warning("%s gives no picture; trying again in %.0f s", name, _RETRY_S)
        stop.wait(_RETRY_S)


def _camera_name(address: str) -> str:
    """By number or host; the rest of an address may hold a password."""
    known = address if address.isdigit() else urlsplit(address).hostname
    return f"camera-{known}" if known else "camera"


def _inspect_file_frames(service: Service, camera: cv2.VideoCapture, name: str, stop: threading.Event) -> None:
    rate = camera.get(cv2.CAP_PROP_FPS) or 25.0
    every = max(1, round(service.settings.camera_interval_s * rate))
    number = 0
    while not stop.is_set() and camera.grab():
        number += 1
        if (number - 1) % every == 0:
            _inspect_frame(service, camera, f"{name}-{number:06}", stop)


def _inspect_live_frames(service: Service, camera: cv2.VideoCapture, name: str, stop: threading.Event) -> None:
    """Frames are fetched all the while, or a buffer would hold old ones."""
    due, under_way = 0.0, None
    with ThreadPoolExecutor(1, "blemish-camera") as pool:
        while not stop.is_set() and camera.grab():
            if time.monotonic() < due or (under_way is not None and not under_way.done()):
                continue
            if under_way is not None:
                under_way.result()  # raises what went wrong
            due = time.monotonic() + service.settings.camera_interval_s
            done, frame = camera.retrieve()
            if done and frame is not None:
                part = f"{name}-{time.time_ns() // 1_000_000}"
                under_way = pool.submit(submit, service, BytesIO(_png(frame)), "camera", stop, part_id=part)


def _inspect_frame(service: Service, camera: cv2.VideoCapture, part: str, stop: threading.Event) -> None:
    done, frame = camera.retrieve()
    if done and frame is not None:
        submit(service, BytesIO(_png(frame)), "camera", stop, part_id=part)


def _png(frame: NDArray[Any]) -> bytes:
    rgb = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return encode(np.asarray(rgb), ".png")
