"""Sources of parts other than requests: watched folders, cameras, video files. Each runs in a thread of its own."""

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import cv2
import numpy as np

from blemish.errors import BlemishError, OptionError
from blemish.imaging.read import IMAGE_SUFFIXES, encode
from blemish.station.image_store import DiskFullError
from blemish.station.recipes import active_recipe
from blemish.station.schemas import InspectionOut, remove_controls
from blemish.station.service import InspectionService
from blemish.station.source_states import SILENT_S
from blemish.station.tickets import NotAnsweredError

log = logging.getLogger("blemish.station")
WORKING, DONE, FAILED = "working", "done", "failed"
POLL_S = 0.2
PRUNE_S = 600.0
SETTLED_S = 0.5  # a file unchanged for so long is complete; better: write it elsewhere, then rename it into the folder
_RETRY_S = 2.0
_MAX_NAME = 150


def watch_folder(service: InspectionService, folder: Path, stop: threading.Event) -> None:
    """Inspect image files that appear in `folder`, and move them to `done` or `failed` there.

    A file is first moved to `working`, under a name with a key of its own: after a kill it is still there, and by its
    key the record shows whether it was inspected already.
    """
    for name in (WORKING, DONE, FAILED):
        (folder / name).mkdir(parents=True, exist_ok=True)
    source, settled, prune_at = f"folder {folder.name}", SettledFiles(folder), 0.0
    with ThreadPoolExecutor(service.settings.batch_size, "blemish-folder") as pool:
        while not stop.is_set():
            try:
                if _ready(service):
                    for path in settled.find():
                        path.rename(folder / WORKING / f"{uuid.uuid4().hex}__{path.name[-_MAX_NAME:]}")
                    waiting = sorted((folder / WORKING).iterdir())
                    list(pool.map(partial(_inspect_file, service, folder, stop), waiting))
                if service.settings.done_days is not None and time.monotonic() >= prune_at:
                    prune_done(folder, service.settings.done_days)
                    prune_at = time.monotonic() + PRUNE_S
                service.sources.works(source)
            except Exception as error:
                service.sources.lost(source, type(error).__name__)
                log.exception("folder %s: files without an answer stay in '%s' and are retried", folder, WORKING)
                stop.wait(_RETRY_S)
            stop.wait(POLL_S)


def _ready(service: InspectionService) -> bool:
    with service.database.reading() as session:
        return active_recipe(session) is not None


class SettledFiles:
    """Finds image files that are no longer written to: those unchanged between two looks, whatever their clocks say."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}  # size and time of change, and since when

    def find(self) -> list[Path]:
        """Settled files, oldest first."""
        look, seen, settled = time.monotonic(), {}, []
        for path in self._folder.iterdir():
            if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
                continue
            try:
                stat = path.stat()
            except FileNotFoundError:  # renamed or deleted meanwhile
                continue
            state = stat.st_size, stat.st_mtime_ns
            before, since = self._seen.get(path, (None, look))
            seen[path] = state, since if state == before else look
            if state == before and look - since >= SETTLED_S:
                settled.append((stat.st_mtime_ns, path))
        self._seen = seen
        return [path for _, path in sorted(settled)]


def prune_done(folder: Path, days: float) -> None:
    """Delete files that were inspected long ago; the station's own copies are kept by its own limits."""
    for path in (folder / DONE).iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_ctime > days * 86400:  # of the move to this folder
                path.unlink()


def _inspect_file(service: InspectionService, folder: Path, stop: threading.Event, path: Path) -> None:
    """Inspect a file of `working`; it stays there until an answer is recorded."""
    if stop.is_set():
        return
    key, _, name = path.name.partition("__")
    try:
        with path.open("rb") as stream:
            answer = submit_stream(service, stream, "folder", stop, part_id=Path(name).stem, key=f"folder-{key}")
    except (NotAnsweredError, DiskFullError):
        raise
    except BlemishError as error:
        log.warning("%s: %s", name, error)
        (folder / FAILED / f"{name}.txt").write_text(f"{error}\n", encoding="utf-8")
        _move(path, folder / FAILED / name)
        return
    if answer is not None:
        _move(path, folder / (FAILED if answer.error else DONE) / name)


def _move(path: Path, target: Path) -> None:
    """Move a file, never over another of the same name."""
    while target.exists():
        target = target.with_name(f"{target.stem}-{uuid.uuid4().hex[:8]}{target.suffix}")
    path.rename(target)


