"""The web application of a station: routes, middleware and error responses."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as SQLTimeoutError
from starlette.requests import ClientDisconnect

import blemish
from blemish.errors import BlemishError, ImageError
from blemish.station.auth import LastAdminError, TooManyFailuresError
from blemish.station.database import DatabaseBusyError
from blemish.station.golden_set import GoldenLossError
from blemish.station.image_store import DiskFullError, ImageNotStoredError, is_disk_full
from blemish.station.middleware import RequestGuard
from blemish.station.pictures import PicturesBusyError
from blemish.station.recipe_changes import StaleRecipeError
from blemish.station.redaction import redact
from blemish.station.routes import (
    admin,
    inspections,
    jobs,
    labelling,
    lists,
    qualifications,
    recipes,
    reviews,
    status,
    studies,
)
from blemish.station.station import Station
from blemish.station.tickets import NotAnsweredError, QueueFullError

log = logging.getLogger("blemish.station")
API = "/v1"
_STATUS: dict[type[BlemishError], int] = {
    QueueFullError: 429,
    NotAnsweredError: 503,
    GoldenLossError: 409,
    StaleRecipeError: 409,
    ImageNotStoredError: 404,
    LastAdminError: 409,
    DatabaseBusyError: 503,
    DiskFullError: 503,
    PicturesBusyError: 503,
    TooManyFailuresError: 429,
}


def create_app(station: Station) -> FastAPI:
    """The application of an open station, which every route reaches as `app.state.station`."""
    app = FastAPI(
        title="blemish inspection station",
        version=blemish.__version__,
        docs_url=None,  # these pages would load scripts from the internet
        redoc_url=None,
    )
    app.state.station = station
    app.add_middleware(RequestGuard, station=station)
    app.include_router(admin.probes)
    for module in (lists, inspections, recipes, reviews, qualifications, studies, jobs, labelling, status, admin):
        app.include_router(module.router, prefix=API)
    app.add_exception_handler(BlemishError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(IntegrityError, _on_conflict)
    app.add_exception_handler(OperationalError, _on_lost_database)
    app.add_exception_handler(SQLTimeoutError, _on_lost_database)
    app.add_exception_handler(OSError, _on_os_error)
    return app


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 422)
    station: Station = request.app.state.station
    if isinstance(error, QueueFullError):
        station.metrics.refused.inc()
    if isinstance(error, ImageError):
        station.metrics.unreadable.inc()
    headers = {"Retry-After": f"{getattr(error, 'wait_s', 1):.0f}"} if status in (429, 503) else None
    return JSONResponse({"detail": str(error)}, status, headers)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Without the values that were sent: they may be secret, or not valid text."""
    assert isinstance(error, RequestValidationError)
    problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
    return JSONResponse({"detail": "; ".join(problems).encode("utf-8", "replace").decode()}, 422)


async def _on_disconnect(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the request ended before its body was complete"}, 400)


async def _on_conflict(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "another user changed the same data at the same time; reload and retry"}, 409)


async def _on_lost_database(request: Request, error: Exception) -> JSONResponse:
    log.error("%s: %s", request.url.path, redact(str(error)))
    if "disk is full" in str(error):
        return await _on_error(request, DiskFullError("the disk of the station is full"))
    return JSONResponse({"detail": "the database cannot be reached"}, 503, {"Retry-After": "1"})


async def _on_os_error(request: Request, error: Exception) -> JSONResponse:
    if is_disk_full(error):
        return await _on_error(request, DiskFullError("the disk of the station is full"))
    log.error("%s: %s", request.url.path, redact(str(error)), exc_info=error)
    return JSONResponse({"detail": "the station could not read or write a file"}, 500)
