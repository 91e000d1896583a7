"""The live picture of the line's cameras, to set them up before there is a recipe; kept pictures become a data set."""

import asyncio
import base64
from html import escape

from fastapi import Request
from nicegui import ui

from blemish.station.auth import User
from blemish.station.cameras.live_picture import LivePicture, examine, keep_picture
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, empty_state, hint, panel, table
from blemish.station.recipes import active_recipe
from blemish.station.tickets import NotAnsweredError

PERIOD_S = 0.5


async def build(page: PageSession, request: Request) -> None:
    t, cameras = page.t, page.station.cameras
    if cameras is None:
        empty_state("no_photography", t("No camera"), t("Start the station with --line-camera."))
        return
    if await page.read(active_recipe) is not None:
        empty_state("precision_manufacturing", t("A recipe is active"), t("The line takes the pictures now."))
        return
    names = list(cameras.names)
    with div("bar"):
        view = ui.select({name: name or t("camera") for name in names}, value=names[0], label=t("Camera"))
        view.props("dense outlined options-dense").style("width: 220px")
        grid = ui.switch(t("Grid"), value=True)
    with panel(t("Live picture")):
        problem = hint("").props("data-name=camera-problem")
        picture = ui.html("", sanitize=False).props("data-name=live-picture")
        figures = div("figures").props("data-name=camera-figures")

    async def show() -> None:
        if page.user() is None or await page.read(active_recipe) is not None:
            timer.deactivate()
            problem.set_text(t("A recipe is active"))
            return
        try:
            image = await asyncio.to_thread(cameras.live, view.value)
            shown = await asyncio.to_thread(examine, image, bool(grid.value))
        except NotAnsweredError as error:
            problem.set_text(page.error(error))
            return
        problem.set_text("")
        picture.set_content(_picture(shown, t("number of pixels by brightness")))
        figures.clear()
        with figures:
            _figures(page, shown)

    async def keep(user: User) -> None:
        folders = page.station.settings.image_folders
        image = await asyncio.to_thread(cameras.live, view.value)
        path = await asyncio.to_thread(keep_picture, folders[0], name.value or "", label.value or "", image)
        page.notify(t("Kept as {name}", name=f"{path.parent.parent.name}/{path.parent.name}/{path.name}"))

    with panel(t("Keep pictures as a dataset")):
        if not page.station.settings.image_folders:
            hint(t("Start the station with --images to keep pictures below that folder."))
        with div("bar"):
            name = ui.input(t("Dataset"), value="pictures").props("dense outlined")
            label = (
                ui.input(t("Label: good, or the class of its defect"))
                .props("dense outlined data-name=label")
                .style("flex: 0 1 300px")
            )
            button = ui.button(t("Keep"), icon="photo_camera", on_click=page.handler("engineer", keep))
            button.props("no-caps data-name=keep").set_enabled(bool(page.station.settings.image_folders))
    timer = ui.timer(PERIOD_S, show)


def _picture(shown: LivePicture, caption: str) -> str:
    """The picture, and the histogram below it as bars of one colour."""
    data = base64.b64encode(shown.png).decode()
    highest = max(1, *shown.histogram)
    bars = "".join(
        f'<rect x="{index}" y="{40 * (1 - count / highest):.2f}" width="1" height="{40 * count / highest:.2f}"/>'
        for index, count in enumerate(shown.histogram)
    )
    chart = f'<svg viewBox="0 0 {len(shown.histogram)} 40" preserveAspectRatio="none" fill="currentColor" '
    return (
        f'<div style="display: inline-block; max-width: 100%">'
        f'<img src="data:image/png;base64,{data}" alt="" style="display: block; max-width: 100%">'
        f'{chart}style="width: 100%; height: 80px" role="img" aria-label="{escape(caption)}">{bars}</svg>'
        f'<div class="soft bar" style="justify-content: space-between"><span>0 %</span><span>{escape(caption)}</span>'
        "<span>100 %</span></div></div>"
    )


def _figures(page: PageSession, shown: LivePicture) -> None:
    t = page.t
    rows = (
        (t("size"), f"{shown.size[1]} × {shown.size[0]} px"),
        (t("brightness"), f"{shown.brightness:.1%}"),
        (t("black pixels"), f"{shown.black:.2%}"),
        (t("saturated pixels"), f"{shown.white:.2%}"),
        (t("focus (higher is sharper)"), f"{shown.focus:.4f}"),
    )
    table(rows)
