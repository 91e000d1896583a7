"""OpenCV's devices by number or address, and video files, whose next frame is taken when it is asked for."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.station.cameras.camera import CameraLostError
from blemish.station.cameras.settings import CameraSettings


def check_settings(settings: CameraSettings) -> None:
    """Raise ValueError for any: nothing can be set, and what is not read back is not known to be set."""
    given = settings.model_dump(exclude_none=True)
    if given:
        raise ValueError(f"{', '.join(given)} of the recipe's camera settings cannot be set without GenICam")


class VideoDriver:
    """A file begins again at its end. Without GenICam nothing can be set, and nothing is known to be set."""

    def __init__(self, address: str) -> None:
        self._address, self._is_file = address, Path(address).is_file()
        self._capture = self._open()

    def apply(self, settings: CameraSettings) -> None:
        check_settings(settings)

    def settings(self) -> CameraSettings:
        return CameraSettings(trigger=None)

    def take(self, timeout_s: float) -> NDArray[Any]:
        done, frame = self._capture.read()
        if not done and self._is_file:
            self._capture.release()
            self._capture = self._open()
            done, frame = self._capture.read()
        if not done or frame is None:
            raise CameraLostError("it gives no image")
        return np.asarray(frame[..., None] if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))

    def close(self) -> None:
        self._capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(int(self._address) if self._address.isdigit() else self._address)
        if not capture.isOpened():
            capture.release()
            raise CameraLostError("it cannot be opened")
        return capture
