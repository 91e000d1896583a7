"""Lists of inspections as files."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from blemish.station.repository import InspectionFilter, find_inspections
from blemish.station.routes.access import Operator, StationDep, error_responses
from blemish.station.schemas import inspection_out
from blemish.station.sinks import csv_header, csv_lines
from blemish.station.station import Station

router = APIRouter(tags=["inspections"])
BATCH = 200
MAX_LISTED = 100_000


@router.get("/inspections.csv", response_class=StreamingResponse, responses=error_responses())
def list_as_csv(station: StationDep, user: Operator, query: Annotated[InspectionFilter, Query()]) -> StreamingResponse:
    """The inspections that meet every condition, the newest first: a line a region, at most 100,000 parts."""
    headers = {"Content-Disposition": 'attachment; filename="inspections.csv"'}
    return StreamingResponse(_lines(station, query), media_type="text/csv; charset=utf-8", headers=headers)


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
