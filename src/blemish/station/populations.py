"""The parts that figures are taken over."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from blemish.station.models import InspectionRow, RecipeRow
from blemish.station.recipes import active_recipe
from blemish.station.repository import is_gauge_trial, is_production

RECENT_PARTS = 200  # of the line; the recipes that decided them are monitored
PART = (InspectionRow.id, InspectionRow.part_id, InspectionRow.lot, InspectionRow.image_sha256)  # for `each_once`


def recipe_parts(session: Session, recipe: RecipeRow, station: str | None = None) -> ColumnElement[bool]:
    """The condition for the parts of a recipe, of one station or of all, without those that a gauge study took.

    They are those of all versions of its name whose scores can be compared, because they have the same bundles.
    """
    row = RecipeRow
    versions = session.execute(
        select(row.id, row.views).where(row.name == recipe.name, row.bundle_id == recipe.bundle_id)
    )
    own = [key for key, views in versions if _other_bundles(views) == _other_bundles(recipe.views)]
    parts = InspectionRow.recipe_id.in_(own) & ~is_gauge_trial()
    return parts if station is None else parts & (InspectionRow.station == station)


def _other_bundles(views: dict[str, Any] | None) -> dict[str, str] | None:
    if views is None:
        return None
    return {"": views["first"], **{name: view["bundle"] for name, view in views["others"].items()}}


def each_once(rows: Iterable[Any]) -> list[int]:
    """Ids of rows that have the columns of `PART`, of each part the first one given.

    A part that comes again has the same number and lot, or, without a number, the very same picture.
    """
    first: dict[object, int] = {}
    for row in rows:
        first.setdefault((row.part_id, row.lot) if row.part_id else row.image_sha256, row.id)
    return list(first.values())


def recent_recipes(session: Session, station: str) -> list[RecipeRow]:
    """The recipes that decided the newest parts of a station's line, that of the newest part first.

    A PLC or a sender may name another recipe than the active one for each part. Of each name it is the version that
    decided its newest part: what an earlier version had found holds no longer.
    """
    row = InspectionRow
    newest = select(row.id, row.recipe_id).where(row.station == station, is_production())
    parts = newest.order_by(row.id.desc()).limit(RECENT_PARTS).subquery()
    last = func.max(parts.c.id)
    ids = session.execute(select(parts.c.recipe_id, last).group_by(parts.c.recipe_id).order_by(last.desc())).all()
    by_name: dict[str, RecipeRow] = {}
    for recipe_id, _ in ids:
        recipe = session.get_one(RecipeRow, recipe_id)
        by_name.setdefault(recipe.name, recipe)
    return list(by_name.values())


def used_recipes(session: Session, station: str) -> list[RecipeRow]:
    """The same, and the active recipe, which the next part may have."""
    recent, active = recent_recipes(session, station), active_recipe(session)
    return recent if active is None or active in recent else [*recent, active]
