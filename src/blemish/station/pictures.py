"""Pictures for viewers: two threads render them all, and small ones are kept, so that viewers cost the line little."""

import asyncio
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from blemish.errors import BlemishError

THREADS = 2
MAX_WAITING = 100
CACHE_BYTES, MAX_CACHED_BYTES = 64 * 2**20, 4 * 2**20  # of all cached pictures, and of one
NICE = 10  # priority below that of the line's inspections


class PicturesBusyError(BlemishError):
    """More pictures wait to be rendered than viewers would wait for."""


@dataclass(frozen=True, slots=True)
class RenderedPicture:
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Pictures:
    """Renders pictures by key; those that many ask for at once are rendered once."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "blemish-picture", initializer=_lower_priority)
        self._lock = threading.Lock()
        self._rendering: dict[str, Future[RenderedPicture]] = {}
        self._cache: OrderedDict[str, RenderedPicture] = OrderedDict()
        self._bytes = 0

    async def get(self, key: str, render: Callable[[], RenderedPicture]) -> RenderedPicture:
        """The picture with a key, which names its content; raises the errors of `render`, and PicturesBusyError."""
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
            future = self._rendering.get(key)
            if future is None:
                if len(self._rendering) >= MAX_WAITING:
                    raise PicturesBusyError(f"{MAX_WAITING} pictures wait to be rendered; retry later")
                future = self._rendering[key] = self._pool.submit(self._render, key, render)
        return await asyncio.shield(asyncio.wrap_future(future))

    def _render(self, key: str, render: Callable[[], RenderedPicture]) -> RenderedPicture:
        try:
            picture = render()
        except BaseException:
            with self._lock:
                self._rendering.pop(key, None)
            raise
        with self._lock:
            self._rendering.pop(key, None)
            if len(picture.content) <= MAX_CACHED_BYTES:
                self._cache[key] = picture
                self._bytes += len(picture.content)
            while self._bytes > CACHE_BYTES:
                self._bytes -= len(self._cache.popitem(last=False)[1].content)
        return picture

    def stop(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _lower_priority() -> None:
    if sys.platform == "linux":  # where each thread has a priority of its own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
