"""The labels of a project written as a data set in any layout, and the way to a training with it."""

import asyncio
import shutil
from pathlib import Path
from urllib.parse import quote

from nicegui import ui

from blemish.dataset.read import FORMATS
from blemish.dataset.write import convert
from blemish.errors import DataError
from blemish.station.auth import User
from blemish.station.labelling.project import LabelProject, export_name
from blemish.station.pages.label_state import LabellingState
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import alarm, div, hint, metric_tile, panel
from blemish.station.repository import log_change


class LabelExport:
    def __init__(self, page: PageSession, state: LabellingState) -> None:
        self.page = page
        self.state = state
        self.written: Path | None = None
        self.losses: list[str] = []

    @ui.refreshable_method
    async def content(self) -> None:
        t, project = self.page.t, self.state.project
        dataset = await asyncio.to_thread(project.dataset)
        counts = await asyncio.to_thread(self.state.count_classes)
        without = len(project.samples) - len(dataset)
        with panel(t("Labels of the dataset")):
            with div("figures"):
                metric_tile(
                    t("images with a label"), f"{len(dataset):,}", t("{number} without, left out", number=without)
                )
                disputed = sum(map(project.disputed, project.samples))
                metric_tile(t("two people differ"), f"{disputed:,}", t("the label saved last is written"))
                for name, count in counts.items():
                    metric_tile(t(name), f"{count:,}")
            layouts = [name for name, one in FORMATS.items() if one.write is not None]
            with div("bar"):
                layout = ui.select(layouts, value="csv", label=t("Layout")).props("dense outlined options-dense")
                layout.props("data-name=layout").style("width: 180px")
                write = self.page.handler("engineer", lambda user: self._write(user, layout.value))
                button = ui.button(t("Write dataset"), icon="save", on_click=write).props("no-caps data-name=write")
                button.set_enabled(self.page.may("engineer") and bool(len(dataset)))
            hint("").bind_text_from(layout, "value", lambda name: t(FORMATS[name].description))
            self._result()

    def _result(self) -> None:
        t = self.page.t
        if self.written is None:
            return
        ui.label(str(self.written)).classes("mono").props("data-name=written")
        for line in self.losses:
            alarm(line)
        with div("bar"):
            folder = self.written if self.written.is_dir() else self.written.parent
            link = ui.link(t("Train with it"), f"/training?path={quote(str(self.written))}")
            link.props("data-name=train-with-it")
            packing = self.page.handler("engineer", lambda user: _download(folder))
            ui.button(t("Download"), icon="download", on_click=packing).props("no-caps flat")
            hint(t("A CSV names the images where they are; other layouts have copies."))

    async def _write(self, user: User, layout: str) -> None:
        settings = self.page.station.settings
        self.written, self.losses = await asyncio.to_thread(write_labels, self.state.project, layout, settings.exports)
        details = {"layout": layout, "written": str(self.written)}
        await self.page.write(log_change, user.name, "export", self.state.project.name, None, details)
        await self.content.refresh()


def write_labels(project: LabelProject, layout: str, exports: Path) -> tuple[Path, list[str]]:
    """Write the labelled images to a new folder; its path, or that of the CSV, and what the layout could not keep."""
    dataset = project.dataset()
    if not len(dataset):
        raise DataError("no image has a label yet")
    folder = exports.resolve() / export_name(project)
    folder.mkdir(parents=True)
    target = folder / "dataset.csv" if layout == "csv" else folder / layout
    try:
        losses = convert(dataset, layout, target)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return target, losses


async def _download(folder: Path) -> None:
    ui.download.file(await asyncio.to_thread(shutil.make_archive, str(folder), "zip", str(folder)))
