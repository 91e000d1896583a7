"""A server that runs in an event loop and a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from blemish.errors import OptionError


class LoopThread:
    """Runs the coroutine that `run` makes, from `start` to `join`; it sets `started` as soon as it serves."""

    def __init__(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._failure: Exception | None = None
        self.loop, self.started = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self, timeout_s: float, failed: str) -> None:
        """Raises OptionError, beginning with `failed`, where the coroutine ends before it serves, or takes too long."""
        self._thread.start()
        if not self.started.wait(timeout_s) or self._failure is not None:
            raise OptionError(f"{failed}: {self._failure or 'it does not start'}")

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._run())
        except Exception as error:
            self._failure = error
            self.started.set()
