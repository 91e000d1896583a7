"""The heartbeat of the pages, and alarms."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request

from blemish.station import alarms
from blemish.station.models import AlarmRow
from blemish.station.routes.access import IdInPath, Operator, StationDep, authenticate, error_responses, or_404
from blemish.station.schemas import AlarmOut, LastPartOut, ProblemOut, StatusOut

router = APIRouter(tags=["status"])
_ANSWER_S = 1.5  # pages turn grey soon afterwards
_SERIOUS = ("database", "station", "engine", "line", "source")  # without these no verdict is the present one
_pool = ThreadPoolExecutor(2, "blemish-status")  # of its own: a busy line takes no thread from the heartbeat


@router.get("/status", responses=error_responses(503))
async def read_status(request: Request, station: StationDep) -> StatusOut:
    """The newest part, and what keeps the station from inspecting; pages ask for it once a second."""
    asked = asyncio.get_running_loop().run_in_executor(_pool, authenticate, request, station)
    try:
        user = await asyncio.wait_for(asked, _ANSWER_S)
    except TimeoutError:
        raise HTTPException(503, "the database does not answer", {"Retry-After": "1"}) from None
    if user is None:
        raise HTTPException(401, "token required: 'Authorization: Bearer ...'", {"WWW-Authenticate": "Bearer"})
    status, last = station.status, station.status.last
    lost = {c.kind: c for c in reversed(status.components()) if c.state == "lost"}
    problem = next((lost[kind] for kind in _SERIOUS if kind in lost), None)
    return StatusOut(
        recipe=status.recipe,
        last=None if last is None else LastPartOut.model_validate(last),
        last_reject=status.last_reject,
        problem=None if problem is None else ProblemOut(kind=problem.kind, name=problem.name),
        alarms=sum(row.acknowledged_at is None for row in status.alarms),
    )


@router.get("/alarms", responses=error_responses())
def list_alarms(
    station: StationDep, user: Operator, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> list[AlarmOut]:
    """The alarms of this station, the newest first."""
    with station.database.reading() as session:
        return [AlarmOut.model_validate(row) for row in alarms.list_alarms(session, station.settings.station, limit)]


@router.post("/alarms/{alarm_id}/acknowledge", responses=error_responses(404))
def acknowledge(station: StationDep, user: Operator, alarm_id: IdInPath) -> AlarmOut:
    with station.database.writing() as session:
        row = or_404(session.get(AlarmRow, alarm_id), f"no alarm {alarm_id}")
        alarms.acknowledge(session, row, user.name)
        return AlarmOut.model_validate(row)
