"""Bundles and recipes: imported, versioned, activated, and opened for inspection."""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from blemish.errors import BundleError, DataError
from blemish.files import file_sha256
from blemish.imaging.roi import Roi
from blemish.inspection.bundle import SUFFIX, open_bundle, set_decision
from blemish.inspection.decision_check import check_bundle_decision
from blemish.inspection.engines import Engine
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, Manifest, Scale
from blemish.inspection.support_set import open_bundle_engine
from blemish.inspection.views import check_bundle_fusion_rules
from blemish.station.cameras.settings import CameraSettings
from blemish.station.database import RECIPES, Database, mark_changed
from blemish.station.engine_proof import EngineProof, find_proof
from blemish.station.image_store import ReceivedFile
from blemish.station.models import BundleRow, RecipeRow
from blemish.station.recipe_views import (
    ONE_VIEW,
    PartInspector,
    RecipeViews,
    ViewsInspector,
    parse_views,
    required_views,
)
from blemish.station.repository import log_change, match_recipe
from blemish.station.schemas import RecipeRef
from blemish.station.settings import Settings
from blemish.station.signing import check_signature

log = logging.getLogger("blemish.station")
REFRESH_S = 1.0  # of the active recipe, which another station may have changed


def bundle_path(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256}{SUFFIX}"


def import_bundle(
    database: Database,
    file: ReceivedFile,
    folder: Path,
    user: str,
    key: Path | None = None,
    signature: str | None = None,
) -> BundleRow:
    """Verify a bundle and its graph, and store the file under its hash; raises BundleError. The file is moved.

    With `key`, the public key of those who may sign bundles, one without a valid `signature` is refused.
    """
    if key is not None:
        check_signature(key, file.sha256, signature)
    bundle = open_bundle(file.path)
    open_bundle_engine(bundle)
    folder.mkdir(parents=True, exist_ok=True)
    file.path.replace(bundle_path(folder, file.sha256))  # a stored file that was damaged since is repaired by this
    with database.writing() as session:
        known = session.scalar(select(BundleRow).where(BundleRow.sha256 == file.sha256))
        if known is not None:
            return known
        manifest = bundle.manifest
        row = BundleRow(
            sha256=file.sha256, name=manifest.name[:200], manifest=manifest.model_dump(mode="json"), created_by=user
        )
        session.add(row)
        session.flush()
        log_change(session, user, "bundle", file.sha256, after={"name": row.name})
        return row


def check_bundle(folder: Path, sha256: str) -> str | None:
    """The fault of a stored bundle, or None."""
    path = bundle_path(folder, sha256)
    try:
        open_bundle(path)
        same = file_sha256(path) == sha256
    except BundleError as error:
        return str(error).replace(str(path), "the file")
    return None if same else "the file is not the bundle that was imported"


def make_recipe(
    session: Session,
    name: str,
    bundle: BundleRow,
    user: str,
    *,
    decision: Decision | None = None,
    roi: Roi | None = None,
    scale: Scale | None = None,
    views: RecipeViews | None = None,
    cameras: Mapping[str, CameraSettings] | None = None,
    note: str = "",
) -> RecipeRow:
    """The next version of a recipe, not active yet; raises DecisionError for a decision that does not fit the bundle,
    DataError for a new name that is a number, and BundleError for a method that needs reference images, because a
    station has none."""
    manifest = Manifest.model_validate(bundle.manifest)
    if manifest.template:
        method = manifest.provenance.method
        raise BundleError(
            f"bundle {manifest.name} of {method} needs a reference image (template) for each part, which a station "
            "does not have; use it with blemish inspect --template, or choose a method that needs none"
        )
    decision = decision or manifest.decision
    own = {"decision": decision, "scale": scale or manifest.scale}
    manifest = manifest.model_copy(update=own)  # as the recipe inspects
    check_bundle_decision(decision, manifest, manifest.scale is not None)
    if views is not None:
        check_views(session, views, manifest)
    strange = sorted(set(cameras or {}) - set([""] if views is None else views.names))
    if strange:
        raise DataError(f"camera settings of '{strange[0]}', which is no view of the recipe")
    last = last_version(session, name)
    if name.isdigit() and not last:
        raise DataError(f"the name '{name}' would be taken for the id of a recipe; give one that is not a number alone")
    row = RecipeRow(
        name=name,
        version=last + 1,
        bundle=bundle,
        decision=decision.model_dump(mode="json"),
        roi=None if roi is None else roi.model_dump(mode="json"),
        scale=None if scale is None else scale.model_dump(mode="json"),
        views=None if views is None else views.model_dump(mode="json"),
        cameras=None if cameras is None else {name: own.model_dump(mode="json") for name, own in cameras.items()},
        note=note,
        created_by=user,
    )
    session.add(row)
    session.flush()
    log_change(session, user, "recipe", recipe_title(row), after=_contents(row), comment=note)
    return row


def last_version(session: Session, name: str) -> int:
    return session.scalar(select(func.max(RecipeRow.version)).where(RecipeRow.name == name)) or 0


