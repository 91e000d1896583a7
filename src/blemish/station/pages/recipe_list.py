"""The recipes, the active one among them, and the size of the golden set that they are checked on."""

from functools import partial

from nicegui import ui
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.station.auth import User
from blemish.station.models import GoldenRow, RecipeRow
from blemish.station.pages.activate_dialog import activate
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, hint, local_time, panel
from blemish.station.recipes import active_recipe

MAX_LISTED = 12


class RecipeList:
    def __init__(self, page: PageSession) -> None:
        self.page = page

    async def build(self) -> None:
        with panel(self.page.t("Recipes")):
            await self.content()

    @ui.refreshable_method
    async def content(self) -> None:
        t = self.page.t
        rows, active_id, golden = await self.page.read(_load)
        hint(t("Golden set: {number} parts. Add parts to it when you review them.", number=golden))
        for row in rows:
            with div("bar").props(f"data-name=recipe-{row.name}-{row.version}"):
                ui.label(f"{row.name} v{row.version}").style("font-weight: 600")
                ui.label(row.bundle.manifest["provenance"]["method"])
                hint(f"{local_time(row.created_at)} · {row.created_by}")
                ui.space()
                if row.id == active_id:
                    ui.label(t("active")).classes("verdict pass")
                else:
                    on_click = self.page.handler("engineer", partial(self._activate, row.id))
                    ui.button(t("Activate"), on_click=on_click).props("no-caps flat dense")

    async def _activate(self, recipe_id: int, user: User) -> None:
        await activate(self.page, user, recipe_id, "", self.content.refresh)


def _load(session: Session) -> tuple[list[RecipeRow], int | None, int]:
    rows = session.scalars(select(RecipeRow).order_by(RecipeRow.id.desc()).limit(MAX_LISTED)).all()
    active = active_recipe(session)
    golden = session.scalar(select(func.count()).select_from(GoldenRow)) or 0
    return list(rows), None if active is None else active.id, golden
