"""A GenICam camera, or that of a plug-in, as a source of its own: a part at each interval, or at each trigger."""

import logging
import threading
import time

from blemish.station.cameras.connect import open_camera
from blemish.station.recipe_views import ONE_VIEW
from blemish.station.service import InspectionService
from blemish.station.sources import submit_stream
from blemish.station.tickets import NotAnsweredError

log = logging.getLogger("blemish.station")
_RETRY_S = 1.0


def watch_device(service: InspectionService, address: str, stop: threading.Event) -> None:
    """Inspect a picture every `camera_interval_s`, with the settings that the active recipe keeps for one image.

    A recipe of several views takes its parts from the line's cameras, so nothing is taken then.
    """
    camera = open_camera(address, None, service.settings.data)
    name = f"camera {camera.name}"
    service.sources.lost(name)
    while not stop.is_set():
        begun = time.monotonic()
        try:
            views, settings = service.recipes.pictures(service.recipes.resolve(None))
            if views != [ONE_VIEW]:
                raise NotAnsweredError("the recipe takes several views, and this is one camera")
            if settings is not None and ONE_VIEW in settings:
                camera.use(settings[ONE_VIEW])
            stream = camera.take_file()
            service.sources.works(name, detail=camera.counts.message())
            part = f"{camera.name}-{time.time_ns() // 1_000_000}"
            submit_stream(service, stream, "camera", stop, part_id=part)
        except Exception as error:  # a lost camera, or no recipe yet; the next picture may come
            service.sources.lost(name, str(error))
            stop.wait(_RETRY_S)
        left = begun + service.settings.camera_interval_s - time.monotonic()
        stop.wait(max(left, 0.0))
    camera.close()
