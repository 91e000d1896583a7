"""Labelling of a whole data set: its images, the label book, the agreement of two people, and the data set written."""

import asyncio
from typing import Any
from urllib.parse import quote

from fastapi import Request
from nicegui import ui

from blemish.station.auth import LOCAL_USER, User
from blemish.station.image_store import allowed_dataset
from blemish.station.labelling.project import LabelProject
from blemish.station.pages.drop_zone import DropZone
from blemish.station.pages.label_book import LabelBook
from blemish.station.pages.label_comparison import LabelComparison
from blemish.station.pages.label_editor import LabelEditor
from blemish.station.pages.label_export import LabelExport
from blemish.station.pages.label_gallery import LabelGallery
from blemish.station.pages.label_state import LabellingState
from blemish.station.pages.session import PageSession
from blemish.station.pages.unsaved import may_leave
from blemish.station.pages.widgets import alarm, div, hint, panel
from blemish.station.repository import log_change

TABS = {
    "images": "Images",
    "book": "Label book",
    "agreement": "Agreement of two people",
    "export": "Dataset and training",
}


async def build(page: PageSession, request: Request) -> None:
    name = request.query_params.get("project", "")[:100]
    if name:
        project = await asyncio.to_thread(page.station.labelling.open, name)
        await LabellingPage(page, project).build()
    else:
        await _choose_project(page)


async def _choose_project(page: PageSession) -> None:
    t, station = page.t, page.station
    names = await asyncio.to_thread(station.labelling.names)
    folders = [*map(str, station.settings.image_folders)]
    with panel(t("Open a dataset to label")):
        hint(t("The images stay where they are and are not changed; labels are kept by the station."))
        with div("bar"):
            field = ui.input(
                t("Folder or CSV on this machine"), value=folders[0] if folders else "", autocomplete=folders
            )
            field.props("dense outlined data-name=folder").style("flex: 1 1 220px")

            async def create(user: User) -> None:
                path = allowed_dataset(
                    field.value, [*station.settings.image_folders, station.settings.exports.resolve()]
                )
                path = path / "dataset.csv" if (path / "dataset.csv").is_file() else path
                project = await asyncio.to_thread(station.labelling.create, path, user.name)
                await page.write(log_change, user.name, "labelling", project.name, None, {"source": str(path)})
                ui.navigate.to(f"/labelling?project={quote(project.name)}")

            opening = page.handler("engineer", create)
            ui.button(t("Open"), on_click=opening).props("no-caps data-name=open").set_enabled(page.may("engineer"))
            field.on("keydown.enter", opening)
        if not folders:
            hint(t("Start the station with --images FOLDER to let it read datasets."))
    with panel(t("Labelling projects")):
        if not names:
            hint(t("None yet."))
        for name in names:
            ui.link(name, f"/labelling?project={quote(name)}").props("data-name=project")


class LabellingPage:
    def __init__(self, page: PageSession, project: LabelProject) -> None:
        user = page.user()
        self.page = page
        self.local = user is None or user == LOCAL_USER
        self.state = LabellingState(project, "" if user is None else user.name)
        self.gallery = LabelGallery(page, self.state, self._label)
        self.export = LabelExport(page, self.state)
        self.comparison = LabelComparison(page, self.state, self._label)
        self.editor: LabelEditor | None = None

    async def build(self) -> None:
        t, project = self.page.t, self.state.project
        with div("bar"):
            ui.link(t("All projects"), "/labelling")
            ui.label(project.name).style("font-weight: 650")
            hint(str(project.source)).style("overflow-wrap: anywhere; min-width: 0")
            ui.space()
            person = (
                ui.input(t("Labelled by")).bind_value(self.state, "person").props("dense outlined data-name=person")
            )
            person.style("width: 150px").set_enabled(self.local)
            alone = ui.switch(t("Hide what others said")).bind_value(self.state, "independent")
            alone.props("dense data-name=independent").on_value_change(lambda: self.gallery.content.refresh())
        if project.problem:
            alarm(
                t("The folder is read as images without annotations: {reason}", reason=self.page.error(project.problem))
            )
        with ui.tabs().props("no-caps align=left dense outside-arrows mobile-arrows") as tabs:
            for name, title in TABS.items():
                ui.tab(name, t(title)).props(f"data-name=tab-{name}")
        with ui.tab_panels(tabs, value="images", on_change=self._changed, animated=False).classes("bare"):
            with ui.tab_panel("images"):
                await self.images()
            with ui.tab_panel("book"):
                LabelBook(self.page, self.state).build()
            with ui.tab_panel("agreement"):
                self.comparison.content()
            with ui.tab_panel("export"):
                await self.export.content()
        self.tabs = tabs
        ui.keyboard(on_key=self._on_key)

    @ui.refreshable_method
    async def images(self) -> None:
        if self.editor is not None:
            await self.editor.content()
            return
        await self.gallery.content()
        self._upload()

    def _upload(self) -> None:
        t, settings = self.page.t, self.page.station.settings
        with panel(t("Add images")):
            hint(t("They are kept by the station, beside the images of the folder."))
            if self.page.may("engineer"):
                text = t("Drop image files here, or click to choose them.")
                DropZone(self.page, text, settings.max_image_bytes, self._upload_image).props("data-name=drop")

    async def _upload_image(self, event: Any) -> None:
        async def add(user: User) -> None:
            content = await event.file.read()
            await asyncio.to_thread(self.state.project.add_image, event.file.name, content)
            await self.gallery.content.refresh()

        await self.page.handler("engineer", add)()

    async def _label(self, images: list[str], index: int) -> None:
        """Show the editor with some of the images."""
        if not await may_leave(self.page):
            return
        self.editor = LabelEditor(self.page, self.state, list(images), index, self._close)
        self.tabs.set_value("images")
        await self.images.refresh()

    async def _close(self) -> None:
        self.editor = None
        await self.images.refresh()

    async def _changed(self) -> None:
        await self.export.content.refresh()
        self.comparison.content.refresh()

    async def _on_key(self, event: Any) -> None:
        if self.editor is not None and self.tabs.value == "images":
            await self.editor.on_key(event)
