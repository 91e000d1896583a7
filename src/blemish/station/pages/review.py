"""Review: what waits for a person, one part after the other; what they say becomes the truth of the next training."""

import asyncio
import shutil
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from fastapi import Request
from nicegui import ui
from nicegui.events import KeyEventArguments
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.dataset.sample import DEFECT, GOOD
from blemish.errors import DataError
from blemish.station import golden, reviewing
from blemish.station import repository as record
from blemish.station.auth import User
from blemish.station.models import InspectionRow, ReviewRow
from blemish.station.pages.frame import dialog, empty, no_picture, panel
from blemish.station.pages.mask_editor import MaskEditor, Tool
from blemish.station.pages.session import Visitor
from blemish.station.pages.widgets import local, measurement_table

QUEUES = {"zone": "Between the thresholds", "disputed": "Disagreements", "rejects": "Rejects"}
TOOLS: dict[str, tuple[Tool, str]] = {
    "b": ("brush", "Brush"),
    "e": ("erase", "Erase"),
    "p": ("polygon", "Polygon"),
}
KEYS = (
    ("Enter", "save and go on"), ("S", "skip"), ("G", "good"), ("1 … 9", "class of defect"), ("B", "Brush"),
    ("E", "Erase"), ("P", "Polygon"), ("[ ]", "width of the brush"), ("Z", "undo"), ("H", "heat map"), ("M", "mask"),
)  # fmt: skip


async def build(visitor: Visitor, request: Request) -> None:
    page = Reviewing(visitor)
    wanted = request.query_params.get("id", "")
    await page.start(int(wanted[:9]) if wanted.isascii() and wanted.isdecimal() else None)


