"""Bundles and recipes: taken in, versioned, activated, and opened for inspecting."""

import hashlib
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.errors import BundleError, DataError
from blemish.inspection.bundle import SUFFIX, open_bundle, with_decision
from blemish.inspection.decide import check_decision
from blemish.inspection.engines import Engine
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, Manifest, Roi, Scale
from blemish.inspection.support import engine_of
from blemish.station.database import Database
from blemish.station.image_store import Incoming
from blemish.station.models import BundleRow, RecipeRow
from blemish.station.repository import audit, recipe_is
from blemish.station.settings import Settings


def bundle_path(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256}{SUFFIX}"


def take_bundle(database: Database, file: Incoming, folder: Path, who: str) -> BundleRow:
    """Verify a bundle and its graph, and keep the file under its hash; raises BundleError. The file is moved."""
    bundle = open_bundle(file.path)
    engine_of(bundle)
    folder.mkdir(parents=True, exist_ok=True)
    file.path.replace(bundle_path(folder, file.sha256))  # a kept file that was damaged since is mended by this
    with database.writing() as session:
        known = session.scalar(select(BundleRow).where(BundleRow.sha256 == file.sha256))
        if known is not None:
            return known
        manifest = bundle.manifest
        row = BundleRow(
            sha256=file.sha256, name=manifest.name[:200], manifest=manifest.model_dump(mode="json"), created_by=who
        )
        session.add(row)
        session.flush()
        audit(session, who, "bundle", file.sha256, after={"name": row.name})
        return row


def check_bundle(folder: Path, sha256: str) -> str | None:
    """What is wrong with a kept bundle, or None."""
    path = bundle_path(folder, sha256)
    try:
        open_bundle(path)
        with path.open("rb") as stream:
            same = hashlib.file_digest(stream, "sha256").hexdigest() == sha256
    except BundleError as error:
        return str(error).replace(str(path), "the file")
    return None if same else "the file is another bundle than the one that was taken in"


def make_recipe(
    session: Session,
    name: str,
    bundle: BundleRow,
    who: str,
    *,
    decision: Decision | None = None,
    roi: Roi | None = None,
    scale: Scale | None = None,
    note: str = "",
) -> RecipeRow:
    """The next version of a recipe, not active yet; raises DecisionError where the decision does not fit, and
    BundleError for a bundle that compares each part with a template, which nobody hands to a station."""
    manifest = Manifest.model_validate(bundle.manifest)
    if manifest.template:
        method = manifest.provenance.method
        raise BundleError(
            f"bundle {manifest.name} of {method} compares each part with a template, and a station is given none; "
            "use it with blemish inspect --template, or take a method that needs none"
        )
    decision = decision or manifest.decision
    check_decision(decision, [*manifest.classes, "defect"], (scale or manifest.scale) is not None)
    last = session.scalar(select(func.max(RecipeRow.version)).where(RecipeRow.name == name)) or 0
    row = RecipeRow(
        name=name,
        version=last + 1,
        bundle=bundle,
        decision=decision.model_dump(mode="json"),
        roi=None if roi is None else roi.model_dump(mode="json"),
        scale=None if scale is None else scale.model_dump(mode="json"),
        note=note,
        created_by=who,
    )
    session.add(row)
    session.flush()
    audit(session, who, "recipe", title(row), after=contents(row), why=note)
    return row


def change_decision(session: Session, recipe: RecipeRow, decision: Decision, who: str, why: str) -> RecipeRow:
    """The next version of a recipe with another decision, not active yet."""
    made = make_recipe(
        session,
        recipe.name,
        recipe.bundle,
        who,
        decision=decision,
        roi=None if recipe.roi is None else Roi.model_validate(recipe.roi),
        scale=None if recipe.scale is None else Scale.model_validate(recipe.scale),
        note=why,
    )
    audit(session, who, "decision", title(made), before=recipe.decision, after=made.decision, why=why)
    return made


def activate(session: Session, recipe: RecipeRow, who: str, why: str = "") -> None:
    """Change over to a recipe; earlier versions are only ever followed, never lost."""
    before = active(session)
    recipe.activation = (session.scalar(select(func.max(RecipeRow.activation))) or 0) + 1
    audit(
        session,
        who,
        "activate",
        title(recipe),
        before=None if before is None else contents(before),
        after=contents(recipe),
        why=why,
    )
    session.flush()


def active(session: Session) -> RecipeRow | None:
    """The recipe in use."""
    query = select(RecipeRow).where(RecipeRow.activation.is_not(None)).order_by(RecipeRow.activation.desc()).limit(1)
    return session.scalar(query)


def resolve(session: Session, wanted: str | None) -> int:
    """Id of a recipe by id, by name (the version of it that was activated last), or of the one in use.

    Raises DataError for none, and for one that was never activated. The id alone: it is asked for with every part, and
    a recipe's row brings the whole manifest of its bundle.
    """
    query = select(RecipeRow.id).where(RecipeRow.activation.is_not(None)).order_by(RecipeRow.activation.desc()).limit(1)
    if wanted is not None:
        query = query.where(recipe_is(wanted))
    found = session.scalar(query)
    if found is None:
        raise DataError(
            "no recipe is active; activate one"
            if wanted is None
            else f"there is no recipe '{wanted[:100]}' that was activated; list them with GET /recipes"
        )
    return found


def title(recipe: RecipeRow) -> str:
    return f"{recipe.name} version {recipe.version}"


def contents(recipe: RecipeRow) -> dict[str, Any]:
    return {
        "id": recipe.id,
        "bundle": recipe.bundle.sha256,
        "decision": recipe.decision,
        "roi": recipe.roi,
        "scale": recipe.scale,
    }


class Inspectors:
    """Opened recipes by id; recipes of one bundle share its engine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._opened: dict[int, Inspector] = {}
        self._engines: dict[str, Engine] = {}

    def opened(self, recipe_id: int) -> Inspector | None:
        """That of a recipe that was asked for before: no version of one ever changes."""
        return self._opened.get(recipe_id)

    def get(self, recipe: RecipeRow) -> Inspector:
        """Raises BundleError where the bundle is gone or damaged."""
        with self._lock:
            found = self._opened.get(recipe.id)
            if found is None:
                found = self._opened[recipe.id] = self._open(recipe)
            return found

    def _open(self, recipe: RecipeRow) -> Inspector:
        sha256 = recipe.bundle.sha256
        bundle = open_bundle(bundle_path(self._settings.bundles, sha256))
        if sha256 not in self._engines:
            self._engines[sha256] = engine_of(bundle, self._settings.engine, self._settings.threads)
        manifest = with_decision(bundle.manifest, Decision.model_validate(recipe.decision))
        if recipe.roi is not None:
            manifest = manifest.model_copy(update={"roi": Roi.model_validate(recipe.roi)})
        if recipe.scale is not None:
            manifest = manifest.model_copy(update={"scale": Scale.model_validate(recipe.scale)})
        return Inspector(bundle, self._engines[sha256], manifest, self._settings.batch_size)
