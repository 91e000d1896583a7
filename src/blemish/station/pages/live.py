"""Live: the last part, production counts, defects, and the last rejects."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.arrays import Scores
from blemish.station import production_counts
from blemish.station.image_quality import QualityAlarm, find_alarms
from blemish.station.models import InspectionRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import (
    alarm,
    div,
    empty_state,
    hint,
    inspection_image,
    local_time,
    measurement_table,
    metric_tile,
    panel,
    part_name,
    thumbnail,
    two_columns,
    verdict_badge,
)
from blemish.station.production_counts import ProductionCounts
from blemish.station.repository import InspectionFilter, find_inspections

PERIODS = {1: "last hour", 8: "last 8 hours", 24: "last 24 hours", 168: "last 7 days"}
DEFAULT_HOURS = 24
REFRESH_S = 1.0
MAX_REJECTS = 16


@dataclass(frozen=True, slots=True)
class LiveData:
    last: InspectionRow | None
    counts: ProductionCounts
    pareto: list[tuple[str, int]]
    latencies: Scores
    rejects: list[InspectionRow]
    alarms: list[QualityAlarm]


def load(session: Session, station: str, hours: int) -> LiveData:
    """Of this station only, although others may share its database."""
    since = datetime.now(UTC) - timedelta(hours=hours)
    last = next(iter(find_inspections(session, InspectionFilter(station=station), limit=1)), None)
    return LiveData(
        last=last,
        counts=production_counts.count_verdicts(session, station, since),
        pareto=production_counts.defect_pareto(session, station, since),
        latencies=production_counts.latencies(session, station),
        rejects=find_inspections(session, InspectionFilter(station=station, verdict="reject"), MAX_REJECTS),
        alarms=find_alarms(session, last.recipe_id, station) if last else [],
    )


async def build(page: PageSession, request: Request) -> None:
    t, station = page.t, page.station.settings.station
    with div("bar"):
        hours = ui.select({key: t(name) for key, name in PERIODS.items()}, value=DEFAULT_HOURS)
        hours.props(f'dense outlined options-dense aria-label="{t("Period")}"')
    shown = {"id": -1}

    @ui.refreshable
    def content(data: LiveData) -> None:
        shown["id"] = data.last.id if data.last else 0
        if data.last is None:
            empty_state("photo_camera", t("No part yet"), t("The first inspected part appears here automatically."))
            return
        for quality in data.alarms:
            alarm(f"{t(quality.kind)}: {quality.value:.1%}")
        with two_columns() as (left, right):
            with left:
                _last_part(page, data.last)
            with right:
                _counts(page, data)
                _pareto(page, data.pareto)
        with panel(t("Last rejects")):
            if not data.rejects:
                hint(t("No part was rejected yet."))
            with div("strip"):
                for row in data.rejects:
                    thumbnail(page, row)

    content(await page.read(load, station, DEFAULT_HOURS))

    async def refresh(always: bool = False) -> None:
        if always or await page.read(production_counts.newest_id, station) != shown["id"]:
            page.require("operator")
            content.refresh(await page.read(load, station, hours.value))

    hours.on_value_change(page.handler("operator", lambda user: refresh(always=True)))
    ui.timer(REFRESH_S, page.handler("operator", lambda user: refresh()), immediate=False)


def _last_part(page: PageSession, row: InspectionRow) -> None:
    t = page.t
    with panel():
        with div("bar"):
            verdict_badge(page, row.verdict, large=True).props("data-name=verdict")
            with ui.element("div"):
                ui.link(part_name(page, row.part_id, row.id), f"/card/{row.id}").style("font-weight: 600")
                lot = f" · {t('lot')} {row.lot}" if row.lot else ""
                hint(f"{local_time(row.created_at)}{lot} · {t(row.origin)}")
        inspection_image(page, row.id, row.image_path is not None, side=1024).classes("wide")
        for reason in page.reasons(row):
            hint(reason)
        if row.regions:
            measurement_table(page, row)


def _counts(page: PageSession, data: LiveData) -> None:
    t, counts = page.t, data.counts
    waiting, share = page.station.service.depth, counts.first_pass_yield
    with panel(t("Count")), div("figures"):
        metric_tile(t("parts"), f"{counts.parts:,}", t("{number} waiting", number=waiting) if waiting else "")
        metric_tile(t("yield"), "–" if share is None else f"{share:.1%}", t("first pass"))
        for verdict, number in (("pass", counts.passed), ("review", counts.review), ("reject", counts.reject)):
            metric_tile(t(verdict), f"{number:,}", tone=verdict)
        if len(data.latencies):
            median, p95 = np.percentile(data.latencies, [50, 95])
            metric_tile(t("latency"), f"{median:.0f} ms", t("95 % within {ms:.0f} ms", ms=p95))


def _pareto(page: PageSession, pareto: list[tuple[str, int]]) -> None:
    with panel(page.t("Defects")):
        if not pareto:
            hint(page.t("None in this period."))
        with div("pareto"):
            for label, number in pareto:
                ui.label(page.t(label))
                div("rod").style(f"width: {100 * number / pareto[0][1]:.1f}%")
                ui.label(f"{number:,}")
