"""Recipes of earlier versions whose rules or thresholds would be refused today, such as a limit that nothing reaches.

They stay as they are until somebody edits them, and are said at the start and as an alarm.
"""

import logging
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import DecisionError
from blemish.inspection.decision_check import check_bundle_decision
from blemish.inspection.manifest import Decision, Manifest
from blemish.station.alarms import AlarmCondition
from blemish.station.models import RecipeRow
from blemish.station.recipe_views import parse_views
from blemish.station.recipes import check_views, recipe_scale, recipe_title

log = logging.getLogger("blemish.station")
MAX_SUBJECT = 300  # characters of an alarm's


def find_fault(session: Session, recipe: RecipeRow) -> str | None:
    """Why the decision of a recipe, or its rules over all views, would be refused today; None where they would not."""
    decision, scale = Decision.model_validate(recipe.decision), recipe_scale(recipe)
    own = {"decision": decision, "scale": scale}
    manifest = Manifest.model_validate(recipe.bundle.manifest).model_copy(update=own)
    try:
        check_bundle_decision(decision, manifest, scale is not None)
        if (views := parse_views(recipe.views)) is not None:
            check_views(session, views, manifest)
    except DecisionError as error:
        return str(error)
    return None


def warn_of_faults(session: Session) -> None:
    """Log the faults of recipes that parts may ask for: of each name the version that was activated last."""
    query = select(RecipeRow).where(RecipeRow.activation.is_not(None)).order_by(RecipeRow.activation.desc())
    latest: dict[str, RecipeRow] = {}
    for recipe in session.scalars(query):
        latest.setdefault(recipe.name, recipe)
    for recipe in latest.values():
        if (fault := find_fault(session, recipe)) is not None:
            log.warning("recipe %s has a fault; edit it: %s", recipe_title(recipe), fault)


class RecipeFaults:
    """The faults of the recipes in use, each looked for once, since a version of a recipe never changes."""

    def __init__(self) -> None:
        self._known: dict[int, str | None] = {}

    def conditions(self, session: Session, recipes: Sequence[RecipeRow]) -> list[AlarmCondition]:
        for recipe in recipes:
            if recipe.id not in self._known:
                self._known[recipe.id] = find_fault(session, recipe)
        named = [(recipe_title(recipe), self._known[recipe.id]) for recipe in recipes]
        subjects = [f"{title}: {fault}"[:MAX_SUBJECT] for title, fault in named if fault is not None]
        return [AlarmCondition("recipe_fault", subject) for subject in subjects]
