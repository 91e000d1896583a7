"""A camera of the station: a picture when it is asked for, faults counted and recorded, a lost device opened again."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.imaging.read import encode
from blemish.station.cameras.settings import CameraSettings, settings_differences
from blemish.station.tickets import NotAnsweredError
from blemish.translation import Message

log = logging.getLogger("blemish.station")
TIMEOUT_S = 2.0
REOPEN_S = 1.0  # at least between two attempts to open a lost device


class CameraTimeoutError(Exception):
    """No frame came in time."""


class FrameLostError(Exception):
    """A frame came, and packets of it are missing."""


class CameraLostError(Exception):
    """The device is gone, or was never there."""


class CameraDriver(Protocol):
    """An opened device; see `blemish.station.cameras.aravis` for an example.

    Any error other than CameraTimeoutError, FrameLostError and ImageError means that the device must be opened again.
    """

    def apply(self, settings: CameraSettings) -> None:
        """Set all that is given; a camera may round. Raises where it refuses."""
        ...

    def settings(self) -> CameraSettings:
        """As the camera has them now."""
        ...

    def take(self, timeout_s: float) -> NDArray[Any]:
        """A picture that was exposed after the call, (H, W, C) uint8 or uint16, RGB or grey.

        With the trigger `hardware`: the next one that comes. Raises CameraTimeoutError, FrameLostError, ImageError.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class CameraCounts:
    """Since the station started."""

    frames: int = 0
    lost: int = 0  # frames with missing packets
    timeouts: int = 0
    reconnects: int = 0
    refused: int = 0  # settings that the device did not take

    def message(self) -> Message:
        """For the list of sources."""
        values = {"frames": self.frames, "lost": self.lost, "late": self.timeouts, "again": self.reconnects}
        return Message("{frames} images, {lost} lost, {late} too late, opened again {again} times", values)


class CameraLog:
    """Each fault as a line of JSON."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()

    def append(self, name: str, event: str, detail: str = "") -> None:
        """An error while writing is logged: a camera's fault already keeps the part from passing."""
        entry = {"time": datetime.now(UTC).isoformat(), "camera": name, "event": event, "detail": detail[:300]}
        try:
            with self._lock, self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
        except OSError:
            log.exception("a fault of camera %s could not be recorded", name)


class Camera:
    """Thread-safe: one picture at a time. A picture is never an old one, and never part of one."""

    def __init__(
        self,
        name: str,
        open_driver: Callable[[], CameraDriver],
        settings: CameraSettings | None = None,
        timeout_s: float = TIMEOUT_S,
        record: Callable[[str, str, str], None] = lambda name, event, detail: None,
    ) -> None:
        self.name = name
        self._open_driver = open_driver
        self._settings = settings or CameraSettings()
        self._timeout_s = timeout_s
        self._record = record
        self._lock = threading.Lock()
        self._driver: CameraDriver | None = None
        self._was_open, self._retry_at = False, 0.0
        self._failure = "the device is lost; the next attempt follows soon"
        self.counts = CameraCounts()

    def open(self) -> list[str]:
        """Open the device and set it; the settings that differ from those of the recipe.

        Raises CameraLostError where there is no device.
        """
        with self._lock:
            driver = self._opened()
            return settings_differences(self._settings, driver.settings())

    def use(self, settings: CameraSettings) -> None:
        """Other settings, from the next picture on; a device that is open takes them at once, or is opened again."""
        with self._lock:
            if settings == self._settings:
                return
            self._settings = settings
            if self._driver is None:
                self._retry_at = 0.0  # what another recipe wanted was refused, and this one's may be taken
                return
            try:
                self._driver.apply(settings)
                same = not settings_differences(settings, self._driver.settings())
            except Exception as error:
                self._record(self.name, "settings refused", str(error))
                same = False
            if not same:
                self._lose()

    def settings(self) -> CameraSettings:
        """As the device has them; raises CameraLostError."""
        with self._lock:
            return self._opened().settings()

    def take(self) -> NDArray[Any]:
        """A picture; raises NotAnsweredError where there is none, for whatever reason."""
        with self._lock:
            try:
                image = self._opened().take(self._timeout_s)
            except CameraTimeoutError as error:
                self._count("timeouts", "timeout", error)
                raise NotAnsweredError(f"camera {self.name} gives no image within {self._timeout_s:g} s") from error
            except (FrameLostError, ImageError) as error:
                self._count("lost", "frame lost", error)
                raise NotAnsweredError(f"camera {self.name} lost parts of the image: {error}") from error
            except Exception as error:
                self._lose()
                self._record(self.name, "lost", str(error))
                raise NotAnsweredError(f"camera {self.name} is lost: {error}") from error
            self.counts = replace(self.counts, frames=self.counts.frames + 1)
            return image

    def take_file(self) -> BytesIO:
        """The picture as a PNG file."""
        return BytesIO(encode(self.take(), ".png"))

    def close(self) -> None:
        with self._lock:
            self._lose()

    def _opened(self) -> CameraDriver:
        if self._driver is not None:
            return self._driver
        if time.monotonic() < self._retry_at:
            raise CameraLostError(self._failure)
        self._retry_at = time.monotonic() + REOPEN_S
        try:
            driver = self._open_driver()
        except Exception as error:
            self._failure = f"{error}"
            raise CameraLostError(self._failure) from error
        try:
            driver.apply(self._settings)
            refused = settings_differences(self._settings, driver.settings())
        except Exception as error:
            driver.close()
            self._count("refused", "settings refused", error)
            self._failure = f"the device refuses its settings: {error}"
            raise CameraLostError(self._failure) from error
        if refused:  # another exposure is another inspection, so there is none
            driver.close()
            self._count("refused", "settings differ", "; ".join(refused))
            self._failure = f"the device does not take its settings: {'; '.join(refused)}"
            raise CameraLostError(self._failure)
        if self._was_open:
            self._count("reconnects", "opened again", "")
        self._driver, self._was_open = driver, True
        return driver

    def _lose(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            try:
                driver.close()
            except Exception:
                log.exception("camera %s could not be closed", self.name)

    def _count(self, counter: str, event: str, detail: object) -> None:
        changed: dict[str, int] = {counter: getattr(self.counts, counter) + 1}
        self.counts = replace(self.counts, **changed)
        self._record(self.name, event, str(detail))