def check_views(session: Session, views: RecipeViews, first: Manifest) -> None:
    """Raises DataError for a bundle that is not here, DecisionError for decisions and rules that do not fit."""
    views.check()
    manifests = [first]
    for name, view in views.others.items():
        row = session.scalar(select(BundleRow).where(BundleRow.sha256 == view.bundle))
        if row is None:
            raise DataError(f"the bundle of view '{name}' is not here; upload it first")
        manifest = Manifest.model_validate(row.manifest)
        if manifest.template:
            raise BundleError(f"the bundle of view '{name}' needs a reference image, which a station does not have")
        decision, scale = view.decision or manifest.decision, view.scale or manifest.scale
        check_bundle_decision(decision, manifest, scale is not None)
        manifests.append(manifest.model_copy(update={"decision": decision, "scale": scale}))
    check_bundle_fusion_rules(views.rules, manifests)


def revise_decision(session: Session, recipe: RecipeRow, decision: Decision, user: str, comment: str) -> RecipeRow:
    """The next version of a recipe with another decision, not active yet."""
    roi = None if recipe.roi is None else Roi.model_validate(recipe.roi)
    return revise(session, recipe, decision, roi, user, comment)


def revise(
    session: Session,
    recipe: RecipeRow,
    decision: Decision,
    roi: Roi | None,
    user: str,
    comment: str,
    *,
    views: RecipeViews | None = None,
    cameras: Mapping[str, CameraSettings] | None = None,
) -> RecipeRow:
    """The next version of a recipe with another decision and region of interest (None: the bundle's), and with other
    views and camera settings where they are given."""
    row = make_recipe(
        session,
        recipe.name,
        recipe.bundle,
        user,
        decision=decision,
        roi=roi,
        scale=None if recipe.scale is None else Scale.model_validate(recipe.scale),
        views=views or parse_views(recipe.views),
        cameras=recipe_cameras(recipe) if cameras is None else cameras,
        note=comment,
    )
    before, after = recipe.decision, row.decision
    for name in ("roi", "views", "cameras"):
        if getattr(recipe, name) != getattr(row, name):
            before, after = {**before, name: getattr(recipe, name)}, {**after, name: getattr(row, name)}
    log_change(session, user, "decision", recipe_title(row), before, after, comment)
    return row


def activate(session: Session, recipe: RecipeRow, user: str, comment: str = "") -> None:
    """Make a recipe the active one; earlier versions remain in the record."""
    before = active_recipe(session)
    recipe.activation = (session.scalar(select(func.max(RecipeRow.activation))) or 0) + 1
    contents = None if before is None else _contents(before)
    log_change(session, user, "activate", recipe_title(recipe), contents, _contents(recipe), comment)
    session.flush()
    mark_changed(session, RECIPES)


def warn_of_numbers(session: Session) -> None:
    """Log which recipes cannot be asked for by name; earlier versions took numbers as names."""
    columns = (RecipeRow.id, RecipeRow.name, RecipeRow.version)
    for key, name, version in session.execute(select(*columns).where(RecipeRow.activation.is_not(None))):
        if name.isdigit():
            log.warning("the name of recipe %s v%d is taken for an id; ask for it by its id, %d", name, version, key)


def active_recipe(session: Session) -> RecipeRow | None:
    recipe: RecipeRow | None = session.scalar(_latest_activated(select(RecipeRow)))
    return recipe


def resolve_recipe(session: Session, wanted: str | None) -> int:
    """Id of a recipe by id, by name (the version of it that was activated last), or of the active one.

    Raises DataError for none, and for one that was never activated. Only the id, because it is queried for every part,
    and a recipe's row brings the whole manifest of its bundle.
    """
    query = _latest_activated(select(RecipeRow.id))
    recipe_id: int | None = session.scalar(query if wanted is None else query.where(match_recipe(wanted)))
    if recipe_id is None:
        raise DataError(
            "no recipe is active; activate one"
            if wanted is None
            else f"no recipe '{wanted[:100]}' was ever activated; list them with GET /v1/recipes"
        )
    return recipe_id


def _latest_activated(query: Select[Any]) -> Select[Any]:
    return query.where(RecipeRow.activation.is_not(None)).order_by(RecipeRow.activation.desc()).limit(1)


def recipe_scale(recipe: RecipeRow) -> Scale | None:
    """The scale of a recipe: its own, or else that of its bundle."""
    scale = recipe.scale or recipe.bundle.manifest.get("scale")
    return None if scale is None else Scale.model_validate(scale)


def scale_text(scale: Scale) -> str:
    uncertainty = f" ± {scale.uncertainty:.2%}" if scale.uncertainty else ""
    return f"{scale.x:g} × {scale.y:g} px/mm{uncertainty}"


def view_decisions(session: Session, recipe: RecipeRow) -> dict[str, Decision]:
    """The decision of each view: its own, or else that of its bundle."""
    views = parse_views(recipe.views)
    own = Decision.model_validate(recipe.decision)
    if views is None:
        return {ONE_VIEW: own}
    decisions = {views.first: own}
    for name, view in views.others.items():
        bundle = session.scalars(select(BundleRow).where(BundleRow.sha256 == view.bundle)).one()
        decisions[name] = view.decision or Manifest.model_validate(bundle.manifest).decision
    return decisions


