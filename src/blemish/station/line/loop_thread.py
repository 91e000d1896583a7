"""A server that runs in an event loop and a thread of its own."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from blemish.errors import OptionError

log = logging.getLogger("blemish.station")
RETRY_S = 1.0


class LoopThread:
    """Runs the coroutine that `run` makes, from `start` to `stop`, and again where it fails or ends by itself.

    It calls `serves` as soon as it serves.
    """

    def __init__(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._problem = "it does not start"
        self._first = threading.Event()  # it serves, or has failed
        self.stopping = threading.Event()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self, timeout_s: float, failed: str) -> None:
        """Raises OptionError, beginning with `failed`, where the coroutine ends before it serves, or takes too long."""
        self._thread.start()
        self._first.wait(timeout_s)
        if self._problem:
            self.stopping.set()
            raise OptionError(f"{failed}: {self._problem}")

    def serves(self) -> None:
        self._problem = ""
        self._first.set()

    @property
    def problem(self) -> str:
        """Why it does not serve at present; "" where it does."""
        return self._problem if self._thread.is_alive() else self._problem or "its server has ended"

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """End; the coroutine looks at `stopping`, or was asked to return before."""
        self.stopping.set()
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self.stopping.is_set():
            try:
                self.loop.run_until_complete(self._run())
                self._problem = "its server has ended"
            except Exception as error:
                self._problem = f"{error}" or type(error).__name__
                if self._first.is_set():
                    log.exception("a server of the line failed; retrying in %.0f s", RETRY_S)
            if not self._first.is_set():  # `start` says it
                self._first.set()
                return
            self.stopping.wait(RETRY_S)
