"""The parts that figures are taken over."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.station.models import InspectionRow, RecipeRow
from blemish.station.recipes import active_recipe
from blemish.station.repository import is_production

RECENT_PARTS = 200  # of the line; the recipes that decided them are monitored


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
