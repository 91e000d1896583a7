"""Dependencies of the routes: the station, and a user with the required role."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, HTTPException, Path, Request
from sqlalchemy.orm import Session

from blemish.station import auth
from blemish.station.auth import User
from blemish.station.models import InspectionRow
from blemish.station.schemas import MAX_ID, ErrorOut
from blemish.station.station import Station

_SAFE = ("GET", "HEAD", "OPTIONS")
Row = TypeVar("Row")


async def get_station(request: Request) -> Station:
    """Async, so that it needs no thread."""
    station: Station = request.app.state.station
    return station


StationDep = Annotated[Station, Depends(get_station)]


def authenticate(request: Request, station: Station) -> User | None:
    """The user of a request, by its token or its cookie; raises HTTPException for a cookie without its CSRF token."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    cookie = request.cookies.get(auth.COOKIE)
    with station.database.reading() as session:
        if scheme.lower() == "bearer":
            return auth.token_user(auth.find_token(session, token.strip()))
        if cookie is not None and (user := auth.cookie_user(session, station.secret, cookie)) is not None:
            given = request.headers.get(auth.CSRF_HEADER, "")
            if request.method not in _SAFE and not auth.check_csrf(station.secret, cookie, given):
                raise HTTPException(403, f"a change by cookie needs the header {auth.CSRF_HEADER}")
            return user
        return _anonymous_user(station, session)


def page_user(station: Station, cookie: str | None) -> User | None:
    """The user of a page, by the cookie of the page's request."""
    with station.database.reading() as session:
        user = None if cookie is None else auth.cookie_user(session, station.secret, cookie)
        return user or _anonymous_user(station, session)


def _anonymous_user(station: Station, session: Session) -> User | None:
    """The user of a request without a token, if there is one."""
    return auth.LOCAL_USER if station.settings.on_loopback and not auth.has_tokens(session) else None


def require(role: str) -> Callable[..., User]:
    """A dependency: a user who may do what `role` may; otherwise status 401 or 403."""

    def check_role(request: Request, station: StationDep) -> User:
        user = authenticate(request, station)
        if user is None:
            raise HTTPException(401, "token required: 'Authorization: Bearer ...'", {"WWW-Authenticate": "Bearer"})
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
