"""A dataset: how many images of what, what is wrong with it, and the images themselves."""

import asyncio
import base64
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from nicegui import ui

from blemish.dataset.audit import Audit, audit_dataset
from blemish.dataset.ground_truth import has_mask, read_defect_mask
from blemish.dataset.info import DatasetInfo, describe
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import BlemishError
from blemish.imaging.read import encode, read_image
from blemish.report.overlay import as_picture, draw_outline
from blemish.station.auth import User
from blemish.station.image_store import allowed_dataset
from blemish.station.pages.layout import figure, panel
from blemish.station.pages.session import Visitor

TILES, SIDE = 18, 200
MOST = 8  # findings of a kind that are listed
FINDINGS = (
    ("unreadable", "Unreadable files"),
    ("mask_size_mismatch", "Masks of another size than their image"),
    ("duplicates_across_splits", "The same image in two splits"),
    ("duplicates_across_labels", "The same image under two labels"),
    ("groups_across_splits", "Groups in two splits"),
    ("broken_annotations", "Annotations that cannot be used"),
    ("empty_masks", "Defective, but nothing is drawn in the mask"),
    ("masks_on_good", "Good, but something is drawn in the mask"),
    ("boxes_outside", "Boxes beyond the image"),
    ("boxes_empty", "Boxes without an area"),
    ("boxes_of_other_class", "Boxes of another class than the image"),
    ("tiny", "Very small images"),
    ("duplicates", "The same image more than once"),
    ("near_duplicates", "Nearly the same image more than once"),
)


class DatasetView:
    """`on_open` is told of every dataset that was opened."""

    def __init__(self, visitor: Visitor, on_open: Callable[[Path, Dataset], None]) -> None:
        self.visitor = visitor
        self.on_open = on_open
        self.dataset: Dataset | None = None
        self.label: str | None = None
        self.first = 0

    def _folders(self) -> list[Path]:
        settings = self.visitor.station.settings
        return [*settings.image_folders, settings.exports.resolve()]

    async def show(self, path: str) -> None:
        t = self.visitor.t
        with panel(t("Dataset")):
            exports = sorted(self._folders()[-1].glob("*/dataset.csv"), reverse=True)
            known = [str(folder) for folder in self._folders()[:-1]] + [str(file) for file in exports[:20]]
            with ui.element("div").classes("bar"):
                field = ui.input(t("Folder or CSV on this machine"), value=path, autocomplete=known)
                field.props("dense outlined data-name=dataset").style("flex: 1 1 220px")
                opening = self.visitor.does("engineer", lambda user: self._open(field.value))
                ui.button(t("Open"), on_click=opening).props("no-caps data-name=open")
                field.on("keydown.enter", opening)
            if known:
                with ui.element("div").classes("bar soft"):
                    ui.label(t("may be read:"))
                    for place in known[:6]:
                        ui.button(_short(place), on_click=partial(field.set_value, place)).props("flat dense no-caps")
            else:
                ui.label(t("Start the station with --images FOLDER to let it read data sets.")).classes("soft")
            await self.content(None)

    async def open(self, path: str) -> None:
        await self.visitor.does("engineer", lambda user: self._open(path))()

    async def _open(self, given: str) -> None:
        place = allowed_dataset(given, self._folders())
        place = place / "dataset.csv" if (place / "dataset.csv").is_file() else place
        self.dataset = await asyncio.to_thread(read_dataset, place)
        self.label, self.first = None, 0
        info = await asyncio.to_thread(describe, self.dataset)
        self.on_open(place, self.dataset)
        await self.content.refresh(info)

    @ui.refreshable_method
    async def content(self, info: DatasetInfo | None) -> None:
        t, dataset = self.visitor.t, self.dataset
        if info is None or dataset is None:
            ui.label(t("Open a dataset to see what is in it.")).classes("soft")
            return
        with ui.element("div").classes("figures"):
            figure(t("images"), f"{info.images:,}", info.format)
            figure(t("setting"), t(info.setting), t("what is known of defects"))
            figure(
                t("size"),
                next(iter(info.sizes), "–"),
                t("{number} sizes", number=len(info.sizes)) if len(info.sizes) > 1 else "",
            )
            figure(t("truth"), str(len(info.truth)), ", ".join(t(name) for name in info.truth))
        _counts(self.visitor, info)
        await self._audit_part()
        with ui.element("div").classes("bar"):
            choice = ui.select({None: t("all images"), **{name: t(name) for name in dataset.classes}}, value=self.label)
            choice.props("dense outlined options-dense").style("width: 180px")
            choice.on_value_change(self.visitor.does("engineer", lambda user: self._choose(choice.value)))
        await self.gallery()

    async def _audit_part(self) -> None:
        t = self.visitor.t
        place = ui.element("div").classes("stack")

        async def audit(user: User) -> None:
            dataset = self.dataset
            if dataset is None:
                return
            place.clear()
            with place, ui.element("div").classes("bar"):
                ui.spinner(size="20px")
                ui.label(t("Every image is looked at …")).classes("soft")
            found = await asyncio.to_thread(audit_dataset, dataset)
            place.clear()
            with place:
                _findings(self.visitor, found)

        with place:
            button = ui.button(t("Audit"), icon="fact_check", on_click=self.visitor.does("engineer", audit))
            button.props("no-caps outline data-name=audit").style("align-self: flex-start")

    async def _choose(self, label: str | None) -> None:
        self.label, self.first = label, 0
        await self.gallery.refresh()

    @ui.refreshable_method
    async def gallery(self) -> None:
        assert self.dataset is not None
        t = self.visitor.t
        samples = [s for s in self.dataset.samples if self.label in (None, s.label)]
        shown = samples[self.first : self.first + TILES]
        pictures = await asyncio.to_thread(lambda: [_thumbnail(sample) for sample in shown])
        with ui.element("div").classes("tiles").props("data-name=gallery"):
            for sample, source in zip(shown, pictures, strict=True):
                with ui.element("div").classes("thumb"):
                    if source:
                        ui.element("img").props(f'src="{source}" alt=""').classes("picture")
                    else:
                        ui.label(t("unreadable")).classes("no-picture")
                    ui.label(sample.image.name).tooltip(str(sample.image))
                    ui.label(f"{t(sample.label or 'unknown')} · {t(sample.split or 'no split')}").classes("soft")
        with ui.element("div").classes("bar"):
            back = ui.button(icon="chevron_left", on_click=partial(self._turn, -TILES)).props("flat dense")
            back.set_enabled(self.first > 0)
            ui.label(f"{self.first + 1} – {self.first + len(shown)} / {len(samples)}").classes("soft")
            forth = ui.button(icon="chevron_right", on_click=partial(self._turn, TILES)).props("flat dense")
            forth.set_enabled(self.first + TILES < len(samples))

    async def _turn(self, by: int) -> None:
        self.first += by
        await self.gallery.refresh()


