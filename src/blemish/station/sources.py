"""Sources of parts other than requests: watched folders, cameras, video files. Each runs in a thread of its own."""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import cv2
import numpy as np

from blemish.errors import BlemishError, DataError, OptionError
from blemish.imaging.read import IMAGE_SUFFIXES, encode
from blemish.station.cameras.settings import CameraSettings
from blemish.station.cameras.video import check_settings
from blemish.station.image_store import DiskFullError
from blemish.station.recipe_views import ONE_VIEW
from blemish.station.recipes import active_recipe
from blemish.station.schemas import MAX_PART_ID, InspectionOut, is_part_id
from blemish.station.service import InspectionService
from blemish.station.source_states import NO_IMAGE, SILENT_S
from blemish.station.tickets import NotAnsweredError

log = logging.getLogger("blemish.station")
WORKING, DONE, FAILED = "working", "done", "failed"
POLL_S = 0.2
PRUNE_S = 600.0
SETTLED_S = 0.5  # a file unchanged for so long is complete; better: write it elsewhere, then rename it into the folder
_RETRY_S = 2.0
_MAX_NAME = 220  # bytes, so that a key fits before it
FOLDER_SILENT_S = 5.0  # besides the time of an answer: a share that hangs raises no error


def watch_folder(service: InspectionService, folder: Path, stop: threading.Event) -> None:
    """Inspect image files that appear in `folder`, and move them to `done` or `failed` there.

    A file is first moved to `working`, under a name with a key of its own: after a kill it is still there, and by its
    key the record shows whether it was inspected already.
    """
    folders = [str(path) for path in service.settings.watch]
    source = f"folder {distinct_name(str(folder), folders, lambda path: Path(path).name)}"
    service.sources.lost(source, "it was not read yet")
    settled, prune_at, made = SettledFiles(folder), 0.0, False
    silent_s = FOLDER_SILENT_S + service.settings.time_limit_s
    with ThreadPoolExecutor(service.settings.batch_size, "blemish-folder") as pool:
        while not stop.is_set():
            try:
                for name in () if made else (WORKING, DONE, FAILED):  # once: a lost share must not be made anew
                    (folder / name).mkdir(parents=True, exist_ok=True)
                made = True
                found = settled.find()
                (folder / WORKING).stat()  # raises where the folder is lost, even if there is no recipe
                if _ready(service):
                    for path in found:
                        _take(folder, path)
                    waiting = sorted((folder / WORKING).iterdir())
                    inspect = partial(_inspect_file, service, folder, stop)
                    for _ in pool.map(inspect, waiting):
                        service.sources.works(source, silent_s)
                if service.settings.done_days is not None and time.monotonic() >= prune_at:
                    prune_done(folder, service.settings.done_days)
                    prune_at = time.monotonic() + PRUNE_S
                service.sources.works(source, silent_s)
            except Exception as error:
                service.sources.lost(source, _reason(error))
                log.exception("folder %s: files without an answer stay in '%s' and are retried", folder, WORKING)
                stop.wait(_RETRY_S)
            stop.wait(POLL_S)


def _take(folder: Path, path: Path) -> None:
    """Move a file to `working`; its name is the part's id, so it is never cut."""
    key = uuid.uuid4().hex
    if len(os.fsencode(path.name)) > _MAX_NAME:
        _refuse(folder, path, f"{key}{path.suffix}", f"the name {path.name} is too long")
    else:
        path.rename(folder / WORKING / f"{key}__{path.name}")


def _refuse(folder: Path, path: Path, name: str, problem: str) -> None:
    log.warning("%s: %s", name, problem)
    (folder / FAILED / f"{name}.txt").write_text(f"{problem}\n", encoding="utf-8")
    _move(path, folder / FAILED / name)


