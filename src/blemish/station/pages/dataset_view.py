"""A dataset: its counts, the faults that the audit finds, and its images."""

import asyncio
import base64
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from nicegui import ui

from blemish.dataset.audit import FINDINGS, Audit, audit_dataset
from blemish.dataset.ground_truth import has_mask, read_defect_mask
from blemish.dataset.info import DatasetInfo, describe
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import BlemishError
from blemish.imaging.read import encode, read_image
from blemish.report.overlay import as_picture, draw_outline
from blemish.station.auth import User
from blemish.station.image_store import allowed_dataset
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import alarm, class_select, dialog, div, hint, metric_tile, pager, panel, table
from blemish.station.pages.zoom_image import ZoomImage

TILES, SIDE, LARGE_SIDE = 18, 200, 2048
MAX_LISTED = 8  # findings of a kind
KNOWN_DEFECTS = {"unknown": "none", "few": "few", "known": "many"}  # among the training images


class DatasetView:
    """`on_open` is called with every dataset that was opened."""

    def __init__(self, page: PageSession, on_open: Callable[[Path, Dataset], None]) -> None:
        self.page = page
        self.on_open = on_open
        self.dataset: Dataset | None = None
        self.label = ""
        self.first = 0

    def _folders(self) -> list[Path]:
        settings = self.page.station.settings
        return [*settings.image_folders, settings.exports.resolve()]

    async def build(self, path: str) -> None:
        t, (*folders, exports) = self.page.t, self._folders()
        with panel(t("Dataset")):
            files = sorted(exports.glob("*/dataset.csv"), reverse=True)
            known = [*map(str, folders), *map(str, files[:20])]
            with div("bar"):
                field = ui.input(t("Folder or CSV on this machine"), value=path, autocomplete=known)
                field.props("dense outlined data-name=dataset").style("flex: 1 1 220px")
                on_open = self.page.handler("engineer", lambda user: self._open(field.value))
                ui.button(t("Open"), on_click=on_open).props("no-caps data-name=open")
                field.on("keydown.enter", on_open)
            if known:
                with div("bar soft"):
                    ui.label(t("readable:"))
                    for file in known[:6]:
                        ui.button(_short(file), on_click=partial(field.set_value, file)).props("flat dense no-caps")
            else:
                hint(t("Start the station with --images FOLDER to let it read datasets."))
            await self.content(None)

    async def open(self, path: str) -> None:
        await self.page.handler("engineer", lambda user: self._open(path))()

    async def _open(self, given: str) -> None:
        path = allowed_dataset(given, self._folders())
        path = path / "dataset.csv" if (path / "dataset.csv").is_file() else path
        self.dataset = await asyncio.to_thread(read_dataset, path)
        self.label, self.first = "", 0
        info = await asyncio.to_thread(describe, self.dataset)
        self.on_open(path, self.dataset)
        await self.content.refresh(info)

    @ui.refreshable_method
    async def content(self, info: DatasetInfo | None) -> None:
        t, dataset = self.page.t, self.dataset
        if info is None or dataset is None:
            hint(t("Open a dataset to see its contents."))
            return
        with div("figures"):
            metric_tile(t("images"), f"{info.images:,}", info.format)
            metric_tile(t("defects in training"), t(KNOWN_DEFECTS[info.setting]))
            sizes = t("{number} sizes", number=len(info.sizes)) if len(info.sizes) > 1 else ""
            metric_tile(t("size"), str(info.sizes[0]) if info.sizes else "–", sizes)
            metric_tile(t("annotations"), str(len(info.annotations)), ", ".join(map(t, info.annotations)))
        splits = sorted({split for counts in info.counts.values() for split in counts})
        rows = ((t(label), *(f"{counts.get(split, 0):,}" for split in splits)) for label, counts in info.counts.items())
        table(rows, [t(name) for name in ("class", *splits)])
        self._audit_panel()
        with div("bar"):
            choice = class_select(self.page, dataset.classes, "all images", self.label)
            choice.on_value_change(self.page.handler("engineer", lambda user: self._choose(choice.value)))
        await self.gallery()

    def _audit_panel(self) -> None:
        t = self.page.t
        results = div("stack")

        async def audit(user: User) -> None:
            if self.dataset is None:
                return
            results.clear()
            with results, div("bar"):
                ui.spinner(size="20px")
                hint(t("Checking every image …"))
            found = await asyncio.to_thread(audit_dataset, self.dataset)
            results.clear()
            with results:
                _findings(self.page, found)

        with results:
            button = ui.button(t("Audit"), icon="fact_check", on_click=self.page.handler("engineer", audit))
            button.props("no-caps outline data-name=audit").style("align-self: flex-start")

    async def _choose(self, label: str) -> None:
        self.label, self.first = label, 0
        await self.gallery.refresh()

    @ui.refreshable_method
    async def gallery(self) -> None:
        assert self.dataset is not None
        t = self.page.t
        samples = [s for s in self.dataset.samples if self.label in ("", s.label)]
        shown = samples[self.first : self.first + TILES]
        pictures = await asyncio.to_thread(lambda: [sample_picture(sample) for sample in shown])
        with div("tiles").props("data-name=gallery"):
            for sample, source in zip(shown, pictures, strict=True):
                with div("thumb"):
                    if source:
                        image = ui.element("img").props(f'src="{source}" alt=""').classes("picture")
                        image.style("cursor: zoom-in").on("click", partial(self._enlarge, sample))
                    else:
                        ui.label(t("unreadable")).classes("no-picture")
                    ui.label(sample.image.name).tooltip(str(sample.image))
                    hint(f"{t(sample.label or 'unknown')} · {t(sample.split or 'no split')}")
        last = self.first + len(shown)
        pager(self.page, self.first + 1, last, len(samples), partial(self._turn, -TILES), partial(self._turn, TILES))

    async def _enlarge(self, sample: Sample) -> None:
        source = await asyncio.to_thread(sample_picture, sample, LARGE_SIDE)
        with dialog(sample.image.name, width=1400) as window:
            if source is not None:
                ZoomImage(source).props("data-name=enlarged")
            hint(self.page.t("The wheel zooms, the pointer moves the picture."))
            ui.button(self.page.t("Close"), on_click=window.close).props("no-caps flat")

    async def _turn(self, by: int) -> None:
        self.first += by
        await self.gallery.refresh()


