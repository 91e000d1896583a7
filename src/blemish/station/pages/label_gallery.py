"""The images of a labelling project: by evidence, class and split; several at once get a class, a split or a group."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui

from blemish.dataset.sample import GOOD, SPLITS, Sample
from blemish.errors import DataError
from blemish.station.auth import User
from blemish.station.labelling.project import current_label
from blemish.station.pages.dataset_view import sample_picture
from blemish.station.pages.label_state import STATES, LabellingState
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, empty_state, hint, pager, panel

TILES = 24
KEEP = ""  # a value that the selected images keep


class LabelGallery:
    """`on_open` is called with the images that are shown, in their order, and the index of the one to label."""

    def __init__(
        self, page: PageSession, state: LabellingState, on_open: Callable[[list[str], int], Awaitable[None]]
    ) -> None:
        self.page = page
        self.state = state
        self.on_open = on_open
        self.shown: list[str] = []
        self.chosen: set[str] = set()
        self.filter = {"state": "", "label": "", "split": ""}
        self.first = 0

    @ui.refreshable_method
    async def content(self) -> None:
        self.shown = await asyncio.to_thread(self.state.select, **self.filter)
        evidence = await asyncio.to_thread(self.state.count_evidence)
        classes = await asyncio.to_thread(self.state.count_classes)
        self.chosen &= set(self.shown)
        self.first = min(self.first, max(0, len(self.shown) - 1) // TILES * TILES)
        with panel():
            self._filters(evidence, classes)
            if not self.shown:
                empty_state("photo_library", self.page.t("No such images"))
                return
            await self._tiles()
            last = min(len(self.shown), self.first + TILES)
            pager(
                self.page,
                self.first + 1,
                last,
                len(self.shown),
                partial(self._turn, -TILES),
                partial(self._turn, TILES),
            )
        self._bulk(classes)

    def _filters(self, evidence: dict[str, int], classes: dict[str, int]) -> None:
        t = self.page.t
        states = {name: t(title) for name, title in STATES.items()}
        states |= {name: f"{t(name)} ({count})" for name, count in evidence.items()}
        labels = {"": t("all classes"), **{name: f"{t(name)} ({count})" for name, count in classes.items()}}
        splits = {"": t("all splits"), **{name: t(name) for name in SPLITS}}
        with div("bar"):
            for name, title, options in (
                ("state", "Evidence", states), ("label", "class", labels), ("split", "split", splits),
            ):  # fmt: skip
                value = self.filter[name] if self.filter[name] in options else ""
                choice = ui.select(options, label=t(title), value=value)
                choice.props(f"dense outlined options-dense data-name=filter-{name}").style("min-width: 170px")
                choice.on_value_change(partial(self._filter, name))
            ui.space()
            start = ui.button(t("Label these"), icon="edit", on_click=partial(self.on_open_at, 0))
            start.props("no-caps data-name=label-these").set_enabled(bool(self.shown))

    async def _tiles(self) -> None:
        images = self.shown[self.first : self.first + TILES]
        samples = [self.state.sample(image) for image in images]
        pictures = await asyncio.to_thread(lambda: list(map(sample_picture, samples)))
        with div("tiles").props("data-name=images"):
            for offset, (image, sample, source) in enumerate(zip(images, samples, pictures, strict=True)):
                self._tile(image, sample, source, self.first + offset)

    def _tile(self, image: str, sample: Sample, source: str | None, index: int) -> None:
        t = self.page.t
        with div("thumb"):
            with ui.element("button").classes("plain").on("click", partial(self.on_open_at, index)):
                if source:
                    ui.element("img").props(f'src="{source}" alt="{t("Label this image")}"').classes("picture")
                else:
                    ui.label(t("unreadable")).classes("no-picture")
            with div("bar"):
                box = ui.checkbox(value=image in self.chosen, on_change=partial(self._choose, image))
                box.props(f'dense size=xs aria-label="{t("select")}"')
                ui.label(image.rpartition("/")[2]).tooltip(image).style("flex: 1; min-width: 0")
            names = sample.labels or (sample.label or "unknown",)
            hint(" · ".join([", ".join(map(t, names)), t(sample.split or "no split")]))
            hint(t(str(sample.evidence or "none")))

    def _bulk(self, classes: dict[str, int]) -> None:
        t = self.page.t
        with panel(t("Selected images")), div("bar"):
            for name, on_click in (("Select page", self._choose_page), ("Select all", self._choose_all),
                                   ("Select none", self._choose_none)):  # fmt: skip
                ui.button(t(name), on_click=on_click).props("no-caps flat dense")
            keep = {KEEP: t("as it is")}
            labels = keep | {name: t(name) for name in self.state.project.classes()}
            label = ui.select(labels, value=KEEP, label=t("class"))
            split = ui.select(keep | {name: t(name) for name in SPLITS} | {"none": t("no split")}, value=KEEP)
            split.props(f'label="{t("split")}"')
            group = ui.input(t("group"))
            for name, field in (("label", label), ("split", split), ("group", group)):
                field.props(f"dense outlined options-dense data-name=bulk-{name}").style("width: 150px")
            apply = self.page.handler(
                "operator", lambda user: self._apply(user, label.value, split.value, group.value.strip())
            )
            self.button = ui.button(t("Apply"), icon="done_all", on_click=apply).props("no-caps data-name=apply")
            self._show_number()

    def _show_number(self) -> None:
        self.button.set_text(f"{self.page.t('Apply')} ({len(self.chosen)})")
        self.button.set_enabled(bool(self.chosen))

    async def on_open_at(self, index: int) -> None:
        await self.on_open(self.shown, index)

    async def _filter(self, name: str, event: object) -> None:
        self.filter[name], self.first = str(getattr(event, "value", "") or ""), 0
        await self.content.refresh()

    def _choose(self, image: str, event: object) -> None:
        self.chosen.add(image) if getattr(event, "value", False) else self.chosen.discard(image)
        self._show_number()

    async def _choose_page(self) -> None:
        self.chosen |= set(self.shown[self.first : self.first + TILES])
        await self.content.refresh()

    async def _choose_all(self) -> None:
        self.chosen = set(self.shown)
        await self.content.refresh()

    async def _choose_none(self) -> None:
        self.chosen = set()
        await self.content.refresh()

    async def _turn(self, by: int) -> None:
        self.first += by
        await self.content.refresh()

    async def _apply(self, user: User, label: str, split: str, group: str) -> None:
        """Give the selected images a class, a split or a group; what is drawn gets the class, and good has none."""
        if not (label or split or group):
            raise DataError(self.page.t("Choose a class, a split or a group."))
        state = self.state
        if not state.person:
            raise DataError(self.page.t("Enter your name."))

        def save() -> None:
            made = []
            for image in sorted(self.chosen):
                now_ = current_label(state.sample(image), image, state.person)
                changes: dict[str, object] = {"group": group} if group else {}
                if split:
                    changes["split"] = None if split == "none" else split
                if label and now_.labels != (label,):
                    kept = now_.drawn if label != GOOD else None
                    renamed = kept and tuple(defect.model_copy(update={"label": label}) for defect in kept)
                    changes |= {"labels": (label,), "drawn": renamed or None}
                made.append(now_.model_copy(update=changes))
            state.project.journal.add(made)

        await asyncio.to_thread(save)
        self.page.notify(self.page.t("Images changed: {number}", number=len(self.chosen)))
        self.chosen = set()
        await self.content.refresh()
