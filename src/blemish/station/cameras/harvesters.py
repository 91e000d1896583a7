"""GenICam cameras by Harvesters: any vendor's GenTL producer, which is a .cti file.

    harvesters:FILE.cti     the only camera; with ?serial=NUMBER one of several

Tested by contract with a stand-in, because no free producer was to be had; see tests/station/cameras.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from blemish.errors import MissingExtraError, OptionError
from blemish.imaging.pixel_formats import decode_pixels
from blemish.station.cameras.camera import CameraLostError, CameraTimeoutError, FrameLostError
from blemish.station.cameras.settings import CameraSettings

BUFFERS = 4
DRAIN_S = 0.005  # 0 would mean to wait for ever


class HarvestersDriver:
    """An opened camera, through GenICam's Standard Features Naming Convention (SFNC)."""

    def __init__(self, producer: str, options: Mapping[str, str], harvester: Any = None) -> None:
        if set(options) - {"serial"}:
            raise OptionError("the only option of a Harvesters camera is serial=NUMBER")
        self._harvester = harvester or _make_harvester()
        self._harvester.add_file(str(Path(producer)))
        self._harvester.update()
        wanted = {"serial_number": options["serial"]} if "serial" in options else None
        try:
            self._acquirer = self._harvester.create(wanted)
        except Exception as error:
            self._harvester.reset()
            raise CameraLostError(f"no camera {options.get('serial', 'at all')} of {producer}: {error}") from error
        self._nodes = self._acquirer.remote_device.node_map
        self._trigger = "free"

    def apply(self, settings: CameraSettings) -> None:
        self._stop()
        nodes = self._nodes
        if settings.pixel_format is not None:
            nodes.PixelFormat.value = settings.pixel_format
        if settings.roi is not None:
            x, y, width, height = settings.roi
            nodes.OffsetX.value = nodes.OffsetY.value = 0  # so that any size is allowed
            nodes.Width.value, nodes.Height.value = width, height
            nodes.OffsetX.value, nodes.OffsetY.value = x, y
        if settings.exposure_us is not None:
            _switch_off(nodes, "ExposureAuto")
            nodes.ExposureTime.value = settings.exposure_us
        if settings.gain_db is not None:
            _switch_off(nodes, "GainAuto")
            nodes.Gain.value = settings.gain_db
        self._trigger = settings.trigger or "software"
        nodes.TriggerSelector.value = "FrameStart"
        nodes.TriggerMode.value = "Off" if self._trigger == "free" else "On"
        if self._trigger != "free":
            software = self._trigger == "software"
            nodes.TriggerSource.value = "Software" if software else settings.trigger_source or "Line0"
        self._acquirer.num_buffers = BUFFERS
        self._acquirer.start()

    def settings(self) -> CameraSettings:
        nodes = self._nodes
        return CameraSettings(
            exposure_us=_value(nodes, "ExposureTime"),
            gain_db=_value(nodes, "Gain"),
            roi=(nodes.OffsetX.value, nodes.OffsetY.value, nodes.Width.value, nodes.Height.value),
            pixel_format=nodes.PixelFormat.value,
            trigger=self._trigger,  # type: ignore[arg-type]
            trigger_source=nodes.TriggerSource.value if self._trigger == "hardware" else None,
        )

    def take(self, timeout_s: float) -> NDArray[Any]:
        if self._trigger != "hardware":
            while (old := self._acquirer.try_fetch(timeout=DRAIN_S)) is not None:  # exposed before the part was there
                old.queue()
        if self._trigger == "software":
            self._nodes.TriggerSoftware.execute()
        buffer = self._fetch(timeout_s)
        if self._trigger == "free":  # one that was begun before the call may be the first to come
            buffer.queue()
            buffer = self._fetch(timeout_s)
        try:
            if not buffer.payload.components:
                raise FrameLostError("the frame has no image")
            component = buffer.payload.components[0]
            data = component.data.tobytes()
            return decode_pixels(data, component.data_format, component.height, component.width)
        finally:
            buffer.queue()

    def close(self) -> None:
        self._stop()
        with suppress(Exception):
            self._acquirer.destroy()
        self._harvester.reset()

    def _fetch(self, timeout_s: float) -> Any:
        begun = time.monotonic()
        buffer = self._acquirer.try_fetch(timeout=timeout_s)
        if buffer is not None:
            return buffer
        if time.monotonic() - begun < 0.9 * timeout_s:  # Harvesters gives up at once on a frame that is not whole
            raise FrameLostError("the frame is not whole")
        raise CameraTimeoutError(f"no frame within {timeout_s:g} s")

    def _stop(self) -> None:
        with suppress(Exception):
            self._acquirer.stop()


def _make_harvester() -> Any:
    try:
        from harvesters.core import Harvester
    except ImportError as error:
        raise MissingExtraError("harvesters is not installed; pip install 'blemish[harvesters]'") from error
    return Harvester()


def _switch_off(nodes: Any, name: str) -> None:
    """Not all cameras have an automatic."""
    with suppress(Exception):
        getattr(nodes, name).value = "Off"


def _value(nodes: Any, name: str) -> float | None:
    node = getattr(nodes, name, None)
    return None if node is None else float(node.value)
