"""The cameras of a line: pictures of a part's views, with the settings that the recipe keeps, and their state."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from blemish.errors import OptionError
from blemish.imaging.read import encode
from blemish.imaging.view_sheet import compose_sheet
from blemish.station.cameras.camera import Camera, CameraCounts
from blemish.station.cameras.connect import open_camera
from blemish.station.cameras.settings import CameraSettings
from blemish.station.recipe_views import ONE_VIEW
from blemish.station.source_states import SourceStates
from blemish.station.tickets import NotAnsweredError

log = logging.getLogger("blemish.station")
CHECK_S = 1.0


def split_name(text: str) -> tuple[str, str]:
    """Name and address of `NAME=ADDRESS`; an address alone has no name."""
    name, separator, address = text.partition("=")
    named = bool(separator) and name.replace("-", "_").isidentifier()
    return (name, address) if named else (ONE_VIEW, text)


class LineCameras:
    """One camera without a name, or one for each view."""

    def __init__(self, texts: Sequence[str], folder: Path, states: SourceStates) -> None:
        named = [split_name(text) for text in texts]
        names = [name for name, _ in named]
        if len(set(names)) != len(names) or (ONE_VIEW in names and len(names) > 1):
            raise OptionError("give several cameras of a line as NAME=ADDRESS, each with another name of a view")
        self._states = states
        self._cameras: dict[str, Camera] = {
            name: open_camera(address, None, folder, name or None) for name, address in named
        }
        self._pool = ThreadPoolExecutor(len(self._cameras), "blemish-view")
        self._problems: dict[str, str] = dict.fromkeys(self._cameras, "not opened yet")

    @property
    def works(self) -> bool:
        """Whether all cameras gave a picture, or answered, when they were last asked."""
        return not any(self._problems.values())

    @property
    def names(self) -> list[str]:
        return list(self._cameras)

    def live(self, name: str) -> NDArray[Any]:
        """A picture for setting a camera up, with the settings that it has; raises NotAnsweredError."""
        return self._take(name, None)

    def counts(self) -> dict[str, CameraCounts]:
        return {camera.name: camera.counts for camera in self._cameras.values()}

    def take(self, views: Sequence[str], settings: Mapping[str, CameraSettings] | None) -> BytesIO:
        """The file of a part: its image, or a sheet of its views without those that gave none.

        Raises NotAnsweredError where there is no image at all, or no camera of a view.
        """
        lacking = [name for name in views if name not in self._cameras]
        if lacking:
            raise NotAnsweredError(f"the line has no camera for the view '{lacking[0]}' of the recipe")
        jobs = {name: self._pool.submit(self._take, name, (settings or {}).get(name)) for name in views}
        images: dict[str, NDArray[Any] | None] = {}
        problem: NotAnsweredError | None = None
        for name, job in jobs.items():
            try:
                images[name] = job.result()
            except NotAnsweredError as error:
                images[name], problem = None, error
        if problem is not None and not any(image is not None for image in images.values()):
            raise problem
        image = images.get(ONE_VIEW)
        if image is not None:
            return BytesIO(encode(image, ".png"))
        return BytesIO(compose_sheet(images))

    def _take(self, name: str, settings: CameraSettings | None) -> NDArray[Any]:
        camera = self._cameras[name]
        try:
            if settings is not None:
                camera.use(settings)
            image = camera.take()
        except NotAnsweredError as error:
            self._tell(name, str(error))
            raise
        self._tell(name, "")
        return image

    def _tell(self, name: str, problem: str) -> None:
        camera = self._cameras[name]
        self._problems[name] = problem
        if problem:
            self._states.lost(f"camera {camera.name}", problem)
            return
        self._states.works(f"camera {camera.name}", detail=camera.counts.message())

    def watch(self, settings: Callable[[], Mapping[str, CameraSettings] | None], stop: threading.Event) -> None:
        """Open cameras that are not, with the settings of the active recipe, until `stop` is set."""
        while not stop.is_set():
            for name, camera in self._cameras.items():
                if not self._problems[name]:
                    continue
                try:
                    wanted = settings() or {}
                    if name in wanted:
                        camera.use(wanted[name])
                    camera.open()
                    self._tell(name, "")
                except Exception as error:  # a lost camera is no reason to end
                    self._tell(name, str(error))
            stop.wait(CHECK_S)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for camera in self._cameras.values():
            camera.close()
