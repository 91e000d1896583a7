"""Inspection of parts, search of inspections, and their pictures."""

import asyncio
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect

import blemish
from blemish.errors import DataError
from blemish.station import rendering
from blemish.station.image_store import allowed_path, stored_image
from blemish.station.models import InspectionRow
from blemish.station.pictures import RenderedPicture
from blemish.station.repository import count_inspections, find_inspections
from blemish.station.routes.access import (
    IdInPath,
    Line,
    Operator,
    StationDep,
    error_responses,
    file_form,
    inspection_or_404,
)
from blemish.station.schemas import (
    CONTROLS,
    InspectionOut,
    InspectionPage,
    InspectionQuery,
    inspection_out,
    is_storable,
)
from blemish.station.service import InspectionService
from blemish.station.station import Station
from blemish.translation import ENGLISH

router = APIRouter(tags=["inspections"])
Side = Annotated[int | None, Query(ge=16, le=8192, description="maximum of the longer side, in px")]
_MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".tif": "image/tiff", ".bmp": "image/bmp"}
_FIELDS = {"path": 4096, "part_id": 200, "lot": 200, "recipe": 200}  # maximum lengths
_DESCRIPTIONS = {
    "path": "instead: a file below an allowed folder",
    "recipe": "name or id; without it the active recipe",
}
_TEXTS = {
    name: {"type": "string", "maxLength": length, "description": _DESCRIPTIONS.get(name, "")}
    for name, length in _FIELDS.items()
}
_FILE = {"type": "string", "format": "binary", "description": "content of the file"}
_FORM = file_form({"image": _FILE, **_TEXTS})
_FORM["requestBody"]["content"]["image/*"] = {"schema": _FILE}
_FORM["parameters"] = [
    {"name": name, "in": "query", "schema": schema, "description": "with an image as the body, instead of a form"}
    for name, schema in _TEXTS.items()
    if name != "path"
]
_SPOOLED_BYTES = 2**20  # of a body that is kept in memory
_PNG: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {"image/png": {}}}, **error_responses(404, 503)},
}


@router.post(
    "/inspections", openapi_extra=_FORM, response_model=InspectionOut, responses=error_responses(408, 429, 503)
)
async def inspect(
    request: Request,
    station: StationDep,
    user: Line,
    key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=150)] = None,
) -> Response:
    """Inspect a part. The response is sent after the result is recorded; only the `verdict` "pass" of a 200 is a pass.

    Send a form, or the image alone (`Content-Type: image/png` and the like) with the other fields in the query, which
    costs less. With the header `Idempotency-Key` a request may be repeated after a failure: it gets the answer of the
    first one.
    """
    service = station.service
    with service.receiving(user.name):
        form = await _read_body(request)
    key = key and f"api-{hashlib.sha256(f'{user.name}/{key}'.encode()).hexdigest()}"  # of this sender alone
    try:
        submitted = asyncio.get_running_loop().run_in_executor(service.pool, _submit, station, form, key, user.name)
        async with asyncio.timeout(station.settings.time_limit_s):
            future = await asyncio.shield(submitted)
            answer = await _wait(request, service, future, keep=key is not None)
            return Response(answer.model_dump_json(), media_type="application/json")
    except TimeoutError:
        detail = "no answer in time, and so no verdict; repeat the request with the same Idempotency-Key"
        raise HTTPException(503, detail, {"Retry-After": "1"}) from None
    finally:
        await form.close()


async def _read_body(request: Request) -> FormData:
    """The fields of a form, or of the query and with the body as the image."""
    kind = request.headers.get("content-type", "").partition("/")[0].strip().lower()
    if kind != "image":
        form = await request.form(max_files=1, max_fields=10, max_part_size=8192)
        if request.query_params:
            raise DataError("fields in the query go with an image as the body; give those of a form in the form")
        return form
    if "image" in request.query_params:
        raise DataError("the image is the body; leave the field 'image' out of the query")
    upload = UploadFile(tempfile.SpooledTemporaryFile(_SPOOLED_BYTES))  # type: ignore[arg-type]  # noqa: SIM115
    try:
        async for block in request.stream():
            await upload.write(block)
        await upload.seek(0)
    except BaseException:
        await upload.close()
        raise
    return FormData([*request.query_params.multi_items(), ("image", upload)])


async def _wait(
    request: Request, service: InspectionService, future: "Future[InspectionOut]", keep: bool
) -> InspectionOut:
    """The answer. A part whose sender has gone is dropped, if it still waits; so too one that takes too long, unless
    the sender may ask for its answer again (`keep`)."""
    answer = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_disconnection(request))
    both: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        answer.cancel()
        if not keep:
            service.abandon(future)
        raise
    finally:
        gone.cancel()
    if answer.done():
        return answer.result()
    answer.cancel()
    service.abandon(future)
    raise ClientDisconnect


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _submit(station: Station, form: FormData, key: str | None, sender: str) -> "Future[InspectionOut]":
    """Submit a part that has arrived; raises QueueFullError where there is no place for it."""
    station.service.reserve(sender)
    with station.service.release_on_error(sender):
        given = _read_fields(form)
        stream = _open_image(station, form, given["path"])
    with stream:
        return station.service.submit_image(
            stream, given["recipe"], "api", part_id=given["part_id"], lot=given["lot"], key=key, sender=sender
        )