def _counts(visitor: Visitor, info: DatasetInfo) -> None:
    splits = sorted({split for counts in info.counts.values() for split in counts})
    with ui.element("div").classes("scroll"), ui.element("table").classes("table"):
        with ui.element("tr"):
            for name in ("class", *splits):
                with ui.element("th").classes("number" if name != "class" else ""):
                    ui.label(visitor.t(name))
        for label, counts in info.counts.items():
            with ui.element("tr"):
                with ui.element("td"):
                    ui.label(visitor.t(label))
                for split in splits:
                    with ui.element("td").classes("number"):
                        ui.label(f"{counts.get(split, 0):,}")


def _findings(visitor: Visitor, found: Audit) -> None:
    t, values = visitor.t, found.as_dict()
    listed = [(title, values[name]) for name, title in FINDINGS if values[name]]
    if not listed:
        with ui.element("div").classes("bar"):
            ui.icon("task_alt", color="positive", size="22px")
            ui.label(t("Nothing is wrong with these {number:,} images.", number=found.images))
        return
    if found.serious:
        with ui.element("div").classes("alarm"):
            ui.icon("warning", size="22px")
            ui.label(t("Mend this before you learn from these data."))
    for title, lines in listed:
        with ui.expansion(f"{t(title)}: {len(lines):,}").props("dense").style("width: 100%"):
            for line in lines[:MOST]:
                ui.label(" = ".join(line["images"]) if isinstance(line, dict) else str(line)).classes("mono")


def _thumbnail(sample: Sample) -> str | None:
    """The image with its defects outlined, as a data URI, or None where it cannot be read."""
    try:
        image = read_image(sample.image)
        drawn = as_picture(image)
        if sample.label != GOOD and (has_mask(sample) or sample.boxes or sample.shapes):
            drawn = draw_outline(drawn, read_defect_mask(sample, (image.shape[0], image.shape[1])))
    except BlemishError:
        return None
    scale = SIDE / max(drawn.shape[:2])
    size = (max(1, round(drawn.shape[1] * scale)), max(1, round(drawn.shape[0] * scale)))
    small = np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), np.uint8)
    return "data:image/jpeg;base64," + base64.b64encode(encode(small, ".jpg")).decode()


def _short(place: str) -> str:
    parts = Path(place).parts
    return "/".join(parts[-2:]) if len(parts) > 3 else place
