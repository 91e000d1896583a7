"""What routes depend on: the station, and a user who may."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Path, Request
from sqlalchemy.orm import Session

from blemish.station import auth
from blemish.station.auth import User
from blemish.station.models import InspectionRow
from blemish.station.schemas import MAX_ID, Problem
from blemish.station.station import Station

_SAFE = ("GET", "HEAD", "OPTIONS")


def station_of(request: Request) -> Station:
    station: Station = request.app.state.station
    return station


async def get_station(request: Request) -> Station:
    """Async, so that it takes no thread."""
    return station_of(request)


def who(request: Request) -> User | None:
    """The user of a request, by its token or its cookie; raises HTTPException for a cookie without its CSRF token."""
    station = station_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    cookie = request.cookies.get(auth.COOKIE)
    with station.database.reading() as session:
        if scheme.lower() == "bearer":
            return auth.user_of(auth.token_row(session, token.strip()))
        if cookie is not None and (user := auth.cookie_user(session, station.secret, cookie)) is not None:
            given = request.headers.get(auth.CSRF_HEADER, "")
            if request.method not in _SAFE and not auth.csrf_holds(station.secret, cookie, given):
                raise HTTPException(403, f"a change by cookie needs the header {auth.CSRF_HEADER}")
            return user
        return _nobody(station, session)


def browser_user(station: Station, cookie: str | None) -> User | None:
    """The user of a page, by the cookie that the page was asked for with."""
    with station.database.reading() as session:
        known = None if cookie is None else auth.cookie_user(session, station.secret, cookie)
        return known or _nobody(station, session)


def _nobody(station: Station, session: Session) -> User | None:
    """Who somebody without a token is."""
    return auth.LOCAL if station.settings.on_loopback and not auth.has_tokens(session) else None


def require(role: str) -> Callable[..., User]:
    """A dependency: a user who may do what `role` may; else 401 or 403."""

    def required(request: Request) -> User:
        user = who(request)
        if user is None:
            raise HTTPException(401, "give a token: 'Authorization: Bearer ...'", {"WWW-Authenticate": "Bearer"})
        if not user.may(role):
            raise HTTPException(403, f"this takes the role {role}; {user.name} is {user.role}")
        return user

    return required


At = Annotated[Station, Depends(get_station)]
Line = Annotated[User, Depends(require("line"))]
Operator = Annotated[User, Depends(require("operator"))]
Engineer = Annotated[User, Depends(require("engineer"))]
Admin = Annotated[User, Depends(require("admin"))]
IdInPath = Annotated[int, Path(ge=1, le=MAX_ID)]


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the answers that are no result."""
    return {code: {"model": Problem} for code in (400, 401, 403, 413, 421, 422, *codes)}


def inspection_or_404(session: Session, inspection_id: int) -> InspectionRow:
    row = session.get(InspectionRow, inspection_id)
    if row is None:
        raise HTTPException(404, f"there is no inspection {inspection_id}")
    return row
