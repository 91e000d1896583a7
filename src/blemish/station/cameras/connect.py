"""Cameras by their addresses: `aravis:NAME`, `harvesters:FILE.cti`, a number, an address, a video file, or a plug-in's.

A vendor's plug-in is a function in the entry point group `blemish.cameras`, named by the scheme of its addresses, that
takes what stands after the colon and the options after `?`, and returns an opened `CameraDriver`.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from blemish.errors import OptionError
from blemish.station.cameras.aravis import AravisDriver
from blemish.station.cameras.camera import Camera, CameraDriver, CameraLog
from blemish.station.cameras.harvesters import HarvestersDriver
from blemish.station.cameras.settings import CameraSettings
from blemish.station.cameras.video import VideoDriver
from blemish.station.video_source import check_camera

GROUP = "blemish.cameras"
DriverMaker = Callable[[str, Mapping[str, str]], CameraDriver]
_OWN: dict[str, DriverMaker] = {"aravis": AravisDriver, "harvesters": HarvestersDriver}


def driver_maker(address: str) -> Callable[[], CameraDriver]:
    """What opens the device of an address; raises OptionError for one that can be none."""
    kind, separator, rest = address.partition(":")
    plugins = {point.name: point for point in entry_points(group=GROUP)}
    if not separator or (kind not in _OWN and kind not in plugins):
        check_camera(address)
        return lambda: VideoDriver(address)
    name, _, query = rest.partition("?")
    options = dict(parse_qsl(query))
    if kind == "harvesters" and not Path(name).is_file():
        raise OptionError(f"no GenTL producer {name}; give harvesters:FILE.cti")
    try:
        make: DriverMaker = _OWN[kind] if kind in _OWN else plugins[kind].load()
    except Exception as error:
        raise OptionError(f"the camera plug-in '{kind}' ({plugins[kind].value}) cannot be loaded: {error}") from error
    return lambda: make(name, options)


def is_device(address: str) -> bool:
    """Whether it is a camera of this package or of a plug-in, and not OpenCV's."""
    kind, separator, _ = address.partition(":")
    return bool(separator) and (kind in _OWN or any(point.name == kind for point in entry_points(group=GROUP)))


def open_camera(address: str, settings: CameraSettings | None, folder: Path, name: str | None = None) -> Camera:
    """A camera that opens its device when it is first used; faults go to `camera.jsonl` in `folder`."""
    record = CameraLog(folder / "camera.jsonl").append
    return Camera(name or camera_label(address), driver_maker(address), settings, record=record)


def camera_label(address: str) -> str:
    """A name for logs and pages, without the user and password of an address."""
    if Path(address).is_file():
        return Path(address).name
    parts = urlsplit(address)
    return parts.hostname or address.partition("?")[0]
