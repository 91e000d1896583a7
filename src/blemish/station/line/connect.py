"""A line of a station: its wire by an address, its camera, and the inspection of each requested part."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np

from blemish.errors import OptionError
from blemish.imaging.read import encode
from blemish.inspection.result import Verdict
from blemish.station.line.driver import LineDriver, TransitionLog, Transport
from blemish.station.line.machine import LineLimits, LineState
from blemish.station.line.modbus import ModbusLine
from blemish.station.line.tcp import TcpLine
from blemish.station.recipes import active_recipe
from blemish.station.schemas import remove_controls
from blemish.station.service import InspectionService
from blemish.station.tickets import NotAnsweredError

log = logging.getLogger("blemish.station")
TRANSPORTS: dict[str, Callable[[str, int], "OpenTransport"]] = {"modbus": ModbusLine, "tcp": TcpLine}
SOURCE = "line"


class OpenTransport(Transport, Protocol):
    def open(self) -> None: ...
    def close(self) -> None: ...


class TriggeredCamera:
    """A camera (a number or an address) or a video file, whose next frame is taken when it is asked for."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()  # a capture that is released while it is read never returns
        self._capture = cv2.VideoCapture(int(address) if address.isdigit() else address)
        self._is_file = Path(address).is_file()

    def take(self) -> BytesIO:
        """The next frame as a PNG file; raises NotAnsweredError where there is none. A video file begins again."""
        with self._lock:
            done, frame = self._capture.read()
            if not done and self._is_file:
                self._capture.release()
                self._capture = cv2.VideoCapture(self._address)
                done, frame = self._capture.read()
        if not done or frame is None:
            raise NotAnsweredError("the camera gives no image")
        rgb = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        return BytesIO(encode(np.asarray(rgb), ".png"))

    def close(self) -> None:
        with self._lock:
            self._capture.release()


def parse_address(text: str) -> tuple[str, str, int]:
    """Kind, host and port of `modbus://HOST:PORT` or `tcp://HOST:PORT`; raises OptionError."""
    try:
        parts = urlsplit(text)
        kind, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        kind, host, port = "", None, None
    if kind not in TRANSPORTS or not host or port is None:
        raise OptionError(f"no line '{text}'; give {' or '.join(f'{name}://HOST:PORT' for name in sorted(TRANSPORTS))}")
    return kind, host, port


@contextmanager
def open_line(
    service: InspectionService, address: str, camera: str, limits: LineLimits | None = None
) -> Iterator[Transport]:
    """Run a line as long as the block lasts; raises OptionError where its address cannot be used."""
    kind, host, port = parse_address(address)
    transport = TRANSPORTS[kind](host, port)
    source = TriggeredCamera(camera)
    stop, pool = threading.Event(), ThreadPoolExecutor(1, "blemish-line")
    journal = TransitionLog(service.settings.data / "line.jsonl")

    def inspect(part: LineState, key: str) -> "Future[Verdict]":
        return pool.submit(inspect_part, service, source, part, key)

    def available() -> bool:
        with service.database.reading() as session:
            ready = active_recipe(session) is not None
        return ready and not service.stalled()

    transport.open()
    driver = LineDriver(transport, inspect, available, journal.append, limits)
    thread = threading.Thread(target=driver.run, args=(stop,), name="blemish-line-cycle", daemon=True)
    thread.start()
    try:
        yield transport
    finally:
        stop.set()
        thread.join(10)
        transport.close()
        pool.shutdown(wait=False, cancel_futures=True)
        source.close()


def inspect_part(service: InspectionService, camera: TriggeredCamera, part: LineState, key: str) -> Verdict:
    """Take a picture of the part and return its verdict, which is recorded by then; any error means: no verdict."""
    stream = camera.take()
    service.reserve(SOURCE)
    answer = service.submit_image(
        stream,
        part.recipe or None,
        SOURCE,
        part_id=remove_controls(part.part_id)[:200] or f"{part.number}",
        key=key,
        record_failure=True,
        sender=SOURCE,
    ).result()
    return Verdict(answer.verdict)
