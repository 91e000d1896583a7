"""The label book of a project: for each class its rule, borderline cases and a picture."""

import asyncio
from urllib.parse import urlencode

from nicegui import ui

from blemish.dataset.sample import GOOD
from blemish.errors import DataError
from blemish.station.auth import User
from blemish.station.labelling.project import ClassRule
from blemish.station.pages.label_state import LabellingState
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, hint, panel


class LabelBook:
    def __init__(self, page: PageSession, state: LabellingState) -> None:
        self.page = page
        self.state = state

    def build(self) -> None:
        t = self.page.t
        hint(t("What belongs to a class and what just does not; it is shown beside every image that is labelled."))
        self.entries()
        with panel(t("Add a class, or change one")):
            with div("bar"):
                name = ui.input(t("class"), autocomplete=list(self.state.project.classes())[1:])
                name.props("dense outlined data-name=book-class").style("width: 180px")
                example = ui.select(
                    list(self.state.project.samples), label=t("picture"), with_input=True, clearable=True
                )
                example.props("dense outlined options-dense data-name=book-picture").style("width: 260px")
            rule = ui.textarea(t("Rule")).props("dense outlined autogrow rows=1 data-name=book-rule")
            borderline = ui.textarea(t("Borderline cases")).props("dense outlined autogrow rows=1 data-name=borderline")

            async def save(user: User) -> None:
                wanted = name.value.strip()[:200]
                if not wanted or not wanted.isprintable() or wanted == GOOD:
                    raise DataError(t("Enter the name of a defect class."))
                entry = ClassRule(
                    name=wanted, rule=rule.value.strip()[:4000], borderline=borderline.value.strip()[:4000],
                    example=example.value or "",
                )  # fmt: skip
                others = [one for one in self.state.project.book if one.name != wanted]
                book = sorted([*others, entry], key=lambda one: one.name)
                await asyncio.to_thread(self.state.project.write_book, book)
                for field in (name, rule, borderline):
                    field.set_value("")
                self.entries.refresh()

            button = ui.button(t("Save"), on_click=self.page.handler("engineer", save))
            button.props("no-caps data-name=save-class").style("align-self: flex-start")
            button.set_enabled(self.page.may("engineer"))

    @ui.refreshable_method
    def entries(self) -> None:
        t, project = self.page.t, self.state.project
        if not project.book:
            hint(t("The label book is empty."))
        for entry in project.book:
            with panel(t(entry.name)) as box, div("bar"):
                box.props("data-name=book-entry")
                if entry.example in project.samples:
                    query = urlencode({"image": entry.example, "side": 400})
                    source = f"/v1/labelling/{project.name}/picture?{query}"
                    ui.element("img").props(f'src="{source}" alt="{entry.example}"').classes("picture").style(
                        "width: 180px"
                    )
                with div("stack").style("flex: 1 1 240px"):
                    ui.label(entry.rule).style("white-space: pre-wrap")
                    if entry.borderline:
                        hint(f"{t('borderline')}: {entry.borderline}").style("white-space: pre-wrap")
