"""A part in the queue of the service."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from blemish.errors import BlemishError
from blemish.inspection.result import Inspection
from blemish.station.repository import IncomingPart
from blemish.station.schemas import InspectionOut


class QueueFullError(BlemishError):
    """The queue holds as many parts as the station accepts; retry later."""


class NotAnsweredError(BlemishError):
    """There is no valid result for a part, for another reason than its image. Never a pass."""


class EngineFailedError(NotAnsweredError):
    """A step of the inspection failed, such as the network."""


class WithdrawnError(NotAnsweredError):
    """The sender took a part back before it was recorded, or nobody waits for the answer any more."""

    def __init__(self, reason: str = "the request was taken back; its part has no verdict and no record") -> None:
        super().__init__(reason)


def new_future() -> "Future[InspectionOut]":
    future: Future[InspectionOut] = Future()
    future.set_running_or_notify_cancel()  # a client that disconnects does not cancel a running inspection
    return future


@dataclass(slots=True)
class Ticket:
    """A part that waits for its answer; the service moves or deletes the file."""

    part: IncomingPart
    file: Path
    sender: str = ""  # user or source, whose share of the queue it takes
    record_failure: bool = False  # an unreadable image is recorded too, with the verdict review
    image_quality: dict[str, float] | None = None  # measured for one image in a while
    waiting: int = 1  # senders that wait for the answer
    stands: Callable[[], bool] = lambda: True  # whether the part may be recorded; asked at the last moment
    started: bool = False  # it is in work; before, it is dropped when nobody waits for it any more
    submitted: float = field(default_factory=time.monotonic)
    answer: "Future[InspectionOut]" = field(default_factory=new_future)


TicketResult = tuple[Ticket, Inspection | BlemishError]  # ImageError where it is the image's fault
