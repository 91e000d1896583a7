"""Health, metrics, tokens, and sign-in of browsers."""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError
from blemish.station import auth, recipes, sinks
from blemish.station.models import TokenRow
from blemish.station.routes.access import Admin, Line, StationDep, error_responses, or_404
from blemish.station.schemas import ErrorOut, NewTokenOut, TokenIn, TokenOut

router = APIRouter(tags=["station"])
probes = APIRouter(tags=["station"])  # at the root, not below the version of the API
TokenName = Annotated[str, Path(pattern=r"^[\w.-]{1,100}$")]


@probes.get("/healthz")
def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "alive"}


@probes.get("/readyz", responses={503: {"model": ErrorOut}})
def readyz(station: StationDep) -> Response:
    """Whether a part would be answered: the database, the active recipe and the threads of the service."""
    problem = None
    try:
        with station.database.reading() as session:
            session.execute(text("SELECT 1"))
            recipe = recipes.active_recipe(session)
            if recipe is None:
                problem = "no recipe is active"
            else:
                station.service.inspectors.get(recipe)
    except (SQLAlchemyError, BlemishError) as error:
        problem = type(error).__name__
    if station.service.stalled():
        problem = "the service is stalled"
    return JSONResponse({"detail": problem}, 503) if problem else JSONResponse({"status": "ready"})


@probes.get("/metrics", response_class=Response, responses=error_responses())
def read_metrics(station: StationDep, user: Line) -> Response:
    """Metrics for Prometheus."""
    settings = station.settings
    pending: Counter[str] = Counter()
    for key, count in sinks.count_pending(station.database, settings.station, settings.sinks).items():
        pending[key.rpartition("#")[0] or key] += count  # without the hash
    content = station.metrics.text(station.service.depth, pending)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/tokens", responses=error_responses())
def list_tokens(station: StationDep, user: Admin) -> list[TokenOut]:
    with station.database.reading() as session:
        return [TokenOut.model_validate(row) for row in session.scalars(select(TokenRow).order_by(TokenRow.id))]


@router.post("/tokens", status_code=201, responses=error_responses())
def create_token(station: StationDep, user: Admin, given: TokenIn) -> NewTokenOut:
    """Create a token. From the first one on, every request needs a token."""
    with station.database.writing() as session:
        token = auth.create_token(session, given.name, given.role, user.name)
    return NewTokenOut(name=given.name, role=given.role, token=token)


@router.delete("/tokens/{name}", status_code=204, responses=error_responses(404))
def revoke_token(station: StationDep, user: Admin, name: TokenName) -> None:
    with station.database.writing() as session:
        row = session.scalar(select(TokenRow).where(TokenRow.name == name))
        auth.revoke_token(session, or_404(row, f"no token '{name}'"), user.name)


@router.post("/session", responses=error_responses())
def sign_in(station: StationDep, token: Annotated[str, Form(max_length=200)]) -> Response:
    """Exchange a token for a session cookie; the response has the CSRF token for the header x-csrf-token."""
    with station.database.reading() as session:
        row = auth.find_token(session, token)
    if row is None:
        raise HTTPException(401, "invalid or revoked token")
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
