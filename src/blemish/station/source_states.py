"""The states of sources, as their threads report them."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from blemish.translation import Message

SILENT_S = 2.0  # a camera that gives no image for so long is lost
NO_IMAGE = "no image"
State = Literal["ok", "warning", "lost"]


@dataclass(frozen=True, slots=True)
class ComponentState:
    kind: str  # "source", "line", "sink", "engine", "certificate", "station", "database" or "disk"
    name: str
    state: State
    detail: Message


class SourceStates:
    """Thread-safe. A source is lost until it first reports that it works."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, float | None]] = {}  # problem, and when it must report again at the latest
        self._details: dict[str, Message] = {}
        self._lines: dict[str, Callable[[], str]] = {}

    def works(self, name: str, silent_s: float | None = None, detail: Message | None = None) -> None:
        """The source works; with `silent_s` it is lost where it does not report again in time."""
        with self._lock:
            self._known[name] = ("", None if silent_s is None else time.monotonic() + silent_s)
            self._details[name] = detail or Message("works")

    def lost(self, name: str, problem: str = NO_IMAGE) -> None:
        with self._lock:
            self._known[name] = (problem, None)

    def add_line(self, name: str, problem: Callable[[], str]) -> None:
        """A line that is asked for its problem, "" for none, each time, so that it need not live to report."""
        with self._lock:
            self._lines[name] = problem

    def remove_line(self, name: str) -> None:
        with self._lock:
            self._lines.pop(name, None)

    def states(self, kind: str | None = None) -> list[ComponentState]:
        """States of sources and lines, or of one kind of them."""
        found = [*self._source_states(), *self._line_states()]
        return [state for state in found if kind in (None, state.kind)]

    def _line_states(self) -> list[ComponentState]:
        with self._lock:
            lines = sorted(self._lines.items())
        problems = [(name, problem()) for name, problem in lines]
        return [ComponentState("line", name, "lost" if p else "ok", Message(p or "works")) for name, p in problems]

    def _source_states(self) -> list[ComponentState]:
        with self._lock:
            known, details = sorted(self._known.items()), dict(self._details)
        now = time.monotonic()
        found = []
        for name, (problem, due) in known:
            problem = NO_IMAGE if due is not None and now > due else problem
            detail = Message(problem) if problem else details[name]
            found.append(ComponentState("source", name, "lost" if problem else "ok", detail))
        return found
