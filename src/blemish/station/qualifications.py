"""Until when a recipe is qualified, as somebody stated, and the reminders before and after that day.

A statement belongs to one version of a recipe and is never changed, only followed by the next one.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import DataError
from blemish.station.alarms import AlarmCondition
from blemish.station.models import QualificationRow, RecipeRow, now
from blemish.station.recipes import recipe_title
from blemish.station.repository import log_change

REMIND = timedelta(days=14)  # before the day
MAX_YEARS = 10


def qualify_recipe(session: Session, recipe: RecipeRow, until: datetime, note: str, user: str) -> QualificationRow:
    """State until when a recipe is qualified; raises DataError for a day that is past or beyond ten years."""
    if not now() < until < now() + timedelta(days=366 * MAX_YEARS):
        raise DataError(f"a recipe is qualified until a day to come, within {MAX_YEARS} years")
    before = last_qualification(session, recipe.id)
    row = QualificationRow(recipe_id=recipe.id, until=until, note=note, created_by=user)
    session.add(row)
    session.flush()
    old = None if before is None else {"until": before.until.isoformat()}
    log_change(session, user, "qualification", recipe_title(recipe), old, {"until": until.isoformat()}, note)
    return row


def last_qualification(session: Session, recipe_id: int) -> QualificationRow | None:
    query = select(QualificationRow).where(QualificationRow.recipe_id == recipe_id)
    return session.scalars(query.order_by(QualificationRow.id.desc()).limit(1)).first()


def qualification_conditions(session: Session, recipes: Iterable[RecipeRow]) -> list[AlarmCondition]:
    """A reminder where the qualification of a recipe in use ends soon or has ended; none where nobody stated any."""
    reminders = (_remind(session, recipe) for recipe in recipes)
    return [reminder for reminder in reminders if reminder is not None]


def _remind(session: Session, recipe: RecipeRow) -> AlarmCondition | None:
    row = last_qualification(session, recipe.id)
    if row is None or row.until - now() > REMIND:
        return None
    if row.until > now():
        return AlarmCondition("qualification_ends", recipe_title(recipe), (row.until - now()) / timedelta(days=1))
    return AlarmCondition("qualification_ended", recipe_title(recipe))
