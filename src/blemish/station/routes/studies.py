"""Gauge studies: their list, their results as a file, and their analysis."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.orm import Session

from blemish.qualify.analysis import analyse_study
from blemish.station.gauge_studies import list_studies, read_trials, study_csv, to_gauge_study
from blemish.station.models import GaugeStudyRow
from blemish.station.routes.access import Engineer, IdInPath, Operator, StationDep, error_responses, or_404
from blemish.station.schemas import StudyOut

router = APIRouter(tags=["gauge studies"])


@router.get("/studies", responses=error_responses())
def read_studies(station: StationDep, user: Operator) -> list[StudyOut]:
    """Every gauge study, the newest first, and how many of its trials are done."""
    same = ("id", "name", "kind", "appraisers", "repeats", "created_at", "created_by")
    with station.database.reading() as session:
        return [
            StudyOut(**{name: getattr(row, name) for name in same}, parts=len(row.parts), trials=trials, done=done)
            for row, trials, done in list_studies(session)
        ]


@router.get("/studies/{study_id}/results.csv", response_class=PlainTextResponse, responses=error_responses(404))
def read_results(station: StationDep, user: Engineer, study_id: IdInPath) -> Response:
    """The results so far, as `blemish qualify gauge` reads them."""
    with station.database.reading() as session:
        study = _study_or_404(session, study_id)
        text = study_csv(study, read_trials(session, study_id))
    headers = {"Content-Disposition": f'attachment; filename="study-{study_id}.csv"'}
    return Response("\ufeff" + text, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/studies/{study_id}/analysis", responses=error_responses(404))
def read_analysis(
    station: StationDep,
    user: Engineer,
    study_id: IdInPath,
    tolerance: Annotated[float | None, Query(gt=0, le=1e9, allow_inf_nan=False, description="its width")] = None,
) -> dict[str, Any]:
    """What `blemish qualify gauge --json` writes, of a study whose trials are all done."""
    with station.database.reading() as session:
        study = _study_or_404(session, study_id)
        found = to_gauge_study(study, read_trials(session, study_id))
    results = {name: asdict(result) for name, result in analyse_study(found, tolerance=tolerance).items()}
    return {"study": study.name, **results}


def _study_or_404(session: Session, study_id: int) -> GaugeStudyRow:
    return or_404(session.get(GaugeStudyRow, study_id), f"no gauge study {study_id}")