def submit_stream(
    service: InspectionService,
    stream: BinaryIO,
    origin: str,
    stop: threading.Event,
    part_id: str,
    key: str | None = None,
) -> InspectionOut | None:
    """The recorded answer for an image, waiting for a slot as long as it takes; None where `stop` was set first.

    A file that is no image, or too large, is recorded too, with the verdict review. Raises BlemishError where there
    can be no record.
    """
    if not service.wait_for_slot(stop, sender=origin):
        return None
    part = remove_controls(part_id)[:200]
    return service.submit_image(
        stream, None, origin, part_id=part, key=key, record_failure=True, sender=origin
    ).result()


def check_camera(text: str) -> None:
    """Raise OptionError for text that is no camera number, no address and no video file."""
    place = Path(text)  # may be a device, too
    if not (text.isdigit() or urlsplit(text).hostname or (place.exists() and not place.is_dir())):
        raise OptionError(f"no camera or video '{text}'; give a number, rtsp://... or the path of a file")
    if place.is_file() and not _opens(text):
        raise OptionError(f"{text} is no readable video; give an AVI or MP4 file, or a camera")


def _opens(path: str) -> bool:
    video = cv2.VideoCapture(path)
    try:
        return bool(video.isOpened() and video.grab())
    finally:
        video.release()


def watch_camera(service: InspectionService, address: str, stop: threading.Event) -> None:
    """Inspect images of a camera (a number, or an RTSP address) or of a video file, one every `camera_interval_s`.

    A lost camera is reopened. Its images are skipped while one is being inspected, so that the next one is current; the
    frames of a file are all read, and the file ends.
    """
    is_file = Path(address).is_file()
    name = Path(address).stem if is_file else camera_name(address, service.settings.cameras)
    service.sources.lost(name)
    while not _ready(service):  # the frames of a file come only once
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
            service.sources.works(name)  # it has ended
            return
        service.sources.lost(name)
        log.warning("%s gives no image; retrying in %.0f s", name, _RETRY_S)
        stop.wait(_RETRY_S)


def camera_name(address: str, addresses: Sequence[str] = ()) -> str:
    """Name by number or host, for the rest of an address may contain a password; several of a host are numbered."""
    host = _camera_host(address)
    same = [other for other in dict.fromkeys(addresses) if _camera_host(other) == host]
    number = f"-{same.index(address) + 1}" if len(same) > 1 else ""
    return (f"camera-{host}" if host else "camera") + number


def _camera_host(address: str) -> str:
    return address if address.isdigit() else urlsplit(address).hostname or ""


def _inspect_file_frames(
    service: InspectionService, camera: cv2.VideoCapture, name: str, stop: threading.Event
) -> None:
    rate = camera.get(cv2.CAP_PROP_FPS) or 25.0
    every = max(1, round(service.settings.camera_interval_s * rate))
    number = 0
    while not stop.is_set() and camera.grab():
        service.sources.works(name)
        number += 1
        if (number - 1) % every == 0 and (stream := _retrieve(camera)) is not None:
            submit_stream(service, stream, "camera", stop, part_id=f"{name}-{number:06}")


def _inspect_live_frames(
    service: InspectionService, camera: cv2.VideoCapture, name: str, stop: threading.Event
) -> None:
    """Frames are grabbed all the time, because otherwise the driver's buffer fills with old ones."""
    due, running = 0.0, None
    with ThreadPoolExecutor(1, "blemish-camera") as pool:
        while not stop.is_set() and camera.grab():
            service.sources.works(name, SILENT_S)
            if time.monotonic() < due or (running is not None and not running.done()):
                continue
            if running is not None:
                running.result()  # raises its error
            due = time.monotonic() + service.settings.camera_interval_s
            part = f"{name}-{time.time_ns() // 1_000_000}"
            if (stream := _retrieve(camera)) is not None:
                running = pool.submit(submit_stream, service, stream, "camera", stop, part_id=part)


def _retrieve(camera: cv2.VideoCapture) -> BinaryIO | None:
    """The grabbed frame as a PNG file."""
    done, frame = camera.retrieve()
    if not done or frame is None:
        return None
    rgb = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return BytesIO(encode(np.asarray(rgb), ".png"))
