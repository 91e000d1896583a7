"""The states of sources, as their threads report them."""

import threading
import time
from dataclasses import dataclass
from typing import Literal

from blemish.translation import Message

SILENT_S = 2.0  # a camera that gives no image for so long is lost
State = Literal["ok", "warning", "lost"]


@dataclass(frozen=True, slots=True)
class ComponentState:
    kind: str  # "source", "sink", "engine", "certificate", "station", "database" or "disk"
    name: str
    state: State
    detail: Message


class SourceStates:
    """Thread-safe. A source is lost until it first reports that it works."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, float | None]] = {}  # problem, and when it must report again at the latest
        self._details: dict[str, Message] = {}

    def works(self, name: str, silent_s: float | None = None, detail: Message | None = None) -> None:
        """The source works; with `silent_s` it is lost where it does not report again in time."""
        with self._lock:
            self._known[name] = ("", None if silent_s is None else time.monotonic() + silent_s)
            self._details[name] = detail or Message("works")

    def lost(self, name: str, problem: str = "no image") -> None:
        with self._lock:
            self._known[name] = (problem, None)

    def states(self) -> list[ComponentState]:
        with self._lock:
            known, details = sorted(self._known.items()), dict(self._details)
        now = time.monotonic()
        found = []
        for name, (problem, due) in known:
            problem = "no image" if due is not None and now > due else problem
            detail = Message(problem) if problem else details[name]
            found.append(ComponentState("source", name, "lost" if problem else "ok", detail))
        return found
