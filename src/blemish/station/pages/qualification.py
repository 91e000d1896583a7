"""Until when recipes are qualified, and the dialog that states it."""

from datetime import datetime, timedelta
from functools import partial

from nicegui import ui
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import DataError
from blemish.station.auth import User
from blemish.station.models import QualificationRow, RecipeRow, now
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import dialog, div, hint, panel
from blemish.station.qualifications import last_qualification, qualify_recipe
from blemish.station.recipes import recipe_title

MAX_LISTED = 6
YEAR = timedelta(days=365)


async def list_qualifications(page: PageSession) -> None:
    """The recipes that were activated last, each with the day of its qualification."""
    t = page.t

    @ui.refreshable
    async def content() -> None:
        for recipe, row in await page.read(_load):
            with div("bar").props("data-name=qualified-recipe"):
                ui.label(recipe_title(recipe)).style("font-weight: 600")
                day = "" if row is None else f"{row.until.astimezone():%Y-%m-%d}"
                hint(t("not qualified") if row is None else t("qualified until {day}", day=day))
                button = ui.button(t("Qualify"), on_click=page.handler("engineer", partial(ask, recipe.id)))
                button.props("no-caps flat dense data-name=qualify").set_enabled(page.may("engineer"))

    async def ask(recipe_id: int, user: User) -> None:
        with dialog(t("Qualification")) as window:
            hint(t("Until when is this version of the recipe qualified, and by which dossier or study?"))
            day = ui.input(t("until"), value=f"{(now() + YEAR).astimezone():%Y-%m-%d}")
            day.props("type=date dense outlined stack-label data-name=qualified-until")
            note = ui.input(t("Note")).props("dense outlined data-name=qualified-note")

            async def save(user: User) -> None:
                until = _read_day(str(day.value or ""))
                await page.write(_save, recipe_id, until, str(note.value or ""), user.name)
                window.close()
                await content.refresh()

            ui.button(t("Save"), on_click=page.handler("engineer", save)).props("no-caps data-name=save-qualification")

    with panel(t("Qualification of recipes")):
        await content()


def _load(session: Session) -> list[tuple[RecipeRow, QualificationRow | None]]:
    query = select(RecipeRow).where(RecipeRow.activation.is_not(None)).order_by(RecipeRow.activation.desc())
    rows = session.scalars(query.limit(MAX_LISTED)).all()
    return [(row, last_qualification(session, row.id)) for row in rows]


def _read_day(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise DataError(f"invalid day '{text[:40]}'") from error


def _save(session: Session, recipe_id: int, until: datetime, note: str, user: str) -> None:
    qualify_recipe(session, session.get_one(RecipeRow, recipe_id), until, note[:2000].replace("\x00", ""), user)
