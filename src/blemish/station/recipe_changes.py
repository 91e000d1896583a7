"""A change of a recipe names the version that was read, and is refused where that is not the present one."""

from sqlalchemy.orm import Session

from blemish.errors import BlemishError
from blemish.station.models import RecipeRow
from blemish.station.recipes import active_recipe, last_version, recipe_title


class StaleRecipeError(BlemishError):
    """A change was based on a version of a recipe that has been replaced since."""


def check_active(session: Session, based_on: str) -> RecipeRow:
    """The active recipe, where it still is the one with the title `based_on`; else raises StaleRecipeError.

    A change must not reach another product than the one that was read, or undo what a colleague has changed since.
    """
    active = active_recipe(session)
    if active is None or recipe_title(active) != based_on:
        title = "-" if active is None else recipe_title(active)
        raise StaleRecipeError(
            f"the change was made for {based_on[:120]}, but {title} is active now; reload, and make it again"
        )
    return active


def is_current(session: Session, recipe: RecipeRow) -> bool:
    """Whether a recipe is the active one, or the newest version of its name."""
    return recipe.version == last_version(session, recipe.name) or recipe is active_recipe(session)
