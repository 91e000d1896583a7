"""Live: the last part, production counts, defects, and the last rejects."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.arrays import Scores
from blemish.station import production_counts
from blemish.station.models import InspectionRow
from blemish.station.pages.alarm_list import AlarmList
from blemish.station.pages.heartbeat import sound_button
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import (
    choice_toggle,
    div,
    empty_state,
    hint,
    inspection_image,
    local_time,
    measurement_table,
    metric_tile,
    panel,
    part_name,
    table,
    thumbnail,
    two_columns,
    verdict_badge,
)
from blemish.station.production_counts import ProductionCounts
from blemish.station.recipes import recipe_title
from blemish.station.repository import InspectionFilter, find_inspections

PERIODS = {1: "last hour", 8: "last 8 hours", 24: "last 24 hours", 168: "last 7 days"}
DEFAULT_HOURS = 24
REFRESH_S = 1.0
MAX_REJECTS = 16
COUNT_S = 10.0
COUNTED_BY = ("shift", "hour", "lot")
STATE_ICONS = {"ok": "check_circle", "warning": "error", "lost": "cancel"}


@dataclass(frozen=True, slots=True)
class LiveData:
    last: InspectionRow | None
    counts: ProductionCounts
    pareto: list[tuple[str, int]]
    latencies: Scores
    rejects: list[InspectionRow]

    @property
    def key(self) -> tuple[object, ...]:
        """Differs where what is shown does."""
        last = None if self.last is None else self.last.id
        return last, self.counts, tuple(self.pareto), tuple((row.id, row.label) for row in self.rejects)


def load(session: Session, station: str, hours: int) -> LiveData:
    """Counts of this station only, although others may share its database."""
    since = datetime.now(UTC) - timedelta(hours=hours)
    rejects = InspectionFilter(station=station, verdict="reject", production=True)
    return LiveData(
        last=production_counts.newest_part(session, station),
        counts=production_counts.count_verdicts(session, station, since),
        pareto=production_counts.defect_pareto(session, station, since),
        latencies=production_counts.latencies(session, station),
        rejects=find_inspections(session, rejects, MAX_REJECTS),
    )


async def build(page: PageSession, request: Request) -> None:
    t, station = page.t, page.station.settings.station
    with div("bar"):
        hours = ui.select({key: t(name) for key, name in PERIODS.items()}, value=DEFAULT_HOURS)
        hours.props(f'dense outlined options-dense aria-label="{t("Period")}"')
        ui.space()
        sound_button(page)
        line = ui.button(t("Line display"), icon="fullscreen", on_click=lambda: ui.navigate.to("/line"))
        line.props("flat dense no-caps data-name=line")
    AlarmList(page)
    shown: dict[str, tuple[object, ...]] = {}

    @ui.refreshable
    def content(data: LiveData) -> None:
        shown["key"] = data.key
        if data.last is None:
            empty_state("photo_camera", t("No part yet"), t("The first inspected part appears here automatically."))
            return
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

    async def refresh() -> None:
        data = await page.read(load, station, hours.value)
        if data.key != shown["key"]:
            content.refresh(data)

    async def follow() -> None:
        """Show a new part at once; counts also change as parts grow older than the period, and by reviews."""
        last = page.station.status.last
        if (None if last is None else last.id) != shown["key"][0]:
            await refresh()

    hours.on_value_change(page.handler("operator", lambda user: refresh()))
    ui.timer(REFRESH_S, page.handler("operator", lambda user: follow()), immediate=False)
    ui.timer(COUNT_S, page.handler("operator", lambda user: refresh()), immediate=False)
    with two_columns() as (left, right):
        with left:
            await _periods(page)
        with right:
            _states(page)


async def _periods(page: PageSession) -> None:
    """Counts by shift, hour and lot."""
    t = page.t
    with panel(t("Counts over time")):
        choice = choice_toggle({name: t(name) for name in COUNTED_BY}, "shift").props("data-name=counted-by")

        @ui.refreshable
        async def content() -> None:
            rows = await page.read(_count, page.station.settings.station, choice.value, page.station.settings.shifts)
            header = [t(name) for name in (choice.value, "parts", "pass", "review", "reject", "yield")]
            table(((name or t("no lot"), *_numbers(counts)) for name, counts in rows), header)
            if not rows:
                hint(t("None in this period."))

        await content()
    choice.on_value_change(lambda: content.refresh())
    ui.timer(COUNT_S, content.refresh, immediate=False)


def _numbers(counts: ProductionCounts) -> list[str]:
    share = counts.first_pass_yield
    numbers = (counts.parts, counts.passed, counts.review, counts.reject)
    return [*(f"{number:,}" for number in numbers), "–" if share is None else f"{share:.1%}"]


def _count(session: Session, station: str, by: str, shifts: list[str]) -> list[tuple[str | None, ProductionCounts]]:
    time = datetime.now(UTC)
    if by == "lot":
        return production_counts.count_by_lot(session, station, time - timedelta(days=7))
    hours = by == "hour"
    periods = production_counts.last_hours(time, 8) if hours else production_counts.last_shifts(time, shifts, 4)
    counts = production_counts.count_by_period(session, station, periods)
    return [(f"{since:%Y-%m-%d %H:%M}", number) for since, number in counts]


def _states(page: PageSession) -> None:
    """Sources, sinks, engine, database and disk."""
    t, status = page.t, page.station.status
    shown: list[object] = []

    @ui.refreshable
    def content() -> None:
        with div("states"):
            for component in status.components():
                with div(f"state {component.state}").props(f"data-name=state-{component.kind}"):
                    ui.icon(STATE_ICONS[component.state], size="18px")
                    name = f"{t(component.kind)} {component.name}"
                    refused = component.kind == "sink" and component.detail.values.get("dead")
                    ui.link(name, "/dead-letters") if refused else ui.label(name)
                    hint(component.detail.translated(t))

    with panel(t("State of the station")):
        content()

    def update() -> None:
        present = status.components()
        if present != shown:
            shown[:] = present
            content.refresh()

    ui.timer(REFRESH_S, update)


def _last_part(page: PageSession, row: InspectionRow) -> None:
    t = page.t
    with panel():
        with div("bar"):
            verdict_badge(page, row.verdict, live=row.id).props("data-name=verdict")
            with ui.element("div"):
                ui.link(part_name(page, row.part_id, row.id), f"/card/{row.id}").style("font-weight: 600")
                lot = f" · {t('lot')} {row.lot}" if row.lot else ""
                hint(f"{local_time(row.created_at)}{lot} · {t(row.origin)}")
                hint(f"{t('recipe')} {recipe_title(row.recipe)}").props("data-name=part-recipe")
        inspection_image(page, row.id, row.image_path is not None, side=1024).classes("wide").props("data-live")
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
