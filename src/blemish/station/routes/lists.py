"""Lists of inspections, and reports of shifts, as files."""

import threading
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from blemish.report.pdf import html_to_pdf_elsewhere
from blemish.station.models import now
from blemish.station.parts_document import MAX_ROWS, render_parts
from blemish.station.pictures import PicturesBusyError
from blemish.station.production_counts import last_shifts
from blemish.station.repository import InspectionFilter, count_inspections, find_inspections
from blemish.station.routes.access import Operator, StationDep, error_responses
from blemish.station.schemas import PrintedQuery, inspection_out
from blemish.station.shift_report import read_shift, render_shift
from blemish.station.shift_reporter import report_name
from blemish.station.sinks import csv_header, csv_lines, csv_note
from blemish.station.station import Station
from blemish.translation import ENGLISH

router = APIRouter(tags=["inspections"])
BATCH = 200
MAX_LISTED = 100_000
MAX_SHIFTS_AGO = 300
_rendering = threading.Lock()  # one report at a time: the line needs the processor


@router.get("/inspections.csv", response_class=StreamingResponse, responses=error_responses())
def list_as_csv(station: StationDep, user: Operator, query: Annotated[InspectionFilter, Query()]) -> StreamingResponse:
    """The inspections that meet every condition, the newest first: a line a region, at most 100,000 parts.

    Where there are more, the last line says how many are not listed.
    """
    headers = {"Content-Disposition": 'attachment; filename="inspections.csv"'}
    return StreamingResponse(_lines(station, query), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/inspections.pdf", response_class=Response, responses=error_responses(503))
def list_as_pdf(
    station: StationDep,
    user: Operator,
    query: Annotated[PrintedQuery, Query()],
) -> Response:
    """The same list for paper, with times of the station's time zone: at most 2,000 parts."""
    with station.database.reading() as session:
        rows = find_inspections(session, query, MAX_ROWS)
        total = count_inspections(session, query)
        page = render_parts(rows, total, query, station.settings.station, query.language)
    headers = {"Content-Disposition": 'inline; filename="inspections.pdf"'}
    return Response(_make_pdf(page), media_type="application/pdf", headers=headers)


def _make_pdf(page: str) -> bytes:
    if not _rendering.acquire(blocking=False):
        raise PicturesBusyError("another report is being made; retry later")
    try:
        return html_to_pdf_elsewhere(page)
    finally:
        _rendering.release()


def _lines(station: Station, query: InspectionFilter) -> Iterator[str]:
    yield "\ufeff" + csv_header()  # spreadsheets need the mark to read it as UTF-8
    before: int | None = None
    for _ in range(0, MAX_LISTED, BATCH):
        with station.database.reading() as session:
            rows = find_inspections(session, query, BATCH, before)
            lines = [csv_lines(inspection_out(row)) for row in rows]
        yield "".join(lines)
        if len(rows) < BATCH:
            return
        before = rows[-1].id
    with station.database.reading() as session:
        left = count_inspections(session, query, before)
    if left:
        yield csv_note(f"cut here: {left} older parts are not listed; narrow the search, such as by since and until")


@router.get("/shift-report.pdf", response_class=Response, responses=error_responses(503))
def report_shift(
    station: StationDep,
    user: Operator,
    ago: Annotated[int, Query(ge=0, le=MAX_SHIFTS_AGO, description="0: the present shift, 1: the one before")] = 0,
    language: Annotated[str, Query(max_length=20)] = ENGLISH,
) -> Response:
    """The report of a shift of this station; that of the present one goes up to now."""
    settings = station.settings
    since, until = last_shifts(now(), settings.shifts, ago + 1)[ago]
    with station.database.reading() as session:
        page = render_shift(read_shift(session, settings.station, since, until), language)
    content = _make_pdf(page)
    name = report_name(settings.station, since)
    return Response(
        content, media_type="application/pdf", headers={"Content-Disposition": f'inline; filename="{name}"'}
    )
