"""Trainings: what became of them."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response

from blemish.station.routes.access import At, Engineer, problems
from blemish.station.schemas import JobOut

router = APIRouter(tags=["jobs"])
JobId = Annotated[str, Path(pattern=r"^[0-9a-zA-Z-]{1,64}$")]


@router.get("/jobs", responses=problems())
def jobs(station: At, user: Engineer) -> list[JobOut]:
    """Trainings that were started from the pages, newest first."""
    return [
        JobOut(
            id=job.id,
            title=job.title,
            who=job.who,
            state=job.state,
            progress=job.progress,
            started=job.started,
            ended=job.ended,
        )
        for job in station.jobs.all()
    ]


@router.get("/jobs/{job_id}/report", response_class=Response, responses=problems(404))
def report(station: At, user: Engineer, job_id: JobId) -> Response:
    """The HTML page that the training ended with."""
    job = station.jobs.get(job_id)
    found = None if job is None else job.report
    if found is None:
        raise HTTPException(404, "there is no such report")
    return Response(found.read_bytes(), media_type="text/html; charset=utf-8")
