"""Where defects lie on the part: their density over a picture of it, of a class, a lot or a shift."""

import asyncio
import base64
from datetime import datetime

import cv2
import numpy as np
from nicegui import ui

from blemish.arrays import Picture
from blemish.errors import BlemishError
from blemish.imaging.read import read_image
from blemish.report.overlay import as_picture
from blemish.station import drift
from blemish.station.image_store import stored_image
from blemish.station.models import RecipeRow, now
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import class_select, div, hint, panel
from blemish.station.production_counts import last_shifts
from blemish.station.rendering import render_density

SIDE, MAX_SHIFTS = 640, 12
GREY = 235  # of the ground, where no picture of a part is stored


async def build(page: PageSession, recipe: RecipeRow, labels: list[str]) -> None:
    t, settings = page.t, page.station.settings
    with panel(t("Position of defects on the part")):
        if not labels:
            hint(t("No regions recorded yet."))
            return
        lots = await page.read(drift.newest_lots, settings.station)
        shifts = {
            f"{start:%Y-%m-%d %H:%M}": (start, end) for start, end in last_shifts(now(), settings.shifts, MAX_SHIFTS)
        }
        with div("bar"):
            label = class_select(page, labels, "all defects")
            lot = ui.select({"": t("all lots"), **{name: name for name in lots}}, value="")
            shift = ui.select({"": t("all shifts"), **{name: name for name in shifts}}, value="")
            for field, name in ((lot, "lot"), (shift, "shift")):
                field.props(f'dense outlined options-dense aria-label="{t(name)}" data-name=map-{name}')
                field.style("width: 190px")
        ground = await _load_ground(page, recipe)

        @ui.refreshable
        async def density() -> None:
            period: tuple[datetime, datetime] | None = shifts.get(shift.value or "")
            grid, number = await page.read(
                lambda session: drift.defect_density(
                    session, recipe, settings.station, label.value or None, lot=lot.value or None, period=period
                )
            )
            text = t(
                "Regions: {number:,}, recipe {recipe}, station {station}",
                number=number, recipe=recipe.name, station=settings.station,
            )  # fmt: skip
            hint(text).props("data-name=map-regions")
            content = await asyncio.to_thread(render_density, ground, grid)
            source = "data:image/jpeg;base64," + base64.b64encode(content).decode()
            title = t("Position of defects on the part")
            ui.element("img").props(f'src="{source}" alt="{title}: {text}" data-name=map').classes("picture wide")
            hint(t("The darkest red is where most defects lie."))
            hint(t("Of the newest {number:,} regions; a part that came again counts once.", number=drift.MAX_REGIONS))

        await density()
        for field in (label, lot, shift):
            field.on_value_change(density.refresh)


async def _load_ground(page: PageSession, recipe: RecipeRow) -> Picture:
    """A small picture of a part, or a grey one where none is stored."""
    row = await page.read(drift.newest_picture, recipe)
    if row is None:
        return np.full((SIDE, SIDE, 3), GREY, np.uint8)
    settings = page.station.settings

    def load() -> Picture:
        picture = as_picture(read_image(stored_image(row, settings.images), settings.max_pixels))
        scale = SIDE / max(picture.shape[:2])
        size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)

    try:
        return await asyncio.to_thread(load)
    except BlemishError:
        return np.full((SIDE, SIDE, 3), GREY, np.uint8)
