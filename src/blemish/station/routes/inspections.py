"""Parts: inspected, found again, shown."""

import asyncio
import io
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from blemish.errors import DataError
from blemish.station import pictures
from blemish.station import repository as record
from blemish.station.image_store import allowed_path, kept_image, take_in
from blemish.station.recipes import resolve
from blemish.station.repository import Arrival, Filter
from blemish.station.routes.access import At, IdInPath, Line, Operator, inspection_or_404, problems
from blemish.station.schemas import MAX_ID, InspectionOut, Inspections, inspection_out, is_storable
from blemish.station.station import Station
from blemish.station.tickets import Ticket

router = APIRouter(tags=["inspections"])
Side = Annotated[int | None, Query(ge=16, le=8192, description="bound of the longer side, in px")]
_NO_NUL = r"^[^\x00]*$"
Word = Annotated[str | None, Query(max_length=200, pattern=_NO_NUL)]
_MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".tif": "image/tiff", ".bmp": "image/bmp"}
_TEXT = {"type": "string", "maxLength": 200}
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "string", "format": "binary", "description": "the file's content"},
                        "path": {**_TEXT, "maxLength": 4096, "description": "instead: a file below an allowed folder"},
                        "part_id": _TEXT,
                        "lot": _TEXT,
                        "recipe": {**_TEXT, "description": "name or id; without it the one in use"},
                    },
                }
            }
        },
    }
}
_PNG: dict[str, Any] = {"response_class": Response, "responses": {200: {"content": {"image/png": {}}}, **problems(404)}}


@router.post("/inspections", openapi_extra=_FORM, responses=problems(408, 429, 503))
async def inspect(
    request: Request,
    station: At,
    user: Line,
    key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=150)] = None,
) -> InspectionOut:
    """Inspect a part; the answer is given when it is recorded, and only `verdict` "pass" of a 200 is a pass.

    With the header `Idempotency-Key` a request may be sent again after a failure: it gets the answer of the first.
    """
    station.service.take()
    try:
        form = await request.form(max_files=1, max_fields=10, max_part_size=8192)
    except BaseException:
        station.service.give_up()
        raise
    try:
        future = await run_in_threadpool(_submit, station, form, key and f"api-{key}")
    finally:
        await form.close()
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), station.settings.time_limit_s)
    except TimeoutError:
        detail = "no answer in time, and so no verdict; ask again with the same Idempotency-Key"
        raise HTTPException(503, detail, {"Retry-After": "1"}) from None


def _submit(station: Station, form: FormData, key: str | None) -> "Future[InspectionOut]":
    """Hand a part in, in the place that was taken for it; whatever fails, the place is free again."""
    try:
        ticket = _ticket(station, form, key)
    except BaseException:
        station.service.give_up()
        raise
    return station.service.submit(ticket)


def _ticket(station: Station, form: FormData, key: str | None) -> Ticket:
    settings = station.settings
    unknown = set(form) - {"image", "path", "part_id", "lot", "recipe"}
    texts = {name: _text(form, name) for name in ("path", "part_id", "lot", "recipe")}
    upload, path = form.get("image"), texts["path"]
    if unknown:
        raise DataError(f"the field '{min(unknown)[:50]}' is not known")
    if (upload is None) == (path is None):
        raise DataError("give either a file in the field 'image', or 'path'")
    with station.database.reading() as session:
        recipe = resolve(session, texts["recipe"])
    if path is not None:
        with allowed_path(path, settings.image_folders).open("rb") as stream:
            incoming = take_in(stream, settings.incoming, settings.max_image_bytes)
    else:
        file: BinaryIO = upload.file if isinstance(upload, UploadFile) else io.BytesIO(str(upload).encode())
        incoming = take_in(file, settings.incoming, settings.max_image_bytes)
    arrival = Arrival(recipe, incoming.sha256, incoming.size, "api", texts["part_id"], texts["lot"], key)
    return Ticket(arrival, incoming.path)


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    limit = 4096 if name == "path" else 200
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > limit or not is_storable(value):
        raise DataError(f"the field '{name}' is a text of at most {limit} characters")
    return value