def recipe_cameras(recipe: RecipeRow) -> dict[str, CameraSettings] | None:
    """Camera settings by the name of the view, "" for a recipe of one image; None: none are kept."""
    own = recipe.cameras
    return None if own is None else {name: CameraSettings.model_validate(values) for name, values in own.items()}


def recipe_title(recipe: RecipeRow | RecipeRef) -> str:
    """The same in all languages."""
    return f"{recipe.name} v{recipe.version}"


def _contents(recipe: RecipeRow) -> dict[str, Any]:
    values = {name: getattr(recipe, name) for name in ("id", "decision", "roi", "scale", "views", "cameras")}
    return values | {"bundle": recipe.bundle.sha256}


class KnownRecipes:
    """Ids and names of recipes in memory, so that no part asks the database for them.

    The active ones are read again after each activation by this process, and after `REFRESH_S`, as other stations may
    share the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: dict[str | None, tuple[int, int, float]] = {}  # wanted -> id, number of changes, when it was read
        self._refs: dict[int, RecipeRef] = {}
        self._pictures: dict[int, tuple[list[str], dict[str, CameraSettings] | None]] = {}

    def resolve(self, wanted: str | None) -> int:
        """Id of the wanted recipe, as `resolve_recipe` finds it; raises DataError."""
        recipe_id, version, read_at = self._ids.get(wanted, (0, -1, 0.0))
        changes = self._database.changes[RECIPES]
        if version == changes and time.monotonic() < read_at + REFRESH_S:
            return recipe_id
        read_at = time.monotonic()
        with self._database.reading() as session:
            recipe_id = resolve_recipe(session, wanted)
        self._ids[wanted] = recipe_id, changes, read_at
        return recipe_id

    def pictures(self, recipe_id: int) -> tuple[list[str], dict[str, CameraSettings] | None]:
        """Names of the views, and the cameras' settings, which never change either."""
        if recipe_id not in self._pictures:
            with self._database.reading() as session:
                row = session.get_one(RecipeRow, recipe_id)
                self._pictures[recipe_id] = required_views(row.views), recipe_cameras(row)
        return self._pictures[recipe_id]

    def ref(self, recipe_id: int) -> RecipeRef:
        """Name and version, which never change."""
        if recipe_id not in self._refs:
            columns = (RecipeRow.id, RecipeRow.name, RecipeRow.version)
            with self._database.reading() as session:
                row = session.execute(select(*columns).where(RecipeRow.id == recipe_id)).one()
            self._refs[recipe_id] = RecipeRef.model_validate(row)
        return self._refs[recipe_id]


class Inspectors:
    """Opened recipes by id; recipes of one bundle share its engine."""

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self.proofs: dict[str, EngineProof] = {}  # by hash of the bundle
        self._settings, self._database = settings, database
        self._lock = threading.Lock()
        self._opened: dict[int, PartInspector] = {}
        self._engines: dict[str, Engine] = {}

    def opened(self, recipe_id: int) -> PartInspector | None:
        """The inspector of a recipe, if it is open; a version of a recipe never changes."""
        return self._opened.get(recipe_id)

    def get(self, recipe: RecipeRow) -> PartInspector:
        """Raises BundleError where the bundle is gone or damaged, or the engine is proved to decide otherwise."""
        with self._lock:
            if recipe.id not in self._opened:
                self._opened[recipe.id] = self._open(recipe)
            return self._opened[recipe.id]

    def _open(self, recipe: RecipeRow) -> PartInspector:
        decision = Decision.model_validate(recipe.decision)
        roi = None if recipe.roi is None else Roi.model_validate(recipe.roi)
        scale = None if recipe.scale is None else Scale.model_validate(recipe.scale)
        first = self._open_bundle(recipe.bundle.sha256, decision, roi, scale)
        views = parse_views(recipe.views)
        if views is None:
            return first
        others = {
            name: self._open_bundle(view.bundle, view.decision, view.roi, view.scale)
            for name, view in views.others.items()
        }
        return ViewsInspector({views.first: first, **others}, views.rules, self._settings.max_pixels)

    def _open_bundle(self, sha256: str, decision: Decision | None, roi: Roi | None, scale: Scale | None) -> Inspector:
        path = bundle_path(self._settings.bundles, sha256)
        bundle = open_bundle(path)
        if sha256 not in self._engines:
            engine = open_bundle_engine(bundle, self._settings.engine, self._settings.threads)
            self.proofs[sha256] = proof = find_proof(bundle, engine, path)
            if proof.accepted is not None and self._database is not None:
                with self._database.writing() as session:
                    differs = {"engine": engine.name, "device": engine.device, "problem": proof.problem}
                    log_change(session, "station", "engine", sha256, after=differs, comment=proof.accepted)
            self._engines[sha256] = engine
        manifest = bundle.manifest if decision is None else set_decision(bundle.manifest, decision)
        own = {"roi": roi, "scale": scale}
        manifest = manifest.model_copy(update={name: value for name, value in own.items() if value is not None})
        return Inspector(bundle, self._engines[sha256], manifest, self._settings.batch_size)
