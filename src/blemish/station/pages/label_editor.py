"""Labelling one image after the other: class, pixels, split and group, with help by the recipe and by segmentation."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

import numpy as np
from nicegui import ui
from nicegui.events import GenericEventArguments, KeyEventArguments

from blemish.arrays import ClassMap, Mask
from blemish.dataset.sample import DEFECT, GOOD, SPLITS
from blemish.errors import BlemishError, DataError
from blemish.imaging.read import image_header, read_image
from blemish.inspection.result import Inspection
from blemish.station.auth import User
from blemish.station.labelling.box_segmentation import segment_box
from blemish.station.labelling.class_map import COLOURS, NO_CLASS, class_colour, colour_png, region_map, resize_map
from blemish.station.labelling.journal import DrawnDefect, ImageLabel
from blemish.station.labelling.label_draft import LabelDraft
from blemish.station.labelling.project import read_class_map
from blemish.station.pages.label_notes import show_notes
from blemish.station.pages.label_state import LabellingState, png_uri
from blemish.station.pages.mask_editor import SIDE, MaskEditor, Tool
from blemish.station.pages.session import PageSession
from blemish.station.pages.unsaved import may_leave
from blemish.station.pages.widgets import blurring, choice_toggle, div, hint, panel, swatch, tool_button, two_columns
from blemish.station.recipes import active_recipe

MAX_BUTTONS = 9  # classes that a key chooses
TOOLS: dict[str, tuple[Tool, str]] = {
    "b": ("brush", "Brush"),
    "e": ("erase", "Eraser"),
    "p": ("polygon", "Polygon"),
    "x": ("box", "Box"),
    "c": ("point", "Click"),
    "f": ("class", "Set class"),
    "v": ("move", "Move"),
}
KEYS = (
    ("Enter", "save and continue"), ("S", "skip"), ("U", "back"), ("Esc", "all images"), ("G", "good"),
    ("1 … 9", "defect class"), ("A", "accept the proposal"), ("B", "Brush"), ("E", "Eraser"), ("P", "Polygon"),
    ("X", "Box"), ("C", "Click"), ("F", "Set class"), ("V", "Move"), ("+ −", "zoom"), ("0", "whole picture"),
    ("[ ]", "width of the brush"), ("Z", "undo"), ("M", "mask"),
)  # fmt: skip


class LabelEditor:
    """`images` are labelled in their order, from `index`; `on_close` shows all images again."""

    def __init__(
        self, page: PageSession, state: LabellingState, images: list[str], index: int,
        on_close: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.page = page
        self.state = state
        self.images = images
        self.index = index
        self.on_close = on_close
        self.saving = False
        self.painting = asyncio.Lock()  # pixels that the station finds are shown before the next step, and are saved
        self.draft = LabelDraft()
        self.known: ImageLabel | None = None  # the label that is replaced
        self.proposal: ClassMap | None = None
        self.buttons: dict[str, ui.button] = {}
        self.split: str | None = None
        self.group = ""
        self.note = ""
        self.editor: MaskEditor
        self.tools: ui.toggle
        self.width: ui.slider
        self.other: ui.input
        self.class_bar: ui.element
        self.proposed: ui.label
        self.helper: ui.toggle | None = None
        self.save = page.handler("operator", self._save)
        self.actions: dict[str, Callable[[], object]] = {
            "Enter": self.save, "s": self._skip, "u": self._back, "Escape": self._close,
            "a": page.handler("operator", self._accept),
            "g": lambda: self._choose(GOOD),
            "m": lambda: self.editor.set("maskShown", not self.editor.get("maskShown")),
            "z": lambda: self.editor.run_method("undo"),
            "+": lambda: self.editor.run_method("zoom", 1.5),
            "-": lambda: self.editor.run_method("zoom", 1 / 1.5),
            "0": lambda: self.editor.run_method("whole"),
            "[": lambda: self._set_width(1 / 1.5),
            "]": lambda: self._set_width(1.5),
        }  # fmt: skip

    @property
    def image(self) -> str:
        return self.images[self.index]

    @ui.refreshable_method
    async def content(self) -> None:
        state = self.state
        sample, self.known = state.sample(self.image), state.given(self.image)
        project = state.project
        classes = await asyncio.to_thread(project.classes)
        try:
            size = (await asyncio.to_thread(image_header, sample.image)).size
            original = await asyncio.to_thread(read_class_map, sample, classes[1:], size)
        except BlemishError as error:
            with panel(self.image):
                hint(self.page.error(error))
                self._buttons()
            return
        self.draft = LabelDraft.of(classes, original, SIDE)
        self.proposal, self.buttons = None, {}
        latest = project.journal.latest(self.image)
        self.split, self.group = sample.split, sample.group or ""
        self.note = latest.note if latest is not None and not state.independent else ""
        with two_columns() as (left, right):
            with left, panel(f"{self.image}  ({self.index + 1} / {len(self.images)})"):
                self._picture()
            with right:
                self._form(sample.labels or ((sample.label,) if sample.label else ()))
                show_notes(self.page, self.state, self.image)
        ui.timer(0.05, self._propose, once=True)

    def _picture(self) -> None:
        t, project = self.page.t, self.state.project
        with div("bar"):
            self.tools = choice_toggle({tool: t(name) for tool, name in TOOLS.values() if self._has(tool)}, "brush")
            self.tools.props("data-name=tools").on_value_change(lambda e: self.editor.set("tool", e.value))
            self.tools.on("click", js_handler="() => document.activeElement.blur()")
            tool_button(t("undo"), "undo", lambda: self.editor.run_method("undo"))
            tool_button(t("clear"), "layers_clear", lambda: self.editor.run_method("clear"))
            tool_button(t("zoom"), "zoom_in", lambda: self.editor.run_method("zoom", 1.5))
            tool_button(t("whole picture"), "zoom_out_map", lambda: self.editor.run_method("whole"))
            self.width = ui.slider(
                min=1, max=100, value=12, on_change=lambda e: self.editor.set("size", float(e.value))
            )
            self.width.style("width: 110px; margin: 0 8px").props(f'aria-label="{t("width of the brush")}"')
            if self._has("point"):
                helpers = {"grabcut": "GrabCut", "segmenter": t("segmenter")}
                self.helper = choice_toggle(helpers, "segmenter").props("data-name=helper")
        query = urlencode({"image": self.image, "side": SIDE})
        source = f"/v1/labelling/{project.name}/picture?{query}"
        self.editor = MaskEditor(source, start=self.draft.start, colours=COLOURS)
        self.editor.props("data-name=editor")
        for event, work in (("box", self._segment), ("point", self._segment), ("class", self._set_class)):
            self.editor.on(event, partial(self._on_drawn, work))
        with div("bar"):
            self.proposed = ui.label("").classes("soft").props("data-name=proposed role=status")

    def _has(self, tool: Tool) -> bool:
        return tool != "point" or self.page.station.segmenter is not None

    def _form(self, labels: tuple[str, ...]) -> None:
        t = self.page.t
        with panel(t("True class")):
            self.class_bar = div("bar").props("data-name=classes")
            with self.class_bar:
                for number, label in enumerate(self.draft.classes):
                    with self._class_button(label, t(label)):
                        if number:
                            swatch(class_colour(number - 1))
                        if number <= MAX_BUTTONS:
                            key = f"<kbd style='margin-left:8px;color:#334155'>{number or 'G'}</kbd>"
                            ui.html(key, sanitize=False)
            self.other = ui.input(placeholder=t("another class")).props("dense outlined data-name=other-class")
            self.other.style("width: 180px").on("keydown.enter.stop", self.page.handler("operator", self._add_class))
            self.other.on("keydown.enter", js_handler="(event) => event.target.blur()")  # keys go to the page again
            with div("bar"):
                splits = {"": t("no split"), **{name: t(name) for name in SPLITS}}
                split = ui.select(splits, value=self.split or "", label=t("split"))
                split.props("dense outlined options-dense data-name=split").style("width: 130px")
                split.on_value_change(lambda e: setattr(self, "split", e.value or None))
                group = ui.input(t("group")).bind_value(self, "group").style("width: 130px")
                group.props("dense outlined data-name=group").on("keydown.enter.stop", self.save)
            note = ui.input(t("Note")).props("dense outlined data-name=note").bind_value(self, "note")
            note.on("keydown.enter.stop", self.save)
            self._buttons()
            with ui.expansion(t("Keys"), icon="keyboard").props("dense").classes("soft"), div("bar"):
                for key, meaning in KEYS:
                    with ui.element("span"):
                        ui.html(f"<kbd>{key}</kbd> {t(meaning)}", sanitize=False)
        if labels:
            self._choose(labels[0] if labels[0] in self.draft.classes else DEFECT)

    def _class_button(self, label: str, text: str) -> ui.button:
        button = ui.button(text, on_click=partial(self._choose, label)).props("no-caps dense outline")
        self.buttons[label] = blurring(button.style("padding: 4px 12px"))
        return button

    def _buttons(self) -> None:
        t = self.page.t
        with div("bar"):
            ui.button(t("Save and continue"), icon="check", on_click=self.save).props("no-caps data-name=save")
            ui.button(t("Skip"), on_click=self._skip).props("no-caps flat data-name=skip")
            ui.button(t("Back"), icon="undo", on_click=self._back).props("no-caps flat").set_enabled(self.index > 0)
            ui.button(t("All images"), icon="grid_view", on_click=self._close).props("no-caps flat data-name=close")

    def _choose(self, label: str) -> None:
        """What was painted before keeps its class; what was painted without one gets this."""
        self.draft.label = label
        self.editor.set("index", self.draft.index)
        for name, button in self.buttons.items():
            button.props("unelevated", remove="outline") if name == label else button.props("outline")

    async def _add_class(self, user: User) -> None:
        name = self.other.value.strip()[:200]
        if not name or not name.isprintable():
            raise DataError(self.page.t("Enter the name of the class."))
        if name not in self.draft.classes:
            self.draft.classes = (*self.draft.classes, name)
            with self.class_bar:
                self._class_button(name, name)
        self.other.set_value("")
        self._choose(name)

    async def _save(self, user: User) -> None:
        if self.saving:
            return
        self.saving = True
        try:
            async with self.painting:
                await self._save_label()
        finally:
            self.saving = False

    async def _save_label(self) -> None:
        t, state, draft = self.page.t, self.state, self.draft
        if not state.person:
            raise DataError(t("Enter your name."))
        self._check_newer()
        await self.editor.finish()
        self.draft.take_over(await self.editor.painted())
        if draft.label == GOOD and draft.painted.any():
            raise DataError(t("A good image has no defect pixels; erase them, or choose a class."))
        if (draft.painted == NO_CLASS).any():
            raise DataError("Choose the class of what is painted, or erase it.")
        shapes = await asyncio.to_thread(draft.shapes)
        labels = tuple(dict.fromkeys(shape.label for shape in shapes)) or ((draft.label,) if draft.label else ())
        if len(labels) > 1 and draft.label not in labels:
            raise DataError(t("Nothing of class {name} is drawn; set the class of what is.", name=t(draft.label)))
        if not labels:
            raise DataError(t("Choose a class."))
        label = ImageLabel(
            image=self.image, person=state.person, labels=labels, split=self.split, group=self.group.strip() or None,
            drawn=tuple(map(DrawnDefect.of, shapes)) or None, note=self.note.strip()[:2000],
        )  # fmt: skip
        await asyncio.to_thread(state.project.journal.add, [label])
        self.page.notify(t("Saved: {label}", label=", ".join(map(t, labels))))
        await self._advance()

    def _check_newer(self) -> None:
        """DataError, once, for a label that somebody saved since the image is shown; saving again replaces it."""
        t, newer = self.page.t, self.state.given(self.image)
        if newer is not None and newer != self.known:
            self.known = newer
            said = {"person": newer.person, "labels": ", ".join(map(t, newer.labels)) or t("no label")}
            raise DataError(
                t("{person} saved this image since it is open here: {labels}. Save again to replace that.", **said)
            )

    async def _advance(self) -> None:
        if self.index + 1 >= len(self.images):
            self.page.notify(self.page.t("That was the last of these images."))
            await self.on_close()
            return
        self.index += 1
        await self.content.refresh()

    async def _skip(self) -> None:
        await self._leave(self._advance)

    async def _back(self) -> None:
        if self.index:
            await self._leave(self._show_previous)

    async def _show_previous(self) -> None:
        self.index -= 1
        await self.content.refresh()

    async def _close(self) -> None:
        await self._leave(self.on_close)

    async def _leave(self, go: Callable[[], Awaitable[None]]) -> None:
        """Leave the image unsaved, unless it is being saved, or something is painted on it that is to be kept."""
        if not self.saving and await may_leave(self.page) and not self.saving:
            await go()

    async def _propose(self) -> None:
        """Show the refined regions that the active recipe finds, for one key to accept."""
        image, t = self.image, self.page.t
        recipe = await self.page.read(active_recipe)
        if recipe is None:
            return
        try:
            inspector = await asyncio.to_thread(self.page.station.service.inspectors.get, recipe)
            path = self.state.project.samples[image].image
            found: Inspection = await asyncio.to_thread(inspector.inspect, path)
        except BlemishError as error:
            self.proposed.set_text(
                t("The active recipe cannot inspect this image: {reason}", reason=self.page.error(error))
            )
            return
        if image != self.image:
            return  # another image is shown since
        draft = self.draft
        proposal = region_map(found, draft.classes[1:], draft.label if draft.names_defect else DEFECT)
        if found.regions and not proposal.any():
            self.proposed.set_text(t("The active recipe gives boxes without outlines; draw with the tool Box."))
            return
        if not proposal.any():
            text = t("The active recipe finds no region here: {verdict}", verdict=t(found.verdict.value))
            self.proposed.set_text(f"{text} ({found.score:.4g})")
            return
        self.proposal = resize_map(proposal, draft.painted.shape)
        self.editor.set("proposal", png_uri(colour_png(self.proposal)))
        self.proposed.set_text(t("Regions of the active recipe: {number}. A accepts them.", number=len(found.regions)))

    async def _accept(self, user: User) -> None:
        """Take the proposed regions over, besides what is painted already."""
        async with self.painting:
            proposal = self.proposal
            if proposal is None:
                return
            if not self.draft.names_defect:
                self._choose(self.draft.classes[int(proposal[proposal > 0].min())])
            await self.editor.add(proposal)
            self.proposal = None
        self.editor.set("proposal", "")
        self.proposed.set_text("")

    async def _on_drawn(
        self, work: Callable[[list[float], User], Awaitable[None]], event: GenericEventArguments
    ) -> None:
        """A box or a point on the picture, as shares of the sides."""
        shares, image = [min(1.0, max(0.0, float(value))) for value in event.args], self.image

        async def paint(user: User) -> None:
            async with self.painting:
                if image == self.image:  # no other one is shown since
                    await work(shares, user)

        await self.page.handler("operator", paint)()

    async def _set_class(self, shares: list[float], user: User) -> None:
        """Give the defect at a point the chosen class."""
        self.draft.take_over(await self.editor.painted())
        await self.editor.add(self.draft.piece_at(shares), over=True)

    async def _segment(self, shares: list[float], user: User) -> None:
        """Find the pixels in a box, or at a point, given as shares of the image's sides."""
        height, width = self.draft.original.shape
        at = [value * side for value, side in zip(shares, (width, height) * 2, strict=False)]
        image, station = self.image, self.page.station
        path = self.state.project.samples[image].image
        segmenter = station.segmenter if self.helper is None or self.helper.value == "segmenter" else None

        def find() -> Mask:
            pixels = read_image(path, station.settings.max_pixels)
            if len(at) == 2:
                if station.segmenter is None:
                    raise DataError("no segmenter was given to the station")
                return station.segmenter.segment_point(pixels, *at)
            (left, right), (top, bottom) = sorted(at[::2]), sorted(at[1::2])
            box = round(left), round(top), round(right), round(bottom)
            return segment_box(pixels, box) if segmenter is None else segmenter.segment_box(pixels, box)

        mask = await asyncio.to_thread(find)
        if image != self.image:
            return
        if not self.draft.names_defect:
            self._choose(self.draft.classes[1])
        found = resize_map((mask * np.uint8(self.draft.index)).astype(np.uint8), self.draft.start.shape)
        await self.editor.add(found)

    async def on_key(self, event: KeyEventArguments) -> None:
        if self.page.asking or not event.action.keydown or event.action.repeat:
            return
        if event.modifiers.ctrl or event.modifiers.meta:
            return
        key = str(event.key.name)
        key = key.lower() if len(key) == 1 else key
        if key.isdecimal() and 0 < int(key) < min(len(self.draft.classes), MAX_BUTTONS + 1):
            self._choose(self.draft.classes[int(key)])
        elif key in TOOLS and self._has(TOOLS[key][0]):
            self.tools.value = TOOLS[key][0]
        elif key in self.actions:
            waiting: Any = self.actions[key]()
            if isinstance(waiting, Awaitable) and key in ("Enter", "s", "u", "a", "g", "Escape"):
                await waiting

    def _set_width(self, factor: float) -> None:
        self.width.value = min(100.0, max(1.0, float(self.width.value) * factor))
