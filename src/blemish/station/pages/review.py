"""Review: parts that wait for a person, one after the other; their labels are ground truth for the next training."""

import asyncio
import shutil
import time
import uuid
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

import numpy as np
from fastapi import Request
from nicegui import ui
from nicegui.events import KeyEventArguments
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.arrays import Mask
from blemish.dataset.sample import DEFECT, GOOD
from blemish.errors import DataError
from blemish.imaging.read import encode
from blemish.station import review_queue
from blemish.station.auth import LOCAL_USER, User
from blemish.station.golden_set import add_golden
from blemish.station.image_store import has_image
from blemish.station.models import InspectionRow, ReviewRow
from blemish.station.pages.inspection_card import load_inspection
from blemish.station.pages.mask_editor import MaskEditor, Tool
from blemish.station.pages.session import PageSession
from blemish.station.pages.unsaved import may_leave
from blemish.station.pages.widgets import (
    HEAT_OUTPUTS,
    alarm,
    blurring,
    choice_toggle,
    dialog,
    div,
    empty_state,
    hint,
    inspection_image,
    local_time,
    measurement_table,
    panel,
    part_name,
    tool_button,
    two_columns,
    verdict_badge,
)
from blemish.station.recipes import recipe_title
from blemish.station.repository import add_review, log_change

QUEUES = {"undecided": "Between the thresholds", "disputed": "Disagreements", "rejected": "Rejects"}
FOLLOW_S = 2.0
MIN_LOOK_S = 0.5  # within which nobody has judged a part
MAX_BUTTONS = 9  # classes that a key chooses; more are searched
TOOLS: dict[str, tuple[Tool, str]] = {
    "b": ("brush", "Brush"),
    "e": ("erase", "Eraser"),
    "p": ("polygon", "Polygon"),
    "v": ("move", "Move"),
}
KEYS = (
    ("Enter", "save and continue"), ("S", "skip"), ("U", "back"), ("G", "good"), ("1 … 9", "defect class"),
    ("B", "Brush"), ("E", "Eraser"), ("P", "Polygon"), ("V", "Move"), ("+ −", "zoom"), ("0", "whole picture"),
    ("[ ]", "width of the brush"), ("Z", "undo"), ("H", "heat map"), ("M", "mask"),
)  # fmt: skip


async def build(page: PageSession, request: Request) -> None:
    wanted = request.query_params.get("id", "")
    await ReviewPage(page).build(int(wanted[:9]) if wanted.isascii() and wanted.isdecimal() else None)