def _findings(page: PageSession, found: Audit) -> None:
    t, values = page.t, found.as_dict()
    listed = [(title, values[name]) for name, title in FINDINGS if values[name]]
    if not listed:
        with div("bar"):
            ui.icon("task_alt", color="positive", size="22px")
            ui.label(t("No faults in these {number:,} images.", number=found.images))
    if found.serious:
        alarm(t("Correct this before you train with this dataset."))
    for title, lines in listed:
        with ui.expansion(f"{t(title)}: {len(lines):,}").props("dense").style("width: 100%"):
            for line in lines[:MAX_LISTED]:
                ui.label(" = ".join(line["images"]) if isinstance(line, dict) else str(line)).classes("mono")


def sample_picture(sample: Sample, side: int = SIDE) -> str | None:
    """The image with its defects outlined, as a data URI, or None where it cannot be read."""
    try:
        image = read_image(sample.image)
        picture = as_picture(image)
        if sample.label != GOOD and (has_mask(sample) or sample.boxes or sample.shapes):
            picture = draw_outline(picture, read_defect_mask(sample, (image.shape[0], image.shape[1])))
    except BlemishError:
        return None
    scale = min(1.0, side / max(picture.shape[:2])) if side > SIDE else side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return "data:image/jpeg;base64," + base64.b64encode(encode(small, ".jpg")).decode()


def _short(path: str) -> str:
    parts = Path(path).parts
    return "/".join(parts[-2:]) if len(parts) > 3 else path
