"""Health, metrics, tokens, and sign-in of browsers."""

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError
from blemish.station import auth, recipes, sinks
from blemish.station.image_store import DiskFullError, check_disk
from blemish.station.models import TokenRow, UserRow
from blemish.station.repository import log_change
from blemish.station.routes.access import Admin, Engineer, Line, Operator, StationDep, error_responses, or_404
from blemish.station.schemas import DeadLetterOut, ErrorOut, NewTokenOut, PasswordIn, TokenIn, TokenOut, UserIn, UserOut
from blemish.station.sign_in import WrongSignInError
from blemish.station.sink_keys import sink_name
from blemish.station.station import Station

router = APIRouter(tags=["station"])
probes = APIRouter(tags=["station"])  # at the root, not below the version of the API
AccessName = Annotated[str, Path(pattern=r"^[\w.-]{1,100}$")]


@probes.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process answers; it waits for no thread and no database."""
    return {"status": "alive"}


@probes.get("/readyz", responses={503: {"model": ErrorOut}})
def readyz(station: StationDep) -> Response:
    """Whether a part would be answered: the database, the active recipe, the threads of the service, the line, and
    whether the last part got a verdict."""
    problem = None
    try:
        check_disk(station.settings.data)
        with station.database.reading() as session:
            session.execute(text("SELECT 1"))
            recipe = recipes.active_recipe(session)
            if recipe is None:
                problem = "no recipe is active"
            else:
                station.service.inspectors.get(recipe)
    except (SQLAlchemyError, BlemishError) as error:
        problem = str(error) if isinstance(error, DiskFullError) else type(error).__name__
    if station.service.stalled():
        problem = "the service is stalled"
    elif station.service.failures.present("engine") is not None:
        problem = "the engine gives no verdicts"
    for line in station.service.sources.states("line"):
        problem = f"the line is down: {line.detail}" if line.state == "lost" else problem
    return JSONResponse({"detail": problem}, 503) if problem else JSONResponse({"status": "ready"})


@probes.get("/metrics", response_class=Response, responses=error_responses())
def read_metrics(station: StationDep, user: Line) -> Response:
    """Metrics for Prometheus."""
    settings = station.settings
    pending = _by_name(sinks.count_pending(station.database, settings.station, settings.sinks))
    dead = dict.fromkeys(pending, 0) | _by_name(sinks.count_dead_letters(station.database))
    cameras = {} if station.cameras is None else station.cameras.counts()
    content = station.metrics.text(station.service.depth, pending, dead, cameras)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


def _by_name(counts: dict[str, int]) -> dict[str, int]:
    """The counts of sinks, without the hashes in their keys."""
    named: Counter[str] = Counter()
    for key, count in counts.items():
        named[sink_name(key)] += count
    return dict(named)


@router.get("/dead-letters", responses=error_responses())
def list_dead_letters(station: StationDep, user: Operator) -> list[DeadLetterOut]:
    """Results that a sink refused, the newest first."""
    with station.database.reading() as session:
        return [DeadLetterOut.model_validate(row) for row in sinks.list_dead_letters(session)]


@router.post("/dead-letters/retry", responses=error_responses())
def retry_dead_letters(station: StationDep, user: Engineer) -> dict[str, int]:
    """Send them to their sinks again."""
    with station.database.writing() as session:
        return {"number": sinks.retry_dead_letters(session, user.name)}


@router.get("/tokens", responses=error_responses())
def list_tokens(station: StationDep, user: Admin) -> list[TokenOut]:
    with station.database.reading() as session:
        return [TokenOut.model_validate(row) for row in session.scalars(select(TokenRow).order_by(TokenRow.id))]


@router.post("/tokens", status_code=201, responses=error_responses())
def create_token(station: StationDep, user: Admin, given: TokenIn) -> NewTokenOut:
    """Create a token. From the first one on, every request needs a token."""
    with station.database.writing() as session:
        token = auth.create_token(session, given.name, given.role, user.name)
    station.access.ensure_fresh()
    return NewTokenOut(name=given.name, role=given.role, token=token)


@router.delete("/tokens/{name}", status_code=204, responses=error_responses(404, 409))
def revoke_token(station: StationDep, user: Admin, name: AccessName) -> None:
    _revoke(station, TokenRow, name, user.name)


@router.get("/users", responses=error_responses())
def list_users(station: StationDep, user: Admin) -> list[TokenOut]:
    with station.database.reading() as session:
        return [TokenOut.model_validate(row) for row in session.scalars(select(UserRow).order_by(UserRow.id))]


@router.post("/users", status_code=201, responses=error_responses())
def create_user(station: StationDep, user: Admin, given: UserIn) -> TokenOut:
    """Create a user who signs in with a password. From the first one on, every request needs a token or a session."""
    with station.database.writing() as session:
        row = auth.create_user(session, given.name, given.role, given.password.get_secret_value(), user.name)
    station.access.ensure_fresh()
    return TokenOut.model_validate(row)


@router.put("/users/{name}/password", status_code=204, responses=error_responses(404))
def change_password(station: StationDep, user: Line, name: AccessName, given: PasswordIn) -> None:
    """Administrators set anybody's password, others their own; the user's sessions end."""
    if user.name != name and not user.may("admin"):
        raise HTTPException(403, "only administrators change the password of another user")
    with station.database.writing() as session:
        row = session.scalar(select(UserRow).where(UserRow.name == name, UserRow.revoked_at.is_(None)))
        auth.change_password(session, or_404(row, f"no user '{name}'"), given.password.get_secret_value(), user.name)
    station.access.ensure_fresh()


@router.delete("/users/{name}", status_code=204, responses=error_responses(404, 409))
def revoke_user(station: StationDep, user: Admin, name: AccessName) -> None:
    _revoke(station, UserRow, name, user.name)


def _revoke(station: Station, table: type[TokenRow] | type[UserRow], name: str, user: str) -> None:
    with station.database.writing() as session:
        row = session.scalar(select(table).where(table.name == name))
        holder: Any = or_404(row, f"no such {table.__tablename__.removesuffix('s')}: '{name}'")
        auth.revoke(session, holder, user)
    station.access.ensure_fresh()


@router.get("/session", responses=error_responses())
def read_session(user: Line) -> UserOut:
    """Who is signed in."""
    return UserOut(name=user.name, role=user.role)


@router.post("/session", responses=error_responses(429))
def sign_in(
    request: Request,
    station: StationDep,
    token: Annotated[str, Form(max_length=200)] = "",
    name: Annotated[str, Form(max_length=100)] = "",
    password: Annotated[str, Form(max_length=auth.MAX_PASSWORD)] = "",
) -> Response:
    """Exchange a token, or name and password, for a session cookie; the response has the CSRF token for the header
    x-csrf-token. Failures are logged and delay the next attempt."""
    address = request.client.host if request.client is not None else "unknown"
    try:
        row = station.sign_ins.check(address, name, password, "" if name else token)
    except WrongSignInError as error:
        raise HTTPException(401, str(error)) from error
    with station.database.writing() as session:
        cookie = auth.open_session(session, row)
    station.access.ensure_fresh()
    response = JSONResponse({"name": row.name, "role": row.role, "csrf": auth.csrf_token(station.secret, cookie)})
    secure = station.settings.secure_cookies
    response.set_cookie(
        auth.COOKIE, cookie, max_age=auth.SESSION_S, httponly=True, samesite="strict", secure=secure, path="/"
    )
    return response


@router.delete("/session", status_code=204)
def sign_out(request: Request, station: StationDep) -> Response:
    """End the session: its cookie is of no use to anybody from now on."""
    cookie = request.cookies.get(auth.COOKIE)
    user = None if cookie is None else station.access.cookie_user(cookie)
    if cookie is not None and user is not None:
        with station.database.writing() as session:
            auth.end_session(session, cookie)
            log_change(session, user.name, "sign-out", user.name)
        station.access.ensure_fresh()
    response = Response(status_code=204)
    response.delete_cookie(auth.COOKIE, path="/")
    return response
