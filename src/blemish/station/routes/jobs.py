"""Trainings: their state and reports."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from blemish.station.routes.access import Engineer, StationDep, error_responses, or_404
from blemish.station.schemas import JobOut

router = APIRouter(tags=["jobs"])
JobId = Annotated[str, Path(pattern=r"^[0-9a-zA-Z-]{1,64}$")]


@router.get("/jobs", responses=error_responses())
def list_jobs(station: StationDep, user: Engineer) -> list[JobOut]:
    """Trainings started from the pages, newest first."""
    return [JobOut.model_validate(job) for job in station.jobs.all()]


@router.get("/jobs/{job_id}/report", response_class=Response, responses=error_responses(404))
def read_report(station: StationDep, user: Engineer, job_id: JobId) -> Response:
    """The HTML report of a training."""
    job = station.jobs.get(job_id)
    report = or_404(None if job is None else job.report, "no such report")
    return Response(report.read_bytes(), media_type="text/html; charset=utf-8")
