"""GenICam cameras by Aravis: GigE Vision and USB3 Vision (Debian's gir1.2-aravis-0.8, and PyGObject).

    aravis:NAME     such as aravis:Basler-21876543, aravis:192.168.1.20, or aravis: for the only camera

Options: `packet_size` of GigE Vision in bytes (else negotiated), and `socket=udp`, which takes frames from a UDP socket
where a raw one is not allowed or, as on a loopback interface, gets none.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from blemish.errors import MissingExtraError, OptionError
from blemish.imaging.pixel_formats import decode_pixels
from blemish.station.cameras.camera import CameraLostError, CameraTimeoutError, FrameLostError
from blemish.station.cameras.settings import CameraSettings

BUFFERS = 4
SOCKET_BYTES = 16 * 2**20
OPTIONS = ("packet_size", "socket")


def load_aravis() -> Any:
    """Aravis' namespace; raises MissingExtraError where it or PyGObject is missing."""
    try:
        import gi

        gi.require_version("Aravis", "0.8")
        from gi.repository import Aravis
    except (ImportError, ValueError) as error:
        raise MissingExtraError(
            f"Aravis cannot be used ({error}); apt install gir1.2-aravis-0.8, and pip install 'blemish[aravis]'"
        ) from error
    return Aravis


def list_cameras() -> list[str]:
    """Names of the cameras in reach."""
    aravis = load_aravis()
    aravis.update_device_list()
    return [aravis.get_device_id(index) for index in range(aravis.get_n_devices())]


class AravisDriver:
    """An opened camera, which acquires all the time and is triggered, or runs freely."""

    def __init__(self, name: str, options: Mapping[str, str]) -> None:
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise OptionError(f"unknown option '{unknown[0]}' of an Aravis camera; known: {', '.join(OPTIONS)}")
        self._aravis = load_aravis()
        try:
            self._camera = self._aravis.Camera.new(name or None)
        except Exception as error:
            raise CameraLostError(f"no camera {name or 'at all'}: {_message(error)}") from error
        if self._camera is None:
            raise CameraLostError(f"no camera {name or 'at all'}")
        self._stream: Any = None
        self._options = options
        self._trigger = "free"

    def apply(self, settings: CameraSettings) -> None:
        self._stop()
        camera = self._camera
        if settings.pixel_format is not None:
            camera.set_pixel_format_from_string(settings.pixel_format)
        if settings.roi is not None:
            camera.set_region(*settings.roi)
        if settings.exposure_us is not None:
            with suppress(Exception):  # not all cameras have it
                camera.set_exposure_time_auto(self._aravis.Auto.OFF)
            camera.set_exposure_time(settings.exposure_us)
        if settings.gain_db is not None:
            with suppress(Exception):
                camera.set_gain_auto(self._aravis.Auto.OFF)
            camera.set_gain(settings.gain_db)
        self._trigger = settings.trigger or "software"
        if self._trigger == "free":
            camera.clear_triggers()
        else:
            camera.set_trigger("Software" if self._trigger == "software" else settings.trigger_source or "Line0")
        self._start()

    def settings(self) -> CameraSettings:
        camera = self._camera
        region = camera.get_region()
        return CameraSettings(
            exposure_us=camera.get_exposure_time() if camera.is_exposure_time_available() else None,
            gain_db=camera.get_gain() if camera.is_gain_available() else None,
            roi=(region.x, region.y, region.width, region.height),
            pixel_format=camera.get_pixel_format_as_string(),
            trigger=self._trigger,  # type: ignore[arg-type]
            trigger_source=camera.get_trigger_source() if self._trigger == "hardware" else None,
        )

    def take(self, timeout_s: float) -> NDArray[Any]:
        if self._stream is None:
            self._start()
        if self._trigger != "hardware":
            while (old := self._stream.try_pop_buffer()) is not None:  # exposed before the part was there
                self._stream.push_buffer(old)
        if self._trigger == "software":
            self._camera.software_trigger()
        buffer = self._pop(timeout_s)
        if self._trigger == "free":  # one that was begun before the call may be the first to come
            self._stream.push_buffer(buffer)
            buffer = self._pop(timeout_s)
        try:
            status = buffer.get_status()
            if status != self._aravis.BufferStatus.SUCCESS:
                raise FrameLostError(f"the frame is not whole ({status.value_nick})")
            height, width = buffer.get_image_height(), buffer.get_image_width()
            return decode_pixels(bytes(buffer.get_data()), self._pixel_format, height, width)
        finally:
            self._stream.push_buffer(buffer)

    def close(self) -> None:
        with suppress(Exception):
            self._stop()
        self._camera = None

    def _pop(self, timeout_s: float) -> Any:
        buffer = self._stream.timeout_pop_buffer(round(timeout_s * 1e6))
        if buffer is None:
            if self._trigger == "hardware":
                self._camera.get_exposure_time()  # raises where the device is gone, and not only its trigger
            raise CameraTimeoutError(f"no frame within {timeout_s:g} s")
        return buffer

    def _start(self) -> None:
        aravis, camera = self._aravis, self._camera
        if camera.is_gv_device():
            if "packet_size" in self._options:
                camera.gv_set_packet_size(int(self._options["packet_size"]))
            else:
                with suppress(Exception):
                    camera.gv_auto_packet_size()
            if self._options.get("socket") == "udp":
                camera.gv_set_stream_options(aravis.GvStreamOption.PACKET_SOCKET_DISABLED)
        self._stream = camera.create_stream(None, None)
        if camera.is_gv_device():
            self._stream.set_property("socket-buffer", aravis.GvStreamSocketBuffer.FIXED)
            self._stream.set_property("socket-buffer-size", SOCKET_BYTES)
        self._pixel_format = camera.get_pixel_format_as_string()
        payload = camera.get_payload()
        for _ in range(BUFFERS):
            self._stream.push_buffer(aravis.Buffer.new_allocate(payload))
        camera.set_acquisition_mode(aravis.AcquisitionMode.CONTINUOUS)
        camera.start_acquisition()

    def _stop(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            with suppress(Exception):
                self._camera.stop_acquisition()
            del stream


def _message(error: Exception) -> str:
    return str(getattr(error, "message", error))
