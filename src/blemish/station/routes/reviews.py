"""What people say of parts: reviews, the golden set, and the log of all changes."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response

from blemish.errors import DataError
from blemish.station import golden
from blemish.station import repository as record
from blemish.station.models import GoldenRow
from blemish.station.routes.access import At, Engineer, IdInPath, Operator, inspection_or_404, problems
from blemish.station.schemas import (
    MAX_ID,
    AuditOut,
    GoldenIn,
    GoldenOut,
    ReviewIn,
    ReviewOut,
    audit_out,
    review_out,
)

router = APIRouter(tags=["reviews"])


@router.post("/inspections/{inspection_id}/reviews", status_code=201, responses=problems(404))
def review(station: At, user: Operator, inspection_id: IdInPath, given: ReviewIn) -> ReviewOut:
    """Confirm an inspection, or correct its label or mask; the latest review is taken for the truth."""
    mask = None if given.mask_png is None else _decoded(given.mask_png)
    with station.database.writing() as session:
        row = inspection_or_404(session, inspection_id)
        return review_out(record.review(session, row, user.name, given.label, mask, given.note))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError("mask_png is not base64") from error


@router.get("/inspections/{inspection_id}/reviews/{review_id}/mask", response_class=Response, responses=problems(404))
def review_mask(station: At, user: Operator, inspection_id: IdInPath, review_id: IdInPath) -> Response:
    with station.database.reading() as session:
        for found in inspection_or_404(session, inspection_id).reviews:
            if found.id == review_id and found.mask is not None:
                return Response(found.mask, media_type="image/png")
    raise HTTPException(404, "there is no such mask")


@router.get("/golden", responses=problems())
def golden_set(station: At, user: Operator) -> list[GoldenOut]:
    with station.database.reading() as session:
        return [_golden_out(row) for row in golden.golden_set(session)]


@router.put("/golden/{inspection_id}", responses=problems(404))
def set_golden(station: At, user: Engineer, inspection_id: IdInPath, given: GoldenIn) -> GoldenOut:
    """Take a part into the golden set; its image must have been kept."""
    with station.database.writing() as session:
        row = inspection_or_404(session, inspection_id)
        if row.image_path is None:
            raise DataError(f"the image of inspection {inspection_id} was not kept")
        return _golden_out(golden.set_golden(session, row, given.label, user.name))


@router.delete("/golden/{inspection_id}", status_code=204, responses=problems(404))
def drop_golden(station: At, user: Engineer, inspection_id: IdInPath) -> None:
    with station.database.writing() as session:
        row = session.get(GoldenRow, inspection_id)
        if row is None:
            raise HTTPException(404, f"inspection {inspection_id} is not in the golden set")
        golden.drop_golden(session, row, user.name)


@router.get("/audit", responses=problems())
def audit(
    station: At,
    user: Operator,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    before: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
) -> list[AuditOut]:
    """Every change of bundles, recipes, decisions, the golden set and tokens, newest first."""
    with station.database.reading() as session:
        return [audit_out(row) for row in record.audit_log(session, limit, before)]


def _golden_out(row: GoldenRow) -> GoldenOut:
    return GoldenOut(inspection_id=row.inspection_id, label=row.label, added_at=row.added_at, added_by=row.added_by)
