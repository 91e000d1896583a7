"""Parts from cameras without GenICam and from video files, by OpenCV: each runs in a thread of its own."""

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import cv2
import numpy as np

from blemish.errors import BlemishError, OptionError
from blemish.imaging.read import encode
from blemish.station.cameras.video import check_settings
from blemish.station.service import InspectionService
from blemish.station.source_states import NO_IMAGE, SILENT_S
from blemish.station.sources import (
    POLL_S,
    RETRY_S,
    distinct_name,
    explain_loss,
    is_ready,
    submit_stream,
    wanted_settings,
)

log = logging.getLogger("blemish.station")


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
    while not is_ready(service):  # the frames of a file come only once
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
            problem = explain_loss(error)
            log.warning("%s", name, exc_info=not isinstance(error, BlemishError | ValueError))
        finally:
            camera.release()
        service.sources.lost(name, problem)
        log.warning("%s gives no image (%s); retrying in %.0f s", name, problem, RETRY_S)
        stop.wait(RETRY_S)


def camera_name(address: str, addresses: Sequence[str]) -> str:
    """Name of a video file, or by number or host, for the rest of an address may contain a password.

    Where several of `addresses` have the same name, that of a file is its path, and others are numbered.
    """
    return distinct_name(address, addresses, _short_name)


def _short_name(address: str) -> str:
    if Path(address).is_file():
        return Path(address).stem
    host = address if address.isdigit() else urlsplit(address).hostname or ""
    return f"camera-{host}" if host else "camera"


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
            service.sources.lost(name, explain_loss(error))
            log.warning("%s is retried: %s", part_id, error)
            stop.wait(RETRY_S)


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
