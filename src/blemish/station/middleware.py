"""Checks of every request before the routes: origin, host, size and duration; and security headers in the response."""

import asyncio
import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blemish.errors import BlemishError
from blemish.station.routes.access import USER, authenticate_early
from blemish.station.settings import MIB, is_loopback
from blemish.station.station import Station

_FORM_OVERHEAD = 64 * 1024
MAX_JSON_BYTES = MIB  # of every body that is neither an image nor a bundle
SIGN_IN = "/v1/session"
Problem = tuple[int, str] | tuple[int, str, Mapping[str, str]]
_PAGE_UPLOAD = re.compile(r"/_nicegui/client/[^/]+/upload/\d+")
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
# Scripts: NiceGUI compiles its templates in the browser. Nothing is loaded from elsewhere.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class RequestGuard:
    """ASGI middleware: refuses foreign hosts and origins, finds the user before a body is read, limits bodies, adds
    security headers."""

    def __init__(self, app: ASGIApp, station: Station) -> None:
        self.app = app
        self.station = station
        self.settings = station.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = self._problem(scope, headers)
        if scope["type"] == "websocket":
            await (_refuse_websocket(receive, send) if problem else self.app(scope, receive, send))
            return
        sending = _with_headers(send)
        if problem is None and scope["method"] not in _SAFE and scope["path"].startswith("/v1/"):
            problem = await self._find_user(scope)
        if problem:
            status, detail, *more = problem
            response = JSONResponse({"detail": detail}, status, {"Connection": "close", **dict(*more)})
            await response(scope, receive, sending)
            return
        await self.app(scope, self._limited(receive, scope["path"]), sending)

    async def _find_user(self, scope: Scope) -> Problem | None:
        """Authenticate a request from its headers alone, so that strangers send no bodies."""
        if scope["path"] == SIGN_IN:
            return None
        try:
            scope[USER] = await authenticate_early(HTTPConnection(scope), self.station)
        except HTTPException as error:
            return error.status_code, error.detail, error.headers or {}
        except (SQLAlchemyError, BlemishError):
            return 503, "the database cannot be reached", {"Retry-After": "1"}
        return None

    def _problem(self, scope: Scope, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if self.settings.on_loopback and not is_loopback(_host_name(host)):
            return 421, "this station answers at its own address only"  # a foreign name that resolves to it
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        if changes and not _same_origin(headers, host):
            return 403, "the request comes from a page of another site"
        length = headers.get("content-length", "")
        limit = self._limit(scope["path"])
        if length.isascii() and length.isdigit() and int(length) > limit:
            return 413, f"the body is larger than the limit of {limit:,} bytes"
        return None

    def _limit(self, path: str) -> int:
        files = {"/v1/bundles": self.settings.max_bundle_bytes, "/v1/inspections": self.settings.max_image_bytes}
        if _PAGE_UPLOAD.fullmatch(path):  # the address is known only to a page that was opened, and has an upload
            return self.settings.max_image_bytes + _FORM_OVERHEAD
        return files[path] + _FORM_OVERHEAD if path in files else MAX_JSON_BYTES

    def _limited(self, receive: Receive, path: str) -> Receive:
        limit, deadline = self._limit(path), time.monotonic() + self.settings.time_limit_s
        received, complete = 0, False

        async def limited() -> Message:
            nonlocal received, complete
            if complete:  # only the end of the connection follows the body
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, "the body did not arrive in time", {"Connection": "close"}) from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > limit:
                detail = f"the body is larger than the limit of {limit:,} bytes"
                raise HTTPException(413, detail, {"Connection": "close"})
            return message

        return limited


def _same_origin(headers: Headers, host: str) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    return host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1008})
