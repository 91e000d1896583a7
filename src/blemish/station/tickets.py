"""A part's way through the service."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from blemish.errors import BlemishError
from blemish.inspection.result import Inspection
from blemish.station.repository import Arrival
from blemish.station.schemas import InspectionOut


class QueueFullError(BlemishError):
    """As many parts as the station takes are waiting; come again."""


class NotAnsweredError(BlemishError):
    """There is no valid answer for a part, through no fault of its image. Never a pass."""


def new_future() -> "Future[InspectionOut]":
    future: Future[InspectionOut] = Future()
    future.set_running_or_notify_cancel()  # a client that goes away does not cancel what is under way
    return future


@dataclass(slots=True)
class Ticket:
    """A part that waits for its answer; the file is the service's own from now on."""

    arrival: Arrival
    file: Path
    record_failure: bool = False  # an unreadable image too is recorded, with the verdict to review
    quality: dict[str, float] | None = None  # of the picture; measured now and then
    taken: float = field(default_factory=time.monotonic)
    answer: "Future[InspectionOut]" = field(default_factory=new_future)


Outcome = tuple[Ticket, Inspection | BlemishError]  # ImageError where it is the image's fault
