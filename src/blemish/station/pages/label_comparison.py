"""The agreement of two people who labelled the same images."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui

from blemish.station.auth import User
from blemish.station.labelling.label_agreement import LabelAgreement, compare_people
from blemish.station.pages.label_state import LabellingState
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, hint, metric_tile, panel, table

MAX_LISTED = 50
Open = Callable[[list[str], int], Awaitable[None]]


class LabelComparison:
    """`on_open` opens images to label."""

    def __init__(self, page: PageSession, state: LabellingState, on_open: Open) -> None:
        self.page = page
        self.state = state
        self.on_open = on_open
        self.found: LabelAgreement | None = None
        self.people: tuple[str, str] = ("", "")

    @ui.refreshable_method
    def content(self) -> None:
        t, people = self.page.t, self.state.project.journal.people()
        if len(people) < 2:
            hint(
                t("Agreement is known when two people have labelled the same images, each without the other's labels.")
            )
            return
        with panel():
            with div("bar"):
                first = ui.select(people, value=people[0], label=t("first person"))
                second = ui.select(people, value=people[1], label=t("second person"))
                for field in (first, second):
                    field.props("dense outlined options-dense").style("width: 180px")

                async def compare(user: User) -> None:
                    project = self.state.project
                    labels = {image: project.journal.of_image(image) for image in project.samples}
                    self.people = first.value, second.value
                    self.found = await asyncio.to_thread(compare_people, labels, *self.people)
                    self.result.refresh()

                on_click = self.page.handler("operator", compare)
                ui.button(t("Compare"), on_click=on_click).props("no-caps data-name=compare-people")
            self.result()

    @ui.refreshable_method
    def result(self) -> None:
        t, found = self.page.t, self.found
        if found is None:
            return
        kappa = found.kappa
        with div("figures").props("data-name=agreement"):
            metric_tile(t("images that both labelled"), str(found.images))
            metric_tile(t("same class"), f"{found.agreed} / {found.images}")
            between = "" if kappa.low is None else f"95 %: {kappa.low:.2f} – {kappa.high:.2f}"
            metric_tile(t("kappa"), "–" if kappa.value is None else f"{kappa.value:.2f}", between)
            iou = found.mean_iou
            drawn = t("images that both drew: {number}", number=len(found.ious))
            metric_tile(t("mean IoU"), "–" if iou is None else f"{iou:.2f}", drawn)
        journal = self.state.project.journal
        rows = []
        for image in found.different[:MAX_LISTED]:
            given = journal.of_image(image)
            rows.append((image, *(", ".join(map(t, given[person].labels)) for person in self.people)))
        rows += [
            (image, f"IoU {iou:.2f}", "")
            for image, iou in sorted(found.ious.items(), key=lambda pair: pair[1])[:MAX_LISTED]
        ]
        if rows:
            table(rows, [t("image"), *self.people], numbers=False)
        worst = [*found.different, *sorted(found.ious, key=found.ious.__getitem__)]
        if worst:
            images = list(dict.fromkeys(worst))
            button = ui.button(t("Label these"), icon="edit", on_click=partial(self.on_open, images, 0))
            button.props("no-caps outline").style("align-self: flex-start")