def _read_fields(form: FormData) -> dict[str, str | None]:
    unknown = set(form) - {"image", *_FIELDS}
    if unknown:
        raise DataError(f"unknown field '{min(unknown)[:50]}'")
    names = [name for name, _ in form.multi_items()]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"the field '{min(twice)[:50]}' is given twice")
    values: dict[str, str | None] = {}
    for name, length in _FIELDS.items():
        value = form.get(name) or None
        if value is not None and not (isinstance(value, str) and len(value) <= length and is_storable(value)):
            raise DataError(f"the field '{name}' is a text of at most {length} characters")
        if value is not None and name != "path" and CONTROLS.search(value):
            raise DataError(f"the field '{name}' contains control characters")
        values[name] = value
    return values


def _open_image(station: Station, form: FormData, path: str | None) -> BinaryIO:
    upload = form.get("image")
    if (upload is None) == (path is None):
        raise DataError("give either a file in the field 'image', or 'path'")
    if path is not None:
        return allowed_path(path, station.settings.image_folders).open("rb")
    return upload.file if isinstance(upload, UploadFile) else io.BytesIO(str(upload).encode())


@router.get("/inspections", responses=error_responses())
def search(station: StationDep, user: Operator, query: Annotated[InspectionQuery, Query()]) -> InspectionPage:
    """The newest inspections that meet every condition."""
    with station.database.reading() as session:
        rows = find_inspections(session, query, query.limit, query.before)
        return InspectionPage(
            items=[inspection_out(row) for row in rows],
            total=count_inspections(session, query),
            next=rows[-1].id if len(rows) == query.limit else None,
        )


def _load_inspection(station: StationDep, inspection_id: IdInPath) -> InspectionRow:
    with station.database.reading() as session:
        return inspection_or_404(session, inspection_id)


Loaded = Annotated[InspectionRow, Depends(_load_inspection)]  # after the user, who is checked first


@router.get("/inspections/{inspection_id}", responses=error_responses(404))
def read(user: Line, row: Loaded) -> InspectionOut:
    return inspection_out(row)


@router.get("/inspections/{inspection_id}/image", response_class=Response, responses=error_responses(404, 503))
async def image(request: Request, user: Operator, row: Loaded, station: StationDep) -> Response:
    """The image file as it was received."""
    suffix = Path(row.image_path or "").suffix
    disposition = {"Content-Disposition": f'inline; filename="inspection-{row.id}{suffix}"'}
    media = _MEDIA.get(suffix, "application/octet-stream")

    def read_file() -> RenderedPicture:
        return RenderedPicture(stored_image(row, station.settings.images).read_bytes(), disposition)

    return await _picture(request, station, row, read_file, media=media)


@router.get("/inspections/{inspection_id}/preview", **_PNG)
async def preview(request: Request, user: Operator, row: Loaded, station: StationDep, side: Side = None) -> Response:
    """The image as a PNG that a browser can show."""
    return await _picture(
        request, station, row, lambda: RenderedPicture(rendering.render_image(row, station.settings, side))
    )


@router.get("/inspections/{inspection_id}/overlay", **_PNG)
async def overlay(
    request: Request,
    user: Operator,
    row: Loaded,
    station: StationDep,
    side: Side = None,
    language: Annotated[str, Query(max_length=20)] = ENGLISH,
) -> Response:
    """The image with the recorded regions and verdict, with words in `language`."""

    def draw() -> RenderedPicture:
        return RenderedPicture(rendering.render_overlay(row, station.settings, side, language))

    return await _picture(request, station, row, draw)


@router.get("/inspections/{inspection_id}/mask", **_PNG)
async def mask(request: Request, user: Operator, row: Loaded, station: StationDep, side: Side = None) -> Response:
    """Defect pixels, white: the mask of the latest review that has one, or else the inspected regions."""
    reviews = [review.id for review in row.reviews]
    return await _picture(request, station, row, lambda: RenderedPicture(rendering.render_mask(row, side)), reviews)


@router.get("/inspections/{inspection_id}/heatmap", **_PNG)
async def heatmap(
    request: Request,
    user: Operator,
    row: Loaded,
    station: StationDep,
    side: Side = None,
    colour: Annotated[bool, Query(description="in colour instead of grey")] = False,
) -> Response:
    """The heat map, computed again by the recorded recipe; headers X-Heat-Low and X-Heat-High: range of grey."""

    def compute() -> RenderedPicture:
        inspector = station.service.inspectors.get(row.recipe)
        heat = rendering.compute_heat_map(row, station.settings, inspector)
        if colour:
            return RenderedPicture(rendering.render_colour_heat(heat, inspector.manifest.decision, side))
        png, low, high = rendering.render_heat(heat, side)
        return RenderedPicture(png, {"X-Heat-Low": repr(low), "X-Heat-High": repr(high)})

    return await _picture(request, station, row, compute)


async def _picture(
    request: Request,
    station: Station,
    row: InspectionRow,
    render: Callable[[], RenderedPicture],
    reviews: Sequence[int] = (),
    media: str = "image/png",
) -> Response:
    """A picture with an ETag, which browsers ask for again: another record has other parts under the same address.

    A recorded inspection never changes, but `reviews` may add a mask to its picture.
    """
    query = sorted(request.query_params.multi_items())
    part = [row.record, row.id, row.image_sha256, list(reviews)]
    tag = hashlib.sha256(json.dumps([blemish.__version__, request.url.path, query, part]).encode()).hexdigest()[:32]
    headers = {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
    if f'"{tag}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    picture = await station.pictures.get(tag, render)
    return Response(picture.content, media_type=media, headers=headers | picture.headers)
