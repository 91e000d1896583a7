"""Recipes, which of them is in use, and the golden set that guards them."""

from functools import partial

from nicegui import ui
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.station import recipes
from blemish.station.auth import User
from blemish.station.models import GoldenRow, RecipeRow
from blemish.station.pages.activate_dialog import activate
from blemish.station.pages.frame import panel
from blemish.station.pages.session import Visitor
from blemish.station.pages.widgets import local

SHOWN = 12


class RecipeList:
    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    async def show(self) -> None:
        with panel(self.visitor.t("Recipes")):
            await self.table()

    @ui.refreshable_method
    async def table(self) -> None:
        t = self.visitor.t
        rows, in_use, golden = await self.visitor.read(_load)
        ui.label(t("Golden set: {number} parts. Add parts to it when you review them.", number=golden)).classes("soft")
        for row in rows:
            with ui.element("div").classes("bar").props(f"data-name=recipe-{row.name}-{row.version}"):
                ui.label(f"{row.name} v{row.version}").style("font-weight: 600")
                ui.label(row.bundle.manifest["provenance"]["method"])
                ui.label(f"{local(row.created_at)} · {row.created_by}").classes("soft")
                ui.space()
                if row.id == in_use:
                    ui.label(t("in use")).classes("verdict pass")
                else:
                    use = self.visitor.does("engineer", partial(self._use, row.id))
                    ui.button(t("Use"), on_click=use).props("no-caps flat dense")

    async def _use(self, recipe_id: int, user: User) -> None:
        await activate(self.visitor, user, recipe_id, "", self.table.refresh)


def _load(session: Session) -> tuple[list[RecipeRow], int | None, int]:
    rows = list(session.scalars(select(RecipeRow).order_by(RecipeRow.id.desc()).limit(SHOWN)))
    in_use = recipes.active(session)
    golden = session.scalar(select(func.count()).select_from(GoldenRow)) or 0
    return rows, None if in_use is None else in_use.id, golden