def _reason(error: Exception) -> str:
    """For the list of sources; errors of the database would show whole queries."""
    told = isinstance(error, BlemishError | OSError | ValueError) and str(error)
    return told or type(error).__name__


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
        _refuse(folder, path, name, str(error))
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
    recipe_id: int | None = None,
) -> InspectionOut | None:
    """The recorded answer for an image, waiting for a slot as long as it takes; None where `stop` was set first.
    `recipe_id` is that whose settings the camera had; None: the active one.

    A file that is no image, or too large, is recorded too, with the verdict review. Raises BlemishError where there
    can be no record, as for an id that cannot be kept whole.
    """
    if not is_part_id(part_id):
        raise DataError(f"the part id {part_id!r} has more than {MAX_PART_ID} characters, or ones that cannot be seen")
    if not service.wait_for_slot(stop, sender=origin):
        return None
    return service.submit_image(
        stream, recipe_id, origin, part_id=part_id, key=key, record_failure=True, sender=origin
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
    name = camera_name(address, service.settings.cameras)
    service.sources.lost(name)
    while not _ready(service):  # the frames of a file come only once
        if stop.wait(POLL_S):
            return
    while not stop.is_set():
        problem = NO_IMAGE
        camera = cv2.VideoCapture(int(address) if address.isdigit() else address)
        try:
            if is_file:
                _inspect_file_frames(service, camera, name, stop)
                return
            _inspect_live_frames(service, camera, name, stop)
        except Exception as error:
            problem = _reason(error)
            log.warning("%s", name, exc_info=not isinstance(error, BlemishError | ValueError))
        finally:
            camera.release()
        service.sources.lost(name, problem)
        log.warning("%s gives no image (%s); retrying in %.0f s", name, problem, _RETRY_S)
        stop.wait(_RETRY_S)


def camera_name(address: str, addresses: Sequence[str] = ()) -> str:
    """Name of a video file, or by number or host, for the rest of an address may contain a password.

    Where several of `addresses` have the same name, that of a file is its path, and others are numbered.
    """
    return distinct_name(address, addresses, _short_name)


def distinct_name(address: str, addresses: Sequence[str], shorten: Callable[[str], str]) -> str:
    """`shorten(address)`, or more where it is that of others, too."""
    short = shorten(address)
    same = [other for other in dict.fromkeys(addresses) if shorten(other) == short]
    if len(same) < 2:
        return short
    return address if Path(address).exists() else f"{short}-{same.index(address) + 1}"


def _short_name(address: str) -> str:
    if Path(address).is_file():
        return Path(address).stem
    host = address if address.isdigit() else urlsplit(address).hostname or ""
    return f"camera-{host}" if host else "camera"


def wanted_settings(service: InspectionService) -> tuple[int, CameraSettings]:
    """Id of the active recipe, and the settings that it keeps for a picture of the whole part.

    Raises DataError without a recipe, NotAnsweredError for one of several views: its parts are the line's.
    """
    recipe_id = service.recipes.resolve(None)
    views, settings = service.recipes.pictures(recipe_id)
    if views != [ONE_VIEW]:
        raise NotAnsweredError("the recipe takes several views, and this is one camera")
    return recipe_id, (settings or {}).get(ONE_VIEW, CameraSettings())


def _inspect_file_frames(
    service: InspectionService, camera: cv2.VideoCapture, name: str, stop: threading.Event
) -> None:
    """To the last frame; the state of the source says where some are missing."""
    rate = camera.get(cv2.CAP_PROP_FPS) or 25.0
    every = max(1, round(service.settings.camera_interval_s * rate))
    count = int(camera.get(cv2.CAP_PROP_FRAME_COUNT))
    number, unread, key = 0, 0, uuid.uuid4().hex
    while not stop.is_set() and camera.grab():
        number += 1
        if (number - 1) % every:
            continue
        if (stream := _retrieve(camera)) is None:
            unread += 1
            service.sources.lost(name, f"frame {number} cannot be read")
            continue
        _submit_frame(service, stream, name, stop, part_id=f"{name}-{number:06}", key=f"camera-{key}-{number}")
    if stop.is_set():
        return
    if number == 0 or number < count:
        service.sources.lost(name, f"it broke off after {number} of {max(count, 1)} frames")
    elif unread:
        service.sources.lost(name, f"{unread} of its frames could not be read")
    else:
        service.sources.works(name)  # it has ended


def _submit_frame(
    service: InspectionService, stream: BinaryIO, name: str, stop: threading.Event, part_id: str, key: str
) -> None:
    """Again and again until it is recorded, once by its key: a frame of a file comes only once."""
    while not stop.is_set():
        try:
            recipe_id, settings = wanted_settings(service)
            check_settings(settings)
            stream.seek(0)
            submit_stream(service, stream, "camera", stop, part_id, key, recipe_id)
            service.sources.works(name)
            return
        except Exception as error:
            service.sources.lost(name, _reason(error))
            log.warning("%s is retried: %s", part_id, error)
            stop.wait(_RETRY_S)


def _inspect_live_frames(
    service: InspectionService, camera: cv2.VideoCapture, name: str, stop: threading.Event
) -> None:
    """Frames are grabbed all the time, because otherwise the driver's buffer fills with old ones.

    What is grabbed is a picture only when it could be read, so a camera that gives none for long is opened again.
    """
    due, running, seen, works = 0.0, None, time.monotonic(), False
    with ThreadPoolExecutor(1, "blemish-camera") as pool:
        while not stop.is_set() and camera.grab():
            if works:  # as of the last picture that was wanted
                service.sources.works(name, SILENT_S)
            if time.monotonic() < due or (running is not None and not running.done()):
                continue
            if running is not None:
                running.result()  # raises its error
            recipe_id, settings = wanted_settings(service)
            check_settings(settings)
            stream = _retrieve(camera)
            works = stream is not None
            if stream is None:
                service.sources.lost(name)
                if time.monotonic() - seen > SILENT_S:
                    return
                continue
            service.sources.works(name, SILENT_S)
            seen = time.monotonic()
            due = seen + service.settings.camera_interval_s
            part = f"{name}-{time.time_ns() // 1_000_000}"
            running = pool.submit(submit_stream, service, stream, "camera", stop, part, recipe_id=recipe_id)


def _retrieve(camera: cv2.VideoCapture) -> BinaryIO | None:
    """The grabbed frame as a PNG file."""
    done, frame = camera.retrieve()
    if not done or frame is None:
        return None
    rgb = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return BytesIO(encode(np.asarray(rgb), ".png"))