class Reviewing:
    """The page of one visitor: a queue, and the part of it that is shown."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.waiting: list[int] = []
        self.at = 0
        self.label = GOOD
        self.labels: tuple[str, ...] = ()
        self.note = ""
        self.editor: MaskEditor | None = None
        self.golden: ui.checkbox | None = None
        self.buttons: dict[str, ui.button] = {}
        self.tools: ui.toggle
        self.width: ui.slider
        self.heat: ui.switch
        self.other: ui.input
        self.save = visitor.does("operator", self._save)
        self.skip = visitor.does("operator", self._skip)

    async def start(self, wanted: int | None) -> None:
        t, visitor = self.visitor.t, self.visitor
        lengths = await visitor.read(reviewing.queue_lengths)
        kind = next((kind for kind in QUEUES if lengths[kind]), "zone")
        self.waiting = await visitor.read(reviewing.queue, kind) if wanted is None else [wanted]
        with ui.element("div").classes("bar"):
            names = {name: f"{t(title)} ({lengths[name]})" for name, title in QUEUES.items()}
            queues = ui.select(names, label=t("Queue"), value=kind if wanted is None else None).props(
                "dense outlined options-dense"
            )
            queues.style("min-width: 240px").props(f'aria-label="{t("Queue")}"').props("data-name=queue")
            ui.space()
            export = ui.button(t("Export reviewed parts"), icon="archive").props("outline no-caps")
        queues.on_value_change(visitor.does("operator", lambda user: self._show_queue(queues.value)))
        export.on_click(visitor.does("engineer", lambda user: self._export()))
        export.set_enabled(visitor.may("engineer"))
        await self.content()
        ui.keyboard(on_key=self._on_key)

    @ui.refreshable_method
    async def content(self) -> None:
        t = self.visitor.t
        row = await self.visitor.read(_find, self.waiting[self.at]) if self.at < len(self.waiting) else None
        self.editor, self.note, self.buttons = None, "", {}
        if row is None:
            empty("task_alt", t("Nothing waits here"), t("Parts that need a look appear here when the page is opened."))
            return
        self.labels = await self.visitor.read(labels_of, row)
        with ui.element("div").classes("grid2"):
            with ui.element("div").classes("stack"):
                self._picture(row)
            with ui.element("div").classes("stack"):
                self._truth(row)
                self._facts(row)
        self._choose(row.reviews[-1].label if row.reviews else row.label)

    def _picture(self, row: InspectionRow) -> None:
        t = self.visitor.t
        with panel():
            if row.image_path is None:
                no_picture(self.visitor)
                return
            with ui.element("div").classes("bar"):
                names = {tool: t(name) for tool, name in TOOLS.values()}
                self.tools = ui.toggle(names, value="brush", on_change=lambda e: self._set("tool", e.value))
                self.tools.props("no-caps dense unelevated toggle-color=primary padding='3px 10px'")
                self.tools.on("click", js_handler="() => document.activeElement.blur()")
                _tool_button(t("undo"), "undo", lambda: self.editor and self.editor.run_method("undo"))
                _tool_button(t("clear"), "layers_clear", lambda: self.editor and self.editor.run_method("clear"))
                self.width = ui.slider(min=1, max=100, value=12, on_change=lambda e: self._set("size", float(e.value)))
                self.width.style("width: 110px; margin: 0 8px").props(f'aria-label="{t("width of the brush")}"')
                self.heat = ui.switch(t("heat map"), on_change=lambda e: self._set("heatShown", bool(e.value)))
                self.heat.props("dense data-name=heat")
            heat = bool({"anomaly_map", "mask_scores", "class_map"} & set(row.recipe.bundle.manifest["outputs"]))
            self.editor = MaskEditor(row.id, heat, lambda changed: None).props("data-name=editor")

    def _truth(self, row: InspectionRow) -> None:
        t = self.visitor.t
        with panel(t("What is it truly?")):
            with ui.element("div").classes("bar"):
                for number, label in enumerate(self.labels):
                    button = ui.button(f"{t(label)}", on_click=partial(self._choose, label)).props("no-caps dense")
                    button.style("padding: 4px 12px")
                    with button:
                        ui.html(f"<kbd style='margin-left:8px;color:#334155'>{number or 'G'}</kbd>", sanitize=False)
                    self.buttons[label] = _blurring(button)
                self.other = ui.input(placeholder=t("another class")).props("dense outlined").style("width: 130px")
                self.other.on("keydown.enter.stop", self.visitor.does("operator", self._name))
            ui.input(t("Note")).props("dense outlined").bind_value(self, "note")
            self.golden = ui.checkbox(t("into the golden set")).props("dense data-name=golden")
            self.golden.set_enabled(self.visitor.may("engineer") and row.image_path is not None)
            with ui.element("div").classes("bar"):
                ui.button(t("Save and go on"), icon="check", on_click=self.save).props("no-caps data-name=save")
                ui.button(t("Skip"), on_click=self.skip).props("no-caps flat data-name=skip")
                ui.space()
                ui.label(f"{self.at + 1} / {len(self.waiting)}").classes("soft")
            with (
                ui.expansion(t("Keys"), icon="keyboard").props("dense").classes("soft"),
                ui.element("div").classes("bar"),
            ):
                for key, meaning in KEYS:
                    with ui.element("span"):
                        ui.html(f"<kbd>{key}</kbd> {t(meaning)}", sanitize=False)

    def _facts(self, row: InspectionRow) -> None:
        t = self.visitor.t
        with panel(t("What was found")):
            with ui.element("div").classes("bar"):
                ui.label(t(row.verdict)).classes(f"verdict {row.verdict}")
                ui.link(row.part_id or t("part {id}", id=row.id), f"/card/{row.id}").style("font-weight: 600")
                ui.label(local(row.created_at)).classes("soft")
            for reason in row.reasons:
                ui.label(self.visitor.reason(reason)).classes("soft")
            if row.regions:
                measurement_table(self.visitor, row, most=6)
            for review in row.reviews:
                ui.label(f"{local(review.at)} {review.who}: {t(review.label)} {review.note}").classes("soft")

    def _choose(self, label: str) -> None:
        self.label = label if label in self.labels else DEFECT
        for name, button in self.buttons.items():
            button.props("unelevated", remove="outline") if name == self.label else button.props("outline")

    def _set(self, name: str, value: Tool | float | bool) -> None:
        if self.editor is not None:
            self.editor.set(name, value)  # type: ignore[arg-type]

    async def _name(self, user: User) -> None:
        label = self.other.value.strip()[:200]
        if not label.isprintable() or not label:
            raise DataError(self.visitor.t("Give the class a name."))
        self.label = label
        await self._save(user)

    async def _save(self, user: User) -> None:
        if self.at >= len(self.waiting):
            return
        mask = None if self.editor is None or self.label == GOOD else await self.editor.drawn()
        into_golden = self.golden is not None and bool(self.golden.value) and user.may("engineer")
        await self.visitor.write(
            _keep_review, self.waiting[self.at], user.name, self.label, mask, self.note[:2000], into_golden
        )
        self.visitor.tell(self.visitor.t("Saved: {label}", label=self.visitor.t(self.label)))
        await self._skip(user)

    async def _skip(self, user: User) -> None:
        self.at += 1
        await self.content.refresh()

    async def _show_queue(self, kind: str) -> None:
        self.waiting, self.at = await self.visitor.read(reviewing.queue, kind), 0
        await self.content.refresh()

    async def _export(self) -> None:
        t, settings = self.visitor.t, self.visitor.station.settings
        rows = await self.visitor.read(reviewing.reviewed)
        made = await asyncio.to_thread(reviewing.export, rows, settings.images, settings.exports)
        with dialog(t("{number} reviewed parts were written as a dataset:", number=len(made))):
            ui.label(str(made.root)).classes("mono")
            with ui.element("div").classes("bar"):
                ui.link(t("Train with it"), f"/training?path={quote(str(made.root))}")
                ui.button(t("Download"), icon="download", on_click=partial(_download, made.root)).props("no-caps flat")

    async def _on_key(self, event: KeyEventArguments) -> None:
        if not event.action.keydown or event.action.repeat or event.modifiers.ctrl or event.modifiers.meta:
            return
        key = str(event.key.name)
        key = key.lower() if len(key) == 1 else key
        if key == "Enter":
            await self.save()
        elif key in ("s", "ArrowRight"):
            await self.skip()
        elif key == "g" or (key.isdecimal() and 0 < int(key) < len(self.labels)):
            self._choose(GOOD if key == "g" else self.labels[int(key)])
        elif self.editor is not None:
            self._edit(self.editor, key)

    def _edit(self, editor: MaskEditor, key: str) -> None:
        if key in TOOLS:
            self.tools.value = TOOLS[key][0]
        elif key == "h":
            self.heat.value = not self.heat.value
        elif key == "m":
            editor.set("maskShown", not editor.get("maskShown"))
        elif key == "z":
            editor.run_method("undo")
        elif key in ("[", "]"):
            width = float(self.width.value)
            self.width.value = max(1.0, width / 1.5) if key == "[" else min(100.0, width * 1.5)


def _tool_button(name: str, icon: str, work: Callable[[], object]) -> None:
    _blurring(ui.button(icon=icon, on_click=work).props(f'flat dense aria-label="{name}"').tooltip(name))


def _blurring(button: ui.button) -> ui.button:
    """A button that a click does not leave in focus, so that keys go to the page again."""
    return button.on("click", js_handler="(event) => event.currentTarget.blur()")


async def _download(folder: object) -> None:
    ui.download.file(await asyncio.to_thread(shutil.make_archive, str(folder), "zip", str(folder)))


def _find(session: Session, inspection_id: int) -> InspectionRow | None:
    return session.get(InspectionRow, inspection_id)


def labels_of(session: Session, row: InspectionRow) -> tuple[str, ...]:
    """What a part may be: good first, then the classes of its bundle and all that reviews ever named."""
    named = set(session.scalars(select(ReviewRow.label).distinct()))
    found = {*row.recipe.bundle.manifest["classes"], *named, DEFECT} - {GOOD}
    return (GOOD, *sorted(found))


def _keep_review(
    session: Session, inspection_id: int, who: str, label: str, mask: bytes | None, note: str, into_golden: bool
) -> None:
    row = session.get_one(InspectionRow, inspection_id)
    record.review(session, row, who, label, None if mask is None else reviewing.scale_mask(mask, row), note)
    if into_golden:
        golden.set_golden(session, row, label, who)
