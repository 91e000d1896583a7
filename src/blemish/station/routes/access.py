"""Dependencies of the routes: the station, and a user with the required role."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, HTTPException, Path, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from blemish.station import auth
from blemish.station.auth import User
from blemish.station.models import InspectionRow
from blemish.station.schemas import MAX_ID, ErrorOut
from blemish.station.settings import is_loopback
from blemish.station.station import Station

USER = "blemish.user"  # in the scope of a request: the user who was found before its body was read
_SAFE = ("GET", "HEAD", "OPTIONS")
_PROXY_HEADERS = ("forwarded", "x-forwarded-", "x-real-ip", "via")
Row = TypeVar("Row")


async def get_station(request: Request) -> Station:
    """The open station; async, so that it needs no thread."""
    station: Station = request.app.state.station
    return station


StationDep = Annotated[Station, Depends(get_station)]


def is_direct(connection: HTTPConnection) -> bool:
    """Whether a request comes from this machine itself, and not through a proxy, behind which everybody looks local."""
    through = any(name.startswith(_PROXY_HEADERS) for name in connection.headers)
    return not through and connection.client is not None and is_loopback(connection.client.host)


def authenticate(connection: HTTPConnection, station: Station) -> User | None:
    """The user of a request, by its token or its cookie; raises HTTPException for a cookie without its CSRF token.

    In a thread, unless the list of those who have access is fresh.
    """
    station.access.ensure_fresh()
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    cookie = connection.cookies.get(auth.COOKIE)
    if scheme.lower() == "bearer":
        return station.access.token_user(token.strip())
    if cookie is not None and (user := station.access.cookie_user(cookie)) is not None:
        given = connection.headers.get(auth.CSRF_HEADER, "")
        if connection.scope["method"] not in _SAFE and not auth.check_csrf(station.secret, cookie, given):
            raise HTTPException(403, f"a change by cookie needs the header {auth.CSRF_HEADER}")
        return user
    return _anonymous_user(station, is_direct(connection))


async def authenticate_early(connection: HTTPConnection, station: Station) -> User:
    """The same before the body is read; raises HTTPException with status 401 without a user."""
    if station.access.is_fresh:
        user = authenticate(connection, station)
    else:
        user = await run_in_threadpool(authenticate, connection, station)
    if user is None:
        raise _unknown_user()
    return user


def page_user(station: Station, cookie: str | None, direct: bool) -> User | None:
    """The user of a page, by the cookie of the page's request. From memory: pages run on the event loop."""
    user = None if cookie is None else station.access.cookie_user(cookie)
    return user or _anonymous_user(station, direct)


def _anonymous_user(station: Station, direct: bool) -> User | None:
    """The user of a request without a token, if there is one."""
    free = station.settings.no_tokens or (station.settings.on_loopback and direct)
    return auth.LOCAL_USER if free and not station.access.controlled else None


def _unknown_user() -> HTTPException:
    return HTTPException(401, "token required: 'Authorization: Bearer ...'", {"WWW-Authenticate": "Bearer"})


def require(role: str) -> Callable[..., Awaitable[User]]:
    """A dependency: a user who may do what `role` may; otherwise status 401 or 403."""

    async def check_role(request: Request, station: StationDep) -> User:
        user: User | None = request.scope.get(USER)  # known already, where the request has a body
        user = user or await authenticate_early(request, station)
        if not user.may(role):
            raise HTTPException(403, f"the role {role} is required; {user.name} has the role {user.role}")
        return user

    return check_role


Line = Annotated[User, Depends(require("line"))]
Operator = Annotated[User, Depends(require("operator"))]
Engineer = Annotated[User, Depends(require("engineer"))]
Admin = Annotated[User, Depends(require("admin"))]
IdInPath = Annotated[int, Path(ge=1, le=MAX_ID)]


def error_responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the responses without a result."""
    return {code: {"model": ErrorOut} for code in (400, 401, 403, 413, 421, 422, *codes)}


def file_form(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """For OpenAPI: a form that the route reads itself, because its files may be large."""
    schema = {"type": "object", "properties": properties, "required": [*required]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def or_404(row: Row | None, detail: str) -> Row:
    """The row; raises HTTPException with status 404 where there is none."""
    if row is None:
        raise HTTPException(404, detail)
    return row


def inspection_or_404(session: Session, inspection_id: int) -> InspectionRow:
    return or_404(session.get(InspectionRow, inspection_id), f"no inspection {inspection_id}")
