"""A GenICam camera, or that of a plug-in, as a source of its own: a part at each interval, or at each trigger."""

import logging
import threading
import time

from blemish.station.cameras.connect import camera_label, open_camera
from blemish.station.cameras.settings import CameraSettings
from blemish.station.service import InspectionService
from blemish.station.sources import distinct_name, submit_stream, wanted_settings

log = logging.getLogger("blemish.station")
_RETRY_S = 1.0


def watch_device(service: InspectionService, address: str, stop: threading.Event) -> None:
    """Inspect a picture every `camera_interval_s`, with the settings that the active recipe keeps for one image.

    A recipe of several views takes its parts from the line's cameras, so nothing is taken then.
    """
    label = distinct_name(address, service.settings.cameras, camera_label)
    camera = open_camera(address, None, service.settings.data, label)
    name = f"camera {camera.name}"
    service.sources.lost(name)
    while not stop.is_set():
        begun = time.monotonic()
        try:
            recipe_id, settings = wanted_settings(service)
            if settings != CameraSettings():
                camera.use(settings)
            stream = camera.take_file()
            service.sources.works(name, detail=camera.counts.message())
            part = f"{camera.name}-{time.time_ns() // 1_000_000}"
            submit_stream(service, stream, "camera", stop, part, recipe_id=recipe_id)
        except Exception as error:  # a lost camera, or no recipe yet; the next picture may come
            service.sources.lost(name, str(error))
            stop.wait(_RETRY_S)
        left = begun + service.settings.camera_interval_s - time.monotonic()
        stop.wait(max(left, 0.0))
    camera.close()
