"""The recipes, the active one among them, their comparison, and the golden set that they are checked on."""

from functools import partial

from nicegui import ui
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.dataset.sample import GOOD
from blemish.station.auth import User
from blemish.station.golden_set import add_golden, count_candidates, list_candidates
from blemish.station.models import GoldenRow, InspectionRow, RecipeRow
from blemish.station.pages.activate_dialog import activate
from blemish.station.pages.camera_settings import edit_cameras
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import dialog, div, hint, local_time, panel, part_name, part_tile
from blemish.station.recipe_difference import compare_recipes
from blemish.station.recipes import active_recipe, recipe_title
from blemish.station.repository import reviewed_label

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
        rows, active_id, golden, known = await self.page.read(_load)
        with div("bar"):
            hint(t("Parts in the golden set: {number}. Add parts to it when you review them.", number=golden))
            if known:
                offer = ui.button(t("Choose from known parts ({number})", number=known), icon="verified")
                offer.on_click(self.page.handler("engineer", self._offer_golden))
                offer.props("no-caps outline dense data-name=offer-golden")
            ui.space()
            if len(rows) > 1:
                compare = self.page.handler("operator", partial(self._compare, rows, active_id))
                button = ui.button(t("Compare"), icon="difference", on_click=compare)
                button.props("no-caps flat dense data-name=compare-recipes")
        newest = {row.name: row.id for row in reversed(rows)}  # of a name, the newest version; the newest are first
        for row in rows:
            with div("bar").props(f"data-name=recipe-{row.name}-{row.version}"):
                ui.label(recipe_title(row)).style("font-weight: 600")
                ui.label(row.bundle.manifest["provenance"]["method"])
                hint(f"{local_time(row.created_at)} · {row.created_by}")
                ui.space()
                if row.id in (active_id, newest[row.name]):  # of no other a change may be made
                    cameras = ui.button(t("Cameras"), icon="photo_camera")
                    cameras.on_click(self.page.handler("engineer", partial(self._edit_cameras, row)))
                    cameras.props("no-caps flat dense data-name=cameras")
                if row.id == active_id:
                    ui.label(t("active")).classes("verdict pass")
                else:
                    on_click = self.page.handler("engineer", partial(self._activate, row.id))
                    ui.button(t("Activate"), on_click=on_click).props("no-caps flat dense")
                if row.name.isdigit():
                    text = t("Its name is a number, which is taken for an id: ask for it by its id, {id}.", id=row.id)
                    hint(text).style("flex-basis: 100%")
                if row.note:
                    hint(t(row.note)).style("flex-basis: 100%")

    async def _activate(self, recipe_id: int, user: User) -> None:
        await activate(self.page, user, recipe_id, "", self.content.refresh)

    async def _edit_cameras(self, row: RecipeRow, user: User) -> None:
        edit_cameras(self.page, row, self.content.refresh)

    async def _compare(self, rows: list[RecipeRow], active_id: int | None, user: User) -> None:
        """Two recipes, value by value: what differs first."""
        t = self.page.t
        titles = {row.id: recipe_title(row) for row in rows}
        other = next(row.id for row in rows if row.id != active_id)
        with dialog(t("Comparison of recipes"), 900) as window:
            with div("bar"):
                first = ui.select(titles, value=active_id if active_id in titles else rows[-1].id)
                second = ui.select(titles, value=other)
                for field, name in ((first, "first"), (second, "second")):
                    field.props(f'dense outlined options-dense aria-label="{t("Recipe")}" data-name={name}-recipe')

            @ui.refreshable
            def differences() -> None:
                chosen = [next(row for row in rows if row.id == field.value) for field in (first, second)]
                with div("scroll").style("max-height: 60vh"), ui.element("table").classes("table facts"):
                    for difference in compare_recipes(*chosen):
                        own = (difference.first, difference.second)
                        if difference.name.text == "reason":  # some are the station's own words
                            own = (t(own[0]), t(own[1]))
                        with ui.element("tr").classes("" if difference.same else "differs"):
                            for text in (difference.name.translated(t), *own):
                                with ui.element("td"):
                                    ui.label(text)

            differences()
            for field in (first, second):
                field.on_value_change(differences.refresh)
            ui.button(t("Close"), on_click=window.close).props("no-caps flat")

    async def _offer_golden(self, user: User) -> None:
        """Known and reviewed parts, defective ones first, for the golden set; each can be left out."""
        t = self.page.t
        rows = await self.page.read(list_candidates)
        left_out: set[int] = set()
        with dialog(t("Golden set"), 760) as window:
            hint(t("Parts whose true class is known. A recipe that decides one of them wrongly is not activated."))
            with div("tiles").style("max-height: 55vh; overflow: auto"):
                for row in rows:
                    with div("stack").style("gap: 2px"):
                        with part_tile(self.page, row.id, [row.verdict], kind="preview", new_tab=True):
                            ui.label(part_name(self.page, row.part_id, row.id))
                        box = ui.checkbox(t(reviewed_label(row) or GOOD), value=True).props("dense")
                        box.on_value_change(
                            lambda event, key=row.id: left_out.discard(key) if event.value else left_out.add(key)
                        )

            async def add(user: User) -> None:
                keys = [row.id for row in rows if row.id not in left_out]
                await self.page.write(_add_golden, keys, user.name)
                window.close()
                self.page.notify(t("Parts added to the golden set: {number}", number=len(keys)))
                await self.content.refresh()

            with div("bar"):
                on_click = self.page.handler("engineer", add)
                ui.button(t("Add to the golden set"), on_click=on_click).props("no-caps data-name=add-golden")
                ui.button(t("Close"), on_click=window.close).props("no-caps flat")


def _add_golden(session: Session, keys: list[int], user: str) -> None:
    for key in keys:
        row = session.get_one(InspectionRow, key)
        add_golden(session, row, reviewed_label(row) or GOOD, user)


def _load(session: Session) -> tuple[list[RecipeRow], int | None, int, int]:
    rows = session.scalars(select(RecipeRow).order_by(RecipeRow.id.desc()).limit(MAX_LISTED)).all()
    active = active_recipe(session)
    golden = session.scalar(select(func.count()).select_from(GoldenRow)) or 0
    return list(rows), None if active is None else active.id, golden, count_candidates(session)
