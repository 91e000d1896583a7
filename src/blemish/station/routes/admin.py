"""Health, figures, tokens, and signing in by browser."""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError
from blemish.station import auth, recipes, sinks
from blemish.station.models import TokenRow
from blemish.station.routes.access import Admin, At, Line, problems
from blemish.station.schemas import NewToken, Problem, TokenIn, TokenOut

router = APIRouter(tags=["station"])
TokenName = Annotated[str, Path(pattern=r"^[\w.-]{1,100}$")]


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": Problem}})
def readyz(station: At) -> Response:
    """Whether a part would be answered: the record, the recipe in use and the service's threads."""
    problem = None
    try:
        with station.database.reading() as session:
            session.execute(text("SELECT 1"))
            recipe = recipes.active(session)
            if recipe is None:
                problem = "no recipe is active"
            else:
                station.service.inspectors.get(recipe)
    except (SQLAlchemyError, BlemishError) as error:
        problem = type(error).__name__
    if station.service.stalled():
        problem = "the service is stalled"
    return JSONResponse({"detail": problem}, 503) if problem else JSONResponse({"status": "ready"})


@router.get("/metrics", response_class=Response, responses=problems())
def metrics(station: At, user: Line) -> Response:
    """For Prometheus."""
    settings = station.settings
    waiting: Counter[str] = Counter()
    for key, count in sinks.pending(station.database, settings.station, settings.sinks).items():
        waiting[sinks.shown(key.rpartition("#")[0] or key)] += count  # without the hash
    found = station.metrics.text(station.service.depth, waiting)
    return Response(found, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/tokens", responses=problems())
def tokens(station: At, user: Admin) -> list[TokenOut]:
    with station.database.reading() as session:
        return [_token_out(row) for row in session.scalars(select(TokenRow).order_by(TokenRow.id))]


@router.post("/tokens", status_code=201, responses=problems())
def create_token(station: At, user: Admin, given: TokenIn) -> NewToken:
    """Make a token. As soon as there is one, every request needs one."""
    with station.database.writing() as session:
        token = auth.make_token(session, given.name, given.role, user.name)
    return NewToken(name=given.name, role=given.role, token=token)


@router.delete("/tokens/{name}", status_code=204, responses=problems(404))
def revoke_token(station: At, user: Admin, name: TokenName) -> None:
    with station.database.writing() as session:
        row = session.scalar(select(TokenRow).where(TokenRow.name == name))
        if row is None:
            raise HTTPException(404, f"there is no token '{name}'")
        auth.revoke_token(session, row, user.name)


@router.post("/session", responses=problems())
def sign_in(station: At, token: Annotated[str, Form(max_length=200)]) -> Response:
    """Trade a token for a cookie; the answer holds the token against forged requests, for the header x-csrf-token."""
    with station.database.reading() as session:
        row = auth.token_row(session, token)
    if row is None:
        raise HTTPException(401, "this token does not hold")
    cookie = auth.make_cookie(station.secret, row)
    response = JSONResponse({"name": row.name, "role": row.role, "csrf": auth.csrf_token(station.secret, cookie)})
    secure = station.settings.secure_cookies
    response.set_cookie(
        auth.COOKIE, cookie, max_age=auth.SESSION_S, httponly=True, samesite="strict", secure=secure, path="/"
    )
    return response


@router.delete("/session", status_code=204)
def sign_out(request: Request) -> Response:
    response = Response(status_code=204)
    response.delete_cookie(auth.COOKIE, path="/")
    return response


def _token_out(row: TokenRow) -> TokenOut:
    return TokenOut(name=row.name, role=row.role, created_at=row.created_at, revoked=row.revoked_at is not None)
