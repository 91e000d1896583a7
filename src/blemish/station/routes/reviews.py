"""Reviews, the golden set, and the audit log."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Query, Response

from blemish.errors import DataError
from blemish.station.golden_set import add_golden, list_golden, remove_golden
from blemish.station.models import GoldenRow
from blemish.station.repository import add_review, check_mask, read_audit_log
from blemish.station.routes.access import (
    Engineer,
    IdInPath,
    Operator,
    StationDep,
    error_responses,
    inspection_or_404,
    or_404,
)
from blemish.station.schemas import MAX_ID, AuditOut, GoldenIn, GoldenOut, ReviewIn, ReviewOut, review_out

router = APIRouter(tags=["reviews"])


@router.post("/inspections/{inspection_id}/reviews", status_code=201, responses=error_responses(404))
def create_review(station: StationDep, user: Operator, inspection_id: IdInPath, given: ReviewIn) -> ReviewOut:
    """Confirm an inspection, or correct its label or mask; the latest review is the ground truth."""
    mask = None if given.mask_png is None else _decode(given.mask_png)
    if mask is not None:
        with station.database.reading() as session:
            row = inspection_or_404(session, inspection_id)
        check_mask(mask, row)
    with station.database.writing() as session:
        row = inspection_or_404(session, inspection_id)
        return review_out(add_review(session, row, user.name, given.label, mask, given.note))


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError("mask_png is not base64") from error


@router.get(
    "/inspections/{inspection_id}/reviews/{review_id}/mask", response_class=Response, responses=error_responses(404)
)
def read_review_mask(station: StationDep, user: Operator, inspection_id: IdInPath, review_id: IdInPath) -> Response:
    with station.database.reading() as session:
        reviews = inspection_or_404(session, inspection_id).reviews
    mask = next((review.mask for review in reviews if review.id == review_id), None)
    return Response(or_404(mask, "no such mask"), media_type="image/png")


@router.get("/golden", responses=error_responses())
def read_golden_set(station: StationDep, user: Operator) -> list[GoldenOut]:
    with station.database.reading() as session:
        return [GoldenOut.model_validate(row) for row in list_golden(session)]


@router.put("/golden/{inspection_id}", responses=error_responses(404))
def set_golden(station: StationDep, user: Engineer, inspection_id: IdInPath, given: GoldenIn) -> GoldenOut:
    """Add a part to the golden set; its image must be stored."""
    with station.database.writing() as session:
        row = inspection_or_404(session, inspection_id)
        if row.image_path is None:
            raise DataError(f"the image of inspection {inspection_id} was not stored")
        return GoldenOut.model_validate(add_golden(session, row, given.label, user.name))


@router.delete("/golden/{inspection_id}", status_code=204, responses=error_responses(404))
def delete_golden(station: StationDep, user: Engineer, inspection_id: IdInPath) -> None:
    with station.database.writing() as session:
        row = session.get(GoldenRow, inspection_id)
        remove_golden(session, or_404(row, f"inspection {inspection_id} is not in the golden set"), user.name)


@router.get("/audit", responses=error_responses())
def read_audit(
    station: StationDep,
    user: Operator,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    before: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
) -> list[AuditOut]:
    """Every change of bundles, recipes, decisions, the golden set and tokens, newest first."""
    with station.database.reading() as session:
        return [AuditOut.model_validate(row) for row in read_audit_log(session, limit, before)]
