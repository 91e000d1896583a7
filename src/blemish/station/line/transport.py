"""What a transport of the line is, what it is given, and how others are found: by entry points.

A transport is a class in the group `blemish.line_transports`, named by the scheme of its address:

    [project.entry-points."blemish.line_transports"]
    s7 = "blemish.station.line.s7:S7Line"

It is called with an address and a `LineContext`. See `blemish.station.line.s7` for an example.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from blemish.errors import OptionError
from blemish.station.line.driver import STALLED_S, LineOutputs, Transport
from blemish.station.line.machine import LineError, Phase
from blemish.station.schemas import InspectionOut
from blemish.station.sign_in import WrongSignInError

GROUP = "blemish.line_transports"


@dataclass(frozen=True, slots=True)
class LineAddress:
    """`kind://host:port/path?name=value`."""

    kind: str
    host: str
    port: int
    path: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LineRecipe:
    """A recipe that was activated once."""

    id: int
    name: str
    version: int
    active: bool


PresentRole = Callable[[], str | None]  # of one who has signed in; None: no longer


class SignIn(Protocol):
    """By name, and password or token; `address` is where the attempt comes from. Not on an event loop.

    Raises WrongSignInError, and TooManyFailuresError after failures of this name from this address.
    """

    def __call__(self, name: str, password: str, address: str = "") -> PresentRole: ...


def _refuse(name: str, password: str, address: str = "") -> PresentRole:
    raise WrongSignInError("there are no users")


@dataclass(frozen=True, slots=True)
class LineContext:
    """What a station gives its transport."""

    folder: Path  # for keys and certificates
    recipes: Callable[[], list[LineRecipe]] = list
    sign_in: SignIn = _refuse
    nodeset: Path | None = None  # of OPC 40100-1


class OpenTransport(Transport, Protocol):
    """A transport that is opened before its first use. Neither `read` nor `write` may wait for the wire."""

    def open(self) -> None:
        """Raises OptionError where the address cannot be used, MissingExtraError without the library."""
        ...

    def close(self) -> None: ...

    def publish(self, number: int, result: InspectionOut) -> None:
        """A recorded result; `write` shows soon whether it is that of the present request."""
        ...

    def problem(self) -> str:
        """Why no PLC can be served at present, "" where it can; asked once a second, by any thread."""
        ...


class OutputLatch:
    """The newest outputs. Where the station's cycle stands still, an error without a verdict."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outputs, self._written = LineOutputs(), 0.0

    def write(self, outputs: LineOutputs) -> None:
        with self._lock:
            self._outputs, self._written = outputs, time.monotonic()

    def present(self) -> LineOutputs:
        with self._lock:
            own, age = self._outputs, time.monotonic() - self._written
        if age > STALLED_S:
            return LineOutputs(Phase.ERROR, 0, 0, LineError.STALLED, own.heartbeat)
        return own


TransportFactory = Callable[[LineAddress, LineContext], OpenTransport]


def parse_address(text: str, kinds: list[str]) -> LineAddress:
    """Raises OptionError for another kind than `kinds`, and where host or port are missing."""
    try:
        parts = urlsplit(text)
        kind, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        kind, host, port, parts = "", None, None, urlsplit("")
    if kind not in kinds or not host or port is None:
        raise OptionError(f"no line '{text}'; give {' or '.join(f'{name}://HOST:PORT' for name in kinds)}")
    path = tuple(step for step in parts.path.split("/") if step)
    return LineAddress(kind, host, port, path, dict(parse_qsl(parts.query)))


def plugin_kinds() -> list[str]:
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_plugin(kind: str) -> TransportFactory:
    """Raises OptionError for a plug-in that cannot be loaded."""
    (point, *_) = entry_points(group=GROUP, name=kind)
    try:
        factory: TransportFactory = point.load()
    except Exception as error:
        raise OptionError(f"the line's plug-in '{kind}' ({point.value}) cannot be loaded: {error}") from error
    return factory
