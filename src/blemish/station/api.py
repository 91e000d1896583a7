"""The web application of a station: routes, guard and errors."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError, OperationalError
from starlette.requests import ClientDisconnect

import blemish
from blemish.errors import BlemishError, ImageError
from blemish.station.golden import GoldenLossError
from blemish.station.image_store import NotKeptError
from blemish.station.middleware import Guard
from blemish.station.routes import admin, inspections, jobs, recipes, reviews
from blemish.station.station import Station
from blemish.station.tickets import NotAnsweredError, QueueFullError

log = logging.getLogger("blemish.station")
_STATUS: dict[type[BlemishError], int] = {
    QueueFullError: 429,
    NotAnsweredError: 503,
    GoldenLossError: 409,
    NotKeptError: 404,
}


def create_app(station: Station) -> FastAPI:
    """The application of an open station, which every route finds as `app.state.station`."""
    app = FastAPI(
        title="blemish inspection station",
        version=blemish.__version__,
        docs_url=None,  # these pages would load scripts from the internet
        redoc_url=None,
    )
    app.state.station = station
    app.add_middleware(Guard, settings=station.settings)
    for router in (inspections.router, recipes.router, reviews.router, jobs.router, admin.router):
        app.include_router(router)
    app.add_exception_handler(BlemishError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(IntegrityError, _on_conflict)
    app.add_exception_handler(OperationalError, _on_lost_record)
    return app


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 422)
    station: Station = request.app.state.station
    if status == 429:
        station.metrics.refused.inc()
    if isinstance(error, ImageError):
        station.metrics.unreadable.inc()
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    return JSONResponse({"detail": str(error)}, status, headers)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Without what was sent, which may be secret, or no text at all."""
    assert isinstance(error, RequestValidationError)
    parts = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
    return JSONResponse({"detail": "; ".join(parts).encode("utf-8", "replace").decode()}, 422)


async def _on_disconnect(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the request ended before its body"}, 400)


async def _on_conflict(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "somebody else changed the same thing at the same time; look, and try again"}, 409)


async def _on_lost_record(request: Request, error: Exception) -> JSONResponse:
    log.error("%s: %s", request.url.path, error)
    return JSONResponse({"detail": "the record cannot be reached"}, 503, {"Retry-After": "1"})
