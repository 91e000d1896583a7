"""Trace: any part found again."""

import math
from datetime import datetime
from functools import partial
from typing import Any

from fastapi import Request
from nicegui import ui
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import DataError
from blemish.station import repository as record
from blemish.station.auth import User
from blemish.station.models import InspectionRow, RegionRow
from blemish.station.pages.frame import empty, panel
from blemish.station.pages.session import Visitor
from blemish.station.pages.widgets import local, measured, thumbnail
from blemish.station.repository import Filter

PAGE = 24


async def build(visitor: Visitor, request: Request) -> None:
    await Trace(visitor, request).show()


class Trace:
    """The page of one visitor: what to search for, and the page of results that is shown."""

    def __init__(self, visitor: Visitor, request: Request) -> None:
        self.visitor = visitor
        self.values: dict[str, Any] = {"part_id": request.query_params.get("part", "")}
        self.pages: list[int | None] = [None]  # where each page up to the shown one begins

    async def show(self) -> None:
        labels = await self.visitor.read(_labels)
        with panel(), ui.element("div").classes("bar"):
            self._fields(labels)
        await self.results()

    def _fields(self, labels: list[str]) -> None:
        t = self.visitor.t
        verdicts = {name: t(name) for name in ("pass", "review", "reject")}
        self._field("part_id", ui.input(t("part")))
        self._field("lot", ui.input(t("lot")))
        self._field("verdict", ui.select(verdicts, label=t("verdict"), clearable=True))
        self._field("label", ui.select({name: t(name) for name in labels}, label=t("defect"), clearable=True))
        self._field("since", ui.input(t("from")).props("type=datetime-local stack-label"), width=190)
        self._field("until", ui.input(t("until")).props("type=datetime-local stack-label"), width=190)
        self._field("min_length_px", ui.number(t("length from, px"), min=0))
        self._field("min_area_px", ui.number(t("area from, px²"), min=0))
        self._field("min_length_mm", ui.number(t("length from, mm"), min=0), width=160)
        self._field("min_area_mm2", ui.number(t("area from, mm²"), min=0), width=160)
        search = self.visitor.does("operator", self._search)
        ui.button(t("Search"), icon="search", on_click=search).props("no-caps data-name=search")

    def _field(self, name: str, element: Any, width: int = 140) -> None:
        element.props(f"dense outlined options-dense data-name={name}").style(f"width: {width}px")
        element.bind_value(self.values, name)
        element.on("keydown.enter", self.visitor.does("operator", self._search))

    @ui.refreshable_method
    async def results(self) -> None:
        t, where = self.visitor.t, self._filter()
        rows = await self.visitor.read(record.find, where, PAGE, self.pages[-1])
        total = await self.visitor.read(record.count, where)
        if not rows:
            empty("search_off", t("Nothing found"), t("No recorded part fulfils all of these conditions."))
            return
        first = PAGE * (len(self.pages) - 1) + 1
        last = first + len(rows) - 1
        ui.label(
            t("{first:,} to {last:,} of {total:,} parts, newest first", first=first, last=last, total=total)
        ).classes("soft")
        with panel() as box:
            box.props("data-name=results")
            self._tiles(rows)
        with ui.element("div").classes("bar"):
            back = ui.button(t("newer"), icon="chevron_left", on_click=self._newer).props("flat no-caps")
            back.set_enabled(len(self.pages) > 1)
            older = ui.button(t("older"), icon="chevron_right", on_click=partial(self._older, rows[-1].id))
            older.props("flat no-caps").set_enabled(last < total)

    def _tiles(self, rows: list[InspectionRow]) -> None:
        with ui.element("div").classes("tiles"):
            for row in rows:
                with ui.element("div"):
                    thumbnail(self.visitor, row)
                    worst = max(row.regions, key=lambda region: region.area_px or 0.0, default=None)
                    if worst is not None:
                        ui.label(measured(worst.measurements, "length")).classes("soft")
                    ui.label(local(row.created_at)).classes("soft")

    def _filter(self) -> Filter:
        values = self.values
        return Filter(
            part_id=_text(values.get("part_id")),
            lot=_text(values.get("lot")),
            verdict=values.get("verdict"),
            label=values.get("label"),
            since=_time(values.get("since")),
            until=_time(values.get("until")),
            min_length_px=_number(values.get("min_length_px")),
            min_area_px=_number(values.get("min_area_px")),
            min_length_mm=_number(values.get("min_length_mm")),
            min_area_mm2=_number(values.get("min_area_mm2")),
        )

    async def _search(self, user: User) -> None:
        self.pages = [None]
        await self.results.refresh()

    async def _older(self, before: int) -> None:
        self.pages.append(before)
        await self.results.refresh()

    async def _newer(self) -> None:
        self.pages.pop()
        await self.results.refresh()


def _labels(session: Session) -> list[str]:
    """All labels in the record."""
    found = set(session.scalars(select(InspectionRow.label).distinct()))
    return sorted(found | set(session.scalars(select(RegionRow.label).distinct())))


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
        raise DataError(f"{value} is no time") from error
