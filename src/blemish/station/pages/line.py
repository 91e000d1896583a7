"""The display at the line: the verdict of the newest part, readable from five metres, and alarms."""

from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.station import alarms
from blemish.station.models import InspectionRow, now
from blemish.station.pages.heartbeat import sound_button
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, inspection_image, local_time, part_name, verdict_badge
from blemish.station.production_counts import ProductionCounts, count_verdicts, last_shifts, newest_part
from blemish.station.recipes import recipe_title

REFRESH_S = 0.4
MAX_ALARMS = 3  # shown as text, the newest first


def load(session: Session, station: str, shifts: list[str]) -> tuple[InspectionRow | None, ProductionCounts]:
    since, until = last_shifts(now(), shifts, 1)[0]
    return newest_part(session, station), count_verdicts(session, station, since, until)


async def build(page: PageSession, request: Request) -> None:
    t, settings, status = page.t, page.station.settings, page.station.status
    shown = {"id": -1}

    @ui.refreshable
    def content(row: InspectionRow | None, counts: ProductionCounts) -> None:
        shown["id"] = 0 if row is None else row.id
        with div("line-verdict"):
            if row is None:
                ui.label(t("No part yet")).classes("line-empty")
            else:
                verdict_badge(page, row.verdict, live=row.id).props("data-name=verdict")
        with div("line-side"):
            if row is not None:
                inspection_image(page, row.id, row.image_path is not None, side=640).props("data-live")
                ui.label(part_name(page, row.part_id, row.id)).classes("line-part")
                ui.label(f"{local_time(row.created_at)} · {t(row.label)}")
                ui.label(f"{t('recipe')} {recipe_title(row.recipe)}").props("data-name=part-recipe")
            with div("line-counts"):
                for verdict, number in (("pass", counts.passed), ("review", counts.review), ("reject", counts.reject)):
                    with div(f"figure {verdict}"):
                        ui.label(t(verdict)).classes("figure-name")
                        ui.label(f"{number:,}").classes("figure-value")

    with div("line-bar"):
        ui.label(settings.station).classes("brand")
        ui.label(t("active recipe"))  # the part below may have another one
        ui.label(status.recipe or t("no recipe")).classes("recipe-name")
        ui.label("").classes("connection")
        ui.space()
        with ui.link(target="/").classes("alarm-link").props(f'aria-label="{t("Alarms")}"').tooltip(t("Alarms")):
            ui.label("").classes("alarm-count").style("display: none")
        sound_button(page)
        full = ui.button(t("Full screen"), icon="fullscreen").props("flat dense no-caps data-name=fullscreen")
        toggle = "document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()"
        full.on("click", js_handler=f"() => {toggle}")
        leave = ui.button(icon="close", on_click=lambda: ui.navigate.to("/"))
        leave.props(f'flat dense aria-label="{t("Close")}"')
    _alarms(page)
    with div("line"):
        content(*await page.read(load, settings.station, settings.shifts))

    async def refresh() -> None:
        if (0 if status.last is None else status.last.id) != shown["id"]:
            page.require("operator")
            content.refresh(*await page.read(load, settings.station, settings.shifts))

    ui.timer(REFRESH_S, page.handler("operator", lambda user: refresh()), immediate=False)


def _alarms(page: PageSession) -> None:
    """What nobody has acknowledged yet, in one line each; it is acknowledged on Live."""
    t, status = page.t, page.station.status
    shown: list[tuple[int, bool]] = []

    @ui.refreshable
    def content() -> None:
        rows = [row for row in status.alarms if row.acknowledged_at is None]
        if not rows:
            return
        with div("line-alarms").props("role=status data-name=line-alarms"):
            for row in rows[:MAX_ALARMS]:
                with div("line-alarm ended" if row.ended_at is not None else "line-alarm"):
                    ui.icon("warning")
                    ui.label(alarms.alarm_text(row, t))
                    ui.label(f"{row.created_at.astimezone():%H:%M}").classes("line-alarm-time")
            if len(rows) > MAX_ALARMS:
                ui.label(t("and {number} more", number=len(rows) - MAX_ALARMS))

    def update() -> None:
        present = [(row.id, row.ended_at is None) for row in status.alarms if row.acknowledged_at is None]
        if present != shown:
            shown[:] = present
            content.refresh()

    content()
    ui.timer(REFRESH_S, update)
