"""HTTP connections whose headers must arrive in time; a body has a time limit of its own in the middleware."""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_S = 10.0
_Protocol: Any = AutoHTTPProtocol


class TimedHttpProtocol(_Protocol):  # type: ignore[misc]
    """Closes connections that have begun no request after `HEADER_S`, so that idle strangers hold no connection."""

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._header_timer = asyncio.get_running_loop().call_later(HEADER_S, self._close_if_idle)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # the headers are complete
            self._stop_timer()
        elif self._header_timer is None and self._is_idle():
            self._header_timer = asyncio.get_running_loop().call_later(HEADER_S, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        self._header_timer = None
        if self._is_idle() and self.transport.get_protocol() is self and not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