class ReviewPage:
    """A queue, and the part of it that is shown."""

    def __init__(self, page: PageSession) -> None:
        self.page = page
        self.client = ui.context.client
        self.holder = uuid.uuid4().hex  # of the claims of this page
        self.kind: str | None = None  # of the queue; None: one part alone
        self.current: int | None = None
        self.history: list[int] = []  # parts before the shown one
        self.seen: set[int] = set()  # saved or skipped, and not offered again
        self.saving = False
        self.touched, self.shown = (
            False,
            0.0,
        )  # whether a class was chosen for the shown part, and since when it is shown
        self.label = GOOD
        self.labels: tuple[str, ...] = ()
        self.stored = False  # whether the image of the shown part is
        self.note = ""
        self.editor: MaskEditor | None = None
        self.golden: ui.checkbox | None = None
        self.buttons: dict[str, ui.button] = {}
        self.claimed_by: str | None = None  # another person, who has claimed the part first
        self.queues: ui.select
        self.tools: ui.toggle
        self.width: ui.slider
        self.heat: ui.switch
        self.other: ui.input
        self.actions: dict[str, Callable[[MaskEditor], object]] = {
            "h": lambda editor: self.heat.set_value(not self.heat.value),
            "m": lambda editor: editor.set("maskShown", not editor.get("maskShown")),
            "z": lambda editor: editor.run_method("undo"),
            "+": lambda editor: editor.run_method("zoom", 1.5),
            "-": lambda editor: editor.run_method("zoom", 1 / 1.5),
            "0": lambda editor: editor.run_method("whole"),
            "[": lambda editor: self._set_width(1 / 1.5),
            "]": lambda editor: self._set_width(1.5),
        }
        self.save = page.handler("operator", self._save)
        self.skip = page.handler("operator", self._skip)
        self.back = page.handler("operator", self._back)

    async def build(self, wanted: int | None) -> None:
        t, page = self.page.t, self.page
        lengths = await page.read(review_queue.queue_lengths, self._person())
        if wanted is None:
            self.kind = next((kind for kind in QUEUES if lengths[kind]), "undecided")
        with div("bar"):
            self.queues = ui.select(self._queue_names(lengths), label=t("Queue"), value=self.kind)
            self.queues.props(f'dense outlined options-dense aria-label="{t("Queue")}" data-name=queue')
            self.queues.style("min-width: 240px")
            ui.space()
            export = ui.button(t("Export reviewed parts"), icon="archive").props("outline no-caps")
        self.queues.on_value_change(page.handler("operator", lambda user: self._show_queue(self.queues.value)))
        export.on_click(page.handler("engineer", lambda user: self._export())).set_enabled(page.may("engineer"))
        await self._choose_next(wanted)
        await self.content()
        ui.keyboard(on_key=self._on_key)
        ui.timer(FOLLOW_S, self._follow, immediate=False)
        self.client.on_disconnect(lambda: page.station.claims.release(self.holder))

    def _person(self) -> str | None:
        """Whose second opinion is none; without tokens nobody is known, and everybody is asked."""
        user = self.page.user()
        return None if user is None or user == LOCAL_USER else user.name

    def _queue_names(self, lengths: dict[str, int]) -> dict[str, str]:
        return {name: f"{self.page.t(title)} ({lengths[name]})" for name, title in QUEUES.items()}

    async def _choose_next(self, wanted: int | None = None) -> None:
        """Claim the wanted part, or the first of the queue that nobody else has claimed."""
        claims, user = self.page.station.claims, self.page.user()
        name = "" if user is None else user.name
        self.current, self.claimed_by = wanted, None
        if wanted is not None:
            self.claimed_by = claims.take(wanted, self.holder, name)
        elif self.kind is not None:
            person = self._person()
            ids = await self.page.read(review_queue.list_queue, self.kind, person)
            taken = self.seen | claims.of_others(self.holder)
            free = (key for key in ids if key not in taken)
            self.current = next((key for key in free if claims.take(key, self.holder, name) is None), None)
            self.queues.set_options(
                self._queue_names(await self.page.read(review_queue.queue_lengths, person)), value=self.kind
            )
        if self.current is None:
            claims.release(self.holder)

    async def _follow(self) -> None:
        """Renew the claim; where no part was left, show the next one that comes."""
        user = self.page.user()
        if user is None or not user.may("operator") or not self.client.has_socket_connection:
            return  # a page that was closed lives on for a while
        if self.current is not None:
            if self.claimed_by is None:
                self.page.station.claims.take(self.current, self.holder, user.name)
            return
        await self._choose_next()
        if self.current is not None:
            await self.content.refresh()

    @ui.refreshable_method
    async def content(self) -> None:
        t = self.page.t
        row = None
        if self.current is not None:
            row = await self.page.read(load_inspection, self.current)
        self.editor, self.note, self.buttons = None, "", {}
        if row is None:
            empty_state("task_alt", t("No parts to review"), t("The next one appears here by itself."))
            if self.history:
                ui.button(t("Back"), icon="undo", on_click=self.back).props("no-caps flat data-name=back")
            return
        if self.claimed_by is not None:
            user = self.page.user()
            own = user is not None and self.claimed_by == user.name
            other = t("{name} is reviewing this part at the moment.", name=self.claimed_by)
            alarm(t("This part is open in another window.") if own else other)
        self.labels = await self.page.read(list_labels, row)
        self.stored = await asyncio.to_thread(has_image, row, self.page.station.settings.images)
        with two_columns() as (left, right):
            with left, panel():
                self._picture(row)
            with right:
                self._label_form(row)
                self._inspection(row)
        self._choose(row.reviews[-1].label if row.reviews else row.label)
        self.touched, self.shown = False, time.monotonic()

    def _picture(self, row: InspectionRow) -> None:
        t = self.page.t
        if not self.stored:  # nothing may be painted on a picture that nobody sees
            inspection_image(self.page, row.id, stored=False)
            return
        with div("bar"):
            self.tools = choice_toggle({tool: t(name) for tool, name in TOOLS.values()}, "brush")
            self.tools.on_value_change(lambda e: self._set("tool", e.value))
            self.tools.on("click", js_handler="() => document.activeElement.blur()")
            tool_button(t("undo"), "undo", lambda: self.editor and self.editor.run_method("undo"))
            tool_button(t("clear"), "layers_clear", lambda: self.editor and self.editor.run_method("clear"))
            tool_button(t("zoom"), "zoom_in", lambda: self.editor and self.editor.run_method("zoom", 1.5))
            tool_button(t("whole picture"), "zoom_out_map", lambda: self.editor and self.editor.run_method("whole"))
            self.width = ui.slider(min=1, max=100, value=12, on_change=lambda e: self._set("size", float(e.value)))
            self.width.style("width: 110px; margin: 0 8px").props(f'aria-label="{t("width of the brush")}"')
            self.heat = ui.switch(t("heat map"), on_change=lambda e: self._set("heatShown", bool(e.value)))
            self.heat.props("dense data-name=heat")
        heat = bool(HEAT_OUTPUTS & set(row.recipe.bundle.manifest["outputs"]))
        self.editor = MaskEditor.of_inspection(row.id, heat).props("data-name=editor")

    def _label_form(self, row: InspectionRow) -> None:
        t = self.page.t
        with panel(t("True class")):
            with div("bar"):
                for number, label in enumerate(self.labels[: MAX_BUTTONS + 1]):
                    button = ui.button(t(label), on_click=partial(self._choose, label)).props("no-caps dense")
                    with button.style("padding: 4px 12px"):
                        ui.html(f"<kbd style='margin-left:8px;color:#334155'>{number or 'G'}</kbd>", sanitize=False)
                    self.buttons[label] = blurring(button)
                if len(self.labels) > MAX_BUTTONS + 1:
                    found = ui.select(
                        {name: t(name) for name in self.labels}, label=t("Search classes"), with_input=True
                    )
                    found.props("dense outlined options-dense data-name=search-class").style("width: 190px")
                    found.on_value_change(lambda e: self._choose(e.value or self.label))
                self.other = ui.input(placeholder=t("another class")).props("dense outlined").style("width: 130px")
                self.other.on("keydown.enter.stop", self.page.handler("operator", self._save_other))
            note = ui.input(t("Note")).props("dense outlined data-name=note").bind_value(self, "note")
            note.on("keydown.enter.stop", self.save)
            self.golden = ui.checkbox(t("add to the golden set")).props("dense data-name=golden")
            self.golden.set_enabled(self.page.may("engineer") and self.stored)
            with div("bar"):
                ui.button(t("Save and continue"), icon="check", on_click=self.save).props("no-caps data-name=save")
                ui.button(t("Skip"), on_click=self.skip).props("no-caps flat data-name=skip")
                back = ui.button(t("Back"), icon="undo", on_click=self.back).props("no-caps flat data-name=back")
                back.set_enabled(bool(self.history))
            with ui.expansion(t("Keys"), icon="keyboard").props("dense").classes("soft"), div("bar"):
                for key, meaning in KEYS:
                    with ui.element("span"):
                        ui.html(f"<kbd>{key}</kbd> {t(meaning)}", sanitize=False)

    def _inspection(self, row: InspectionRow) -> None:
        t = self.page.t
        with panel(t("Inspection result")):
            with div("bar"):
                verdict_badge(self.page, row.verdict)
                ui.link(part_name(self.page, row.part_id, row.id), f"/card/{row.id}").style("font-weight: 600")
                hint(f"{local_time(row.created_at)} · {t('recipe')} {recipe_title(row.recipe)}")
            for reason in self.page.reasons(row):
                hint(reason)
            if row.regions:
                measurement_table(self.page, row, limit=6)
            for review in row.reviews:
                hint(f"{local_time(review.created_at)} {review.created_by}: {t(review.label)} {review.note}")

    def _choose(self, label: str) -> None:
        self.label, self.touched = label if label in self.labels else DEFECT, True
        for name, button in self.buttons.items():
            button.props("unelevated", remove="outline") if name == self.label else button.props("outline")

    def _set(self, name: str, value: Tool | float | bool) -> None:
        if self.editor is not None:
            self.editor.set(name, value)  # type: ignore[arg-type]

    async def _save_other(self, user: User) -> None:
        label = self.other.value.strip()[:200]
        if not label.isprintable() or not label:
            raise DataError(self.page.t("Enter the name of the class."))
        self.label, self.touched = label, True
        await self._save(user)

    async def _save(self, user: User) -> None:
        unseen = not (self.touched or self.note) and time.monotonic() < self.shown + MIN_LOOK_S
        if self.current is None or self.saving or unseen:  # a second Enter, meant for the part before
            return
        self.saving = True
        try:
            await self._save_current(user, self.current)
        finally:
            self.saving = False

    async def _save_current(self, user: User, inspection_id: int) -> None:
        painted = None
        if self.editor is not None and self.label != GOOD:
            await self.editor.finish()
            painted = await self.editor.painted()
        into_golden = self.golden is not None and bool(self.golden.value) and user.may("engineer")
        mask = None if painted is None else await self.page.read(_scale_mask, inspection_id, painted > 0)
        await self.page.write(_save_review, inspection_id, user.name, self.label, mask, self.note[:2000], into_golden)
        self.page.notify(self.page.t("Saved: {label}", label=self.page.t(self.label)))
        await self._advance()

    async def _skip(self, user: User) -> None:
        if not self.saving and await may_leave(self.page) and not self.saving:
            await self._advance()

    async def _advance(self) -> None:
        if self.current is not None:
            self.seen.add(self.current)
            self.history.append(self.current)
        await self._choose_next()
        await self.content.refresh()

    async def _back(self, user: User) -> None:
        """Show the part before; what was saved stays in the record, and another review corrects it."""
        if self.history and not self.saving and await may_leave(self.page) and not self.saving:
            await self._choose_next(self.history.pop())
            await self.content.refresh()

    async def _show_queue(self, kind: str) -> None:
        if kind != self.kind and not await may_leave(self.page):
            self.queues.set_value(self.kind)
        elif kind != self.kind:
            self.kind, self.seen = kind, set()
            await self._choose_next()
            await self.content.refresh()

    async def _export(self) -> None:
        t, settings = self.page.t, self.page.station.settings
        rows = await self.page.read(review_queue.list_reviewed)
        dataset = await asyncio.to_thread(review_queue.export_reviews, rows, settings.images, settings.exports)
        user = self.page.require("engineer")
        await self.page.write(log_change, user.name, "export", dataset.root.name, None, {"parts": len(dataset)})
        with dialog(t("Reviewed parts written as a dataset: {number}", number=len(dataset))):
            ui.label(str(dataset.root)).classes("mono")
            with div("bar"):
                ui.link(t("Train with it"), f"/training?path={quote(str(dataset.root))}")
                packing = self.page.handler("engineer", lambda user: _download(dataset.root))
                download = ui.button(t("Download"), icon="download", on_click=packing)
                download.props("no-caps flat")

    async def _on_key(self, event: KeyEventArguments) -> None:
        if (
            self.page.asking
            or not event.action.keydown
            or event.action.repeat
            or event.modifiers.ctrl
            or event.modifiers.meta
        ):
            return
        key = str(event.key.name)
        key = key.lower() if len(key) == 1 else key
        if key == "Enter":
            await self.save()
        elif key in ("s", "ArrowRight"):
            await self.skip()
        elif key in ("u", "ArrowLeft"):
            await self.back()
        elif key == "g" or (key.isdecimal() and 0 < int(key) < min(len(self.labels), MAX_BUTTONS + 1)):
            self._choose(GOOD if key == "g" else self.labels[int(key)])
        elif self.editor is not None and key in TOOLS:
            self.tools.value = TOOLS[key][0]
        elif self.editor is not None and key in self.actions:
            self.actions[key](self.editor)

    def _set_width(self, factor: float) -> None:
        self.width.value = min(100.0, max(1.0, float(self.width.value) * factor))


async def _download(folder: object) -> None:
    ui.download.file(await asyncio.to_thread(shutil.make_archive, str(folder), "zip", str(folder)))


def list_labels(session: Session, row: InspectionRow) -> tuple[str, ...]:
    """Labels that a part may get: good first, then the classes of its bundle and of all reviews."""
    reviewed = set(session.scalars(select(ReviewRow.label).distinct()))
    return (GOOD, *sorted({*row.recipe.bundle.manifest["classes"], *reviewed, DEFECT} - {GOOD}))


def _scale_mask(session: Session, inspection_id: int, mask: Mask) -> bytes:
    """Before the transaction that saves the review, because parts wait for that one."""
    png = encode(mask.astype(np.uint8) * 255, ".png")
    return review_queue.scale_mask(png, session.get_one(InspectionRow, inspection_id))


def _save_review(
    session: Session, inspection_id: int, user: str, label: str, mask: bytes | None, note: str, into_golden: bool
) -> None:
    row = session.get_one(InspectionRow, inspection_id)
    add_review(session, row, user, label, mask, note)
    if into_golden:
        add_golden(session, row, label, user)
