"""Bundles, recipes and decisions: what the station judges by."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import FormData, UploadFile

from blemish.errors import BundleError, DataError
from blemish.inspection.manifest import Decision
from blemish.station import recipes
from blemish.station.golden import change_over
from blemish.station.image_store import take_in, unnamed
from blemish.station.models import BundleRow, RecipeRow
from blemish.station.routes.access import At, Engineer, IdInPath, Line, Operator, problems
from blemish.station.schemas import (
    BundleCheck,
    BundleOut,
    DecisionIn,
    RecipeIn,
    RecipeOut,
    Why,
    bundle_out,
    recipe_out,
)
from blemish.station.station import Station

router = APIRouter(tags=["recipes"])
Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
_BUNDLE_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["bundle"],
                    "properties": {"bundle": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.get("/bundles", responses=problems())
def bundles(station: At, user: Operator) -> list[BundleOut]:
    with station.database.reading() as session:
        return [bundle_out(row) for row in session.scalars(select(BundleRow).order_by(BundleRow.id.desc()))]


@router.post("/bundles", openapi_extra=_BUNDLE_FORM, responses=problems(408))
async def upload_bundle(request: Request, station: At, user: Engineer) -> BundleOut:
    """Take in a bundle; it is verified before anything in it is used. Sending it again changes nothing."""
    async with request.form(max_files=1, max_fields=1, max_part_size=8192) as form:
        return await run_in_threadpool(_take_bundle, station, form, user.name)


def _take_bundle(station: Station, form: FormData, who: str) -> BundleOut:
    upload = form.get("bundle")
    if not isinstance(upload, UploadFile):
        raise DataError("give a file in the field 'bundle'")
    incoming = take_in(upload.file, station.settings.incoming, station.settings.max_bundle_bytes)
    try:
        return bundle_out(recipes.take_bundle(station.database, incoming, station.settings.bundles, who))
    except BundleError as error:
        raise BundleError(unnamed(str(error), incoming.path)) from error
    finally:
        incoming.path.unlink(missing_ok=True)


@router.get("/bundles/{sha256}/check", responses=problems(404))
def check_bundle(station: At, user: Operator, sha256: Sha256) -> BundleCheck:
    """Verify a kept bundle: its seal, its parts, and that it is the one that was taken in."""
    with station.database.reading() as session:
        _bundle_or_404(session, sha256)
    problem = recipes.check_bundle(station.settings.bundles, sha256)
    return BundleCheck(sha256=sha256, sound=problem is None, message=problem or "sound")


@router.get("/recipes", responses=problems())
def all_recipes(station: At, user: Line) -> list[RecipeOut]:
    with station.database.reading() as session:
        active_id = _active_id(session)
        return [recipe_out(row, active_id) for row in session.scalars(select(RecipeRow).order_by(RecipeRow.id.desc()))]


@router.post("/recipes", status_code=201, responses=problems(404))
def create_recipe(station: At, user: Engineer, given: RecipeIn) -> RecipeOut:
    """The next version of a recipe; activate it to use it."""
    with station.database.writing() as session:
        bundle = _bundle_or_404(session, given.bundle)
        row = recipes.make_recipe(
            session,
            given.name,
            bundle,
            user.name,
            decision=given.decision,
            roi=given.roi,
            scale=given.scale,
            note=given.note,
        )
        return recipe_out(row, _active_id(session))


@router.get("/recipes/{recipe_id}", responses=problems(404))
def read_recipe(station: At, user: Line, recipe_id: IdInPath) -> RecipeOut:
    with station.database.reading() as session:
        return recipe_out(_recipe_or_404(session, recipe_id), _active_id(session))


@router.post("/recipes/{recipe_id}/activate", responses=problems(404, 409))
def activate_recipe(station: At, user: Engineer, recipe_id: IdInPath, given: Why | None = None) -> RecipeOut:
    """Change over. One that loses parts of the golden set is refused (409) and they are named; it is used all the same
    where `accept_losses` is true and `why` says why."""
    given = given or Why()
    return _change_over(station, recipe_id, user.name, given.why, given.accept_losses)


@router.get("/decision", responses=problems(404))
def read_decision(station: At, user: Operator) -> Decision:
    """Thresholds and rules of the recipe in use."""
    with station.database.reading() as session:
        return Decision.model_validate(_active_or_404(session).decision)


@router.put("/decision", responses=problems(404, 409))
def change_decision(station: At, user: Engineer, given: DecisionIn) -> RecipeOut:
    """A new version of the recipe in use, with other thresholds and rules, put to use as `activate` does."""
    with station.database.writing() as session:
        before = _active_or_404(session)
        made = recipes.change_decision(session, before, given.decision, user.name, given.why)
    return _change_over(station, made.id, user.name, given.why, given.accept_losses)


def _change_over(station: Station, recipe_id: int, who: str, why: str, accept_losses: bool) -> RecipeOut:
    with station.database.reading() as session:
        _recipe_or_404(session, recipe_id)
    inspectors, images = station.service.inspectors, station.settings.images
    change_over(station.database, inspectors, images, recipe_id, who, why, accept_losses)
    with station.database.reading() as session:
        return recipe_out(_recipe_or_404(session, recipe_id), _active_id(session))


def _active_id(session: Session) -> int | None:
    row = recipes.active(session)
    return None if row is None else row.id


def _active_or_404(session: Session) -> RecipeRow:
    row = recipes.active(session)
    if row is None:
        raise HTTPException(404, "no recipe is active")
    return row


def _recipe_or_404(session: Session, recipe_id: int) -> RecipeRow:
    row = session.get(RecipeRow, recipe_id)
    if row is None:
        raise HTTPException(404, f"there is no recipe {recipe_id}")
    return row


def _bundle_or_404(session: Session, sha256: str) -> BundleRow:
    row = session.scalar(select(BundleRow).where(BundleRow.sha256 == sha256))
    if row is None:
        raise HTTPException(404, "there is no such bundle; upload it first")
    return row
