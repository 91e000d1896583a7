"""Bundles, recipes and decisions."""

from typing import Annotated
from urllib.parse import quote, unquote

from fastapi import APIRouter, Header, HTTPException, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import FormData, UploadFile

from blemish.errors import BundleError, DataError
from blemish.inspection.manifest import Decision
from blemish.station import recipes
from blemish.station.image_store import hide_path, receive_file
from blemish.station.models import BundleRow, RecipeRow
from blemish.station.recipe_changes import check_active
from blemish.station.routes.access import (
    Engineer,
    IdInPath,
    Line,
    Operator,
    StationDep,
    error_responses,
    file_form,
    or_404,
)
from blemish.station.schemas import (
    ActivationIn,
    BundleCheck,
    BundleOut,
    DecisionIn,
    RecipeIn,
    RecipeOut,
    bundle_out,
    recipe_out,
)
from blemish.station.station import Station

router = APIRouter(tags=["recipes"])
Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
_BUNDLE_FORM = file_form(
    {
        "bundle": {"type": "string", "format": "binary"},
        "signature": {"type": "string", "description": "content of the file that `blemish sign` wrote"},
    },
    required=("bundle",),
)


@router.get("/bundles", responses=error_responses())
def list_bundles(station: StationDep, user: Operator) -> list[BundleOut]:
    with station.database.reading() as session:
        return [bundle_out(row) for row in session.scalars(select(BundleRow).order_by(BundleRow.id.desc()))]


@router.post("/bundles", openapi_extra=_BUNDLE_FORM, responses=error_responses(408))
async def upload_bundle(request: Request, station: StationDep, user: Engineer) -> BundleOut:
    """Import a bundle; it is verified before anything in it is used. Sending it again changes nothing."""
    async with request.form(max_files=1, max_fields=1, max_part_size=8192) as form:
        return await run_in_threadpool(_import_bundle, station, form, user.name)


def _import_bundle(station: Station, form: FormData, user: str) -> BundleOut:
    upload = form.get("bundle")
    if not isinstance(upload, UploadFile):
        raise DataError("give a file in the field 'bundle'")
    incoming = receive_file(upload.file, station.settings.incoming, station.settings.max_bundle_bytes)
    try:
        settings, signature = station.settings, form.get("signature")
        text = signature if isinstance(signature, str) else None
        row = recipes.import_bundle(station.database, incoming, settings.bundles, user, settings.bundle_key, text)
        return bundle_out(row)
    except BundleError as error:
        raise BundleError(hide_path(str(error), incoming.path)) from error
    finally:
        incoming.path.unlink(missing_ok=True)


@router.get("/bundles/{sha256}/check", responses=error_responses(404))
def check_bundle(station: StationDep, user: Operator, sha256: Sha256) -> BundleCheck:
    """Verify a stored bundle: its seal, its members, and that it is the one that was imported."""
    with station.database.reading() as session:
        _bundle_or_404(session, sha256)
    problem = recipes.check_bundle(station.settings.bundles, sha256)
    return BundleCheck(sha256=sha256, sound=problem is None, message=problem or "sound")


@router.get("/recipes", responses=error_responses())
def list_recipes(station: StationDep, user: Line) -> list[RecipeOut]:
    with station.database.reading() as session:
        active_id = _active_id(session)
        return [recipe_out(row, active_id) for row in session.scalars(select(RecipeRow).order_by(RecipeRow.id.desc()))]


@router.post("/recipes", status_code=201, responses=error_responses(404))
def create_recipe(station: StationDep, user: Engineer, given: RecipeIn) -> RecipeOut:
    """The next version of a recipe, not active yet."""
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
            views=given.views,
            cameras=given.cameras,
            note=given.note,
        )
        return recipe_out(row, _active_id(session))


@router.get("/recipes/{recipe_id}", responses=error_responses(404))
def read_recipe(station: StationDep, user: Line, recipe_id: IdInPath) -> RecipeOut:
    with station.database.reading() as session:
        return recipe_out(_recipe_or_404(session, recipe_id), _active_id(session))


@router.post("/recipes/{recipe_id}/activate", responses=error_responses(404, 409))
def activate_recipe(
    station: StationDep, user: Engineer, recipe_id: IdInPath, given: ActivationIn | None = None
) -> RecipeOut:
    """Activate a recipe. One that loses parts of the golden set is refused (409) with a list of them, unless
    `accept_losses` is true and `comment` is given."""
    return _activate(station, recipe_id, user.name, given or ActivationIn())


@router.get("/decision", responses=error_responses(404))
def read_decision(station: StationDep, user: Operator, response: Response) -> Decision:
    """Thresholds and rules of the active recipe; the header `ETag` names its version."""
    with station.database.reading() as session:
        active = _active_or_404(session)
        response.headers["ETag"] = f'"{quote(recipes.recipe_title(active))}"'
        return Decision.model_validate(active.decision)


@router.put("/decision", responses=error_responses(404, 409, 428))
def change_decision(
    station: StationDep,
    user: Engineer,
    given: DecisionIn,
    if_match: Annotated[str | None, Header(description="the ETag of the decision that was read and changed")] = None,
) -> RecipeOut:
    """A new version of the active recipe with other thresholds and rules, activated like `activate`.

    Refused (409) where another version or another recipe became active since the decision was read.
    """
    if if_match is None:
        raise HTTPException(428, "say which decision you changed: send the ETag of GET /v1/decision as If-Match")
    based_on = unquote(if_match.strip().removeprefix("W/").strip('"'))
    with station.database.writing() as session:
        _active_or_404(session)
        before = check_active(session, based_on)
        changed = recipes.revise_decision(session, before, given.decision, user.name, given.comment)
    return _activate(station, changed.id, user.name, given, based_on)


def _activate(
    station: Station, recipe_id: int, user: str, given: ActivationIn, instead_of: str | None = None
) -> RecipeOut:
    with station.database.reading() as session:
        _recipe_or_404(session, recipe_id)
    station.activate(recipe_id, user, given.comment, given.accept_losses, instead_of)
    with station.database.reading() as session:
        return recipe_out(_recipe_or_404(session, recipe_id), _active_id(session))


def _active_id(session: Session) -> int | None:
    row = recipes.active_recipe(session)
    return None if row is None else row.id


def _active_or_404(session: Session) -> RecipeRow:
    return or_404(recipes.active_recipe(session), "no recipe is active")


def _recipe_or_404(session: Session, recipe_id: int) -> RecipeRow:
    return or_404(session.get(RecipeRow, recipe_id), f"no recipe {recipe_id}")


def _bundle_or_404(session: Session, sha256: str) -> BundleRow:
    row = session.scalar(select(BundleRow).where(BundleRow.sha256 == sha256))
    return or_404(row, "no such bundle; upload it first")
