"""Trace: search of inspected parts."""

import math
from datetime import datetime
from typing import Any

from fastapi import Request
from nicegui import ui
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import DataError
from blemish.station.auth import User
from blemish.station.models import InspectionRow, RegionRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import (
    div,
    empty_state,
    format_measure,
    hint,
    local_time,
    pager,
    panel,
    thumbnail,
)
from blemish.station.repository import InspectionFilter, count_inspections, find_inspections

PAGE = 24
SIZES = {
    "min_length_px": "min. length, px",
    "min_area_px": "min. area, px²",
    "min_length_mm": "min. length, mm",
    "min_area_mm2": "min. area, mm²",
}


async def build(page: PageSession, request: Request) -> None:
    await TracePage(page, request).build()


class TracePage:
    """The conditions of the search, and the shown page of its results."""

    def __init__(self, page: PageSession, request: Request) -> None:
        self.page = page
        self.values: dict[str, Any] = {"part_id": request.query_params.get("part", "")}
        self.starts: list[int | None] = [None]  # id before which each page begins, up to the shown one
        self.search = page.handler("operator", self._search)

    async def build(self) -> None:
        labels = await self.page.read(_labels)
        with panel(), div("bar"):
            self._fields(labels)
        await self.results()

    def _fields(self, labels: list[str]) -> None:
        t = self.page.t
        verdicts = {name: t(name) for name in ("pass", "review", "reject")}
        self._field("part_id", ui.input(t("part")))
        self._field("lot", ui.input(t("lot")))
        self._field("verdict", ui.select(verdicts, label=t("verdict"), clearable=True))
        self._field("label", ui.select({name: t(name) for name in labels}, label=t("defect"), clearable=True))
        for name, title in (("since", t("from")), ("until", t("until"))):
            self._field(name, ui.input(title).props("type=datetime-local stack-label"), width=190)
        for name, title in SIZES.items():
            self._field(name, ui.number(t(title), min=0), width=150)
        ui.button(t("Search"), icon="search", on_click=self.search).props("no-caps data-name=search")

    def _field(self, name: str, element: Any, width: int = 140) -> None:
        element.props(f"dense outlined options-dense data-name={name}").style(f"width: {width}px")
        element.bind_value(self.values, name)
        element.on("keydown.enter", self.search)

    @ui.refreshable_method
    async def results(self) -> None:
        t, where = self.page.t, self._filter()
        rows = await self.page.read(find_inspections, where, PAGE, self.starts[-1])
        total = await self.page.read(count_inspections, where)
        if not rows:
            empty_state("search_off", t("Nothing found"), t("No recorded part meets all of these conditions."))
            return
        with panel() as box:
            box.props("data-name=results")
            self._tiles(rows)
        first, last_id = PAGE * (len(self.starts) - 1) + 1, rows[-1].id
        names = (t("newer"), t("older"))
        pager(first, first + len(rows) - 1, total, self._newer, lambda: self._older(last_id), names)

    def _tiles(self, rows: list[InspectionRow]) -> None:
        with div("tiles"):
            for row in rows:
                with ui.element("div"):
                    thumbnail(self.page, row)
                    largest = max(row.regions, key=lambda region: region.area_px or 0.0, default=None)
                    if largest is not None:
                        hint(format_measure(largest.measurements, "length"))
                    hint(local_time(row.created_at))

    def _filter(self) -> InspectionFilter:
        values = self.values
        return InspectionFilter(
            part_id=_text(values.get("part_id")),
            lot=_text(values.get("lot")),
            verdict=values.get("verdict"),
            label=values.get("label"),
            since=_time(values.get("since")),
            until=_time(values.get("until")),
            **{name: _number(values.get(name)) for name in SIZES},  # type: ignore[arg-type]
        )

    async def _search(self, user: User) -> None:
        self.starts = [None]
        await self.results.refresh()

    async def _older(self, before: int) -> None:
        self.starts.append(before)
        await self.results.refresh()

    async def _newer(self) -> None:
        self.starts.pop()
        await self.results.refresh()


def _labels(session: Session) -> list[str]:
    """All labels in the record."""
    labels = set(session.scalars(select(InspectionRow.label).distinct()))
    return sorted(labels | set(session.scalars(select(RegionRow.label).distinct())))


def _text(value: object) -> str | None:
    return str(value).strip().replace("\x00", "")[:200] or None if value else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _time(value: object) -> datetime | None:
    """A local time from a browser's field."""
    if not value:
        return None
    try:
        return datetime.fromisoformat(str(value)).astimezone()
    except (ValueError, OverflowError) as error:
        raise DataError(f"invalid time '{value}'") from error