@router.get("/inspections", responses=problems())
def find(
    station: At,
    user: Operator,
    part_id: Word = None,
    lot: Word = None,
    verdict: Literal["pass", "review", "reject"] | None = None,
    label: Word = None,
    recipe: Annotated[str | None, Query(max_length=200, pattern=_NO_NUL, description="name, or id")] = None,
    at_station: Annotated[str | None, Query(alias="station", max_length=64, pattern=_NO_NUL)] = None,
    since: datetime | None = None,
    until: datetime | None = None,
    min_area_px: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    min_length_px: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    min_area_mm2: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    min_length_mm: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    reviewed: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
) -> Inspections:
    """The newest inspections that fulfil every condition."""
    where = Filter(
        part_id,
        lot,
        verdict,
        label,
        recipe,
        at_station,
        _utc(since),
        _utc(until),
        min_area_px,
        min_length_px,
        reviewed,
        min_area_mm2,
        min_length_mm,
    )
    with station.database.reading() as session:
        rows = record.find(session, where, limit, before)
        following = rows[-1].id if len(rows) == limit else None
        return Inspections(
            items=[inspection_out(row) for row in rows], total=record.count(session, where), next=following
        )


@router.get("/inspections/{inspection_id}", responses=problems(404))
def read(station: At, user: Line, inspection_id: IdInPath) -> InspectionOut:
    with station.database.reading() as session:
        return inspection_out(inspection_or_404(session, inspection_id))


@router.get("/inspections/{inspection_id}/image", response_class=Response, responses=problems(404))
def image(station: At, user: Operator, inspection_id: IdInPath) -> Response:
    """The image's file as it came in."""
    with station.database.reading() as session:
        row = inspection_or_404(session, inspection_id)
    path = kept_image(row, station.settings.images)
    media = _MEDIA.get(path.suffix, "application/octet-stream")
    disposition = {"Content-Disposition": f'inline; filename="inspection-{row.id}{path.suffix}"'}
    return Response(path.read_bytes(), media_type=media, headers=disposition)


@router.get("/inspections/{inspection_id}/picture", **_PNG)
def picture(station: At, user: Operator, inspection_id: IdInPath, side: Side = None) -> Response:
    """The image as a browser can show it."""
    with station.database.reading() as session:
        row = inspection_or_404(session, inspection_id)
    return Response(pictures.picture_png(row, station.settings, side), media_type="image/png")


@router.get("/inspections/{inspection_id}/overlay", **_PNG)
def overlay(station: At, user: Operator, inspection_id: IdInPath, side: Side = None) -> Response:
    """The image with the regions and the verdict that were recorded."""
    with station.database.reading() as session:
        row = inspection_or_404(session, inspection_id)
    return Response(pictures.overlay_png(row, station.settings, side), media_type="image/png")


@router.get("/inspections/{inspection_id}/mask", **_PNG)
def mask(station: At, user: Operator, inspection_id: IdInPath, side: Side = None) -> Response:
    """Defect pixels, white: those that the latest review drew, or else those that were found."""
    with station.database.reading() as session:
        row = inspection_or_404(session, inspection_id)
    return Response(pictures.mask_png(row, side), media_type="image/png")


@router.get("/inspections/{inspection_id}/heat", **_PNG)
def heat(
    station: At,
    user: Operator,
    inspection_id: IdInPath,
    side: Side = None,
    colours: Annotated[bool, Query(description="in colours instead of grey")] = False,
) -> Response:
    """The heat map, found again by the recorded recipe; headers X-Heat-Low and X-Heat-High give the range of grey."""
    with station.database.reading() as session:
        row = inspection_or_404(session, inspection_id)
        inspector = station.service.inspectors.get(row.recipe)
    found = pictures.heat_map(row, station.settings, inspector)
    if colours:
        decision = inspector.manifest.decision
        return Response(pictures.heat_in_colours(found, decision, side), media_type="image/png")
    png, low, high = pictures.heat_png(found, side)
    return Response(png, media_type="image/png", headers={"X-Heat-Low": repr(low), "X-Heat-High": repr(high)})


def _utc(value: datetime | None) -> datetime | None:
    """Times without a zone are in UTC."""
    try:
        return value if value is None else value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
    except OverflowError as error:
        raise DataError("the time lies beyond the calendar") from error
