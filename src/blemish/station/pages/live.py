"""Live: the last part, the counts, what defects there were, and the rejects that went by."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.station import production_counts as figures
from blemish.station import quality
from blemish.station import repository as record
from blemish.station.models import InspectionRow
from blemish.station.pages.frame import empty, figure, no_picture, panel, picture
from blemish.station.pages.session import Visitor
from blemish.station.pages.widgets import local, measurement_table, thumbnail
from blemish.station.production_counts import Counts
from blemish.station.quality import Alarm
from blemish.station.repository import Filter

PERIODS = {1: "last hour", 8: "last 8 hours", 24: "last 24 hours", 168: "last 7 days"}
LOOK_S = 1.0
STRIP = 16


@dataclass(frozen=True, slots=True)
class Shown:
    last: InspectionRow | None
    counts: Counts
    pareto: list[tuple[str, int]]
    latencies: figures.Floats
    rejects: list[InspectionRow]
    alarms: list[Alarm]


def look(session: Session, station: str, hours: int) -> Shown:
    """Of this station alone, though others may share its record."""
    since = datetime.now(UTC) - timedelta(hours=hours)
    last = record.find(session, Filter(station=station), limit=1)
    return Shown(
        last=last[0] if last else None,
        counts=figures.counts(session, station, since),
        pareto=figures.pareto(session, station, since),
        latencies=figures.latencies(session, station),
        rejects=record.find(session, Filter(station=station, verdict="reject"), STRIP),
        alarms=quality.alarms(session, last[0].recipe_id, station) if last else [],
    )


async def build(visitor: Visitor, request: Request) -> None:
    t, station = visitor.t, visitor.station.settings.station
    with ui.element("div").classes("bar"):
        hours = ui.select({key: t(name) for key, name in PERIODS.items()}, value=24)
        hours.props(f'dense outlined options-dense aria-label="{t("Period")}"')
    shown = {"id": -1}
    first = await visitor.read(look, station, 24)

    @ui.refreshable
    def content(found: Shown) -> None:
        shown["id"] = found.last.id if found.last else 0
        if found.last is None:
            empty("photo_camera", t("No part yet"), t("The first inspected part appears here by itself."))
            return
        for alarm in found.alarms:
            with ui.element("div").classes("alarm"):
                ui.icon("warning", size="22px")
                ui.label(t(alarm.kind) + ": " + alarm.text)
        with ui.element("div").classes("grid2"):
            with ui.element("div").classes("stack"):
                _last_part(visitor, found.last)
            with ui.element("div").classes("stack"):
                _counts(visitor, found)
                _pareto(visitor, found.pareto)
        _strip(visitor, found.rejects)

    content(first)

    async def refresh(always: bool = False) -> None:
        if always or await visitor.read(figures.newest, station) != shown["id"]:
            visitor.require("operator")
            content.refresh(await visitor.read(look, station, hours.value))

    hours.on_value_change(visitor.does("operator", lambda user: refresh(always=True)))
    ui.timer(LOOK_S, visitor.does("operator", lambda user: refresh()), immediate=False)


def _last_part(visitor: Visitor, row: InspectionRow) -> None:
    t = visitor.t
    with panel():
        with ui.element("div").classes("bar"):
            ui.label(t(row.verdict)).classes(f"verdict large {row.verdict}").props("data-name=verdict")
            with ui.element("div"):
                ui.link(row.part_id or t("part {id}", id=row.id), f"/card/{row.id}").style("font-weight: 600")
                lot = f" · {t('lot')} {row.lot}" if row.lot else ""
                ui.label(f"{local(row.created_at)}{lot} · {t(row.source)}").classes("soft")
        if row.image_path is None:
            no_picture(visitor)
        else:
            picture(visitor, row.id, "overlay", 1024).classes("wide")
        for reason in row.reasons:
            ui.label(visitor.reason(reason)).classes("soft")
        if row.regions:
            measurement_table(visitor, row)


def _counts(visitor: Visitor, found: Shown) -> None:
    t, counts = visitor.t, found.counts
    with panel(t("Count")), ui.element("div").classes("figures"):
        waiting = visitor.station.service.depth
        figure(t("parts"), f"{counts.parts:,}", t("{number} waiting", number=waiting) if waiting else "")
        share = counts.passed_share
        figure(t("yield"), "–" if share is None else f"{share:.1%}", t("passed at once"))
        figure(t("pass"), f"{counts.passed:,}", tone="pass")
        figure(t("review"), f"{counts.review:,}", tone="review")
        figure(t("reject"), f"{counts.reject:,}", tone="reject")
        if len(found.latencies):
            half, most = np.percentile(found.latencies, [50, 95])
            figure(t("latency"), f"{half:.0f} ms", t("95 % within {ms:.0f} ms", ms=most))


def _pareto(visitor: Visitor, found: list[tuple[str, int]]) -> None:
    t = visitor.t
    with panel(t("Defects")):
        if not found:
            ui.label(t("None in this period.")).classes("soft")
            return
        most = found[0][1]
        with ui.element("div").classes("pareto"):
            for label, number in found:
                ui.label(t(label))
                ui.element("div").classes("rod").style(f"width: {100 * number / most:.1f}%")
                ui.label(f"{number:,}")


def _strip(visitor: Visitor, rows: list[InspectionRow]) -> None:
    t = visitor.t
    with panel(t("Last rejects")):
        if not rows:
            ui.label(t("No part was rejected yet.")).classes("soft")
        with ui.element("div").classes("strip"):
            for row in rows:
                thumbnail(visitor, row)
