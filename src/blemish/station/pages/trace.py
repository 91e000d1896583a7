"""Trace: search of inspected parts."""

import json
import math
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from nicegui import ui
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import DataError
from blemish.report.measurement_text import format_measurement
from blemish.station.auth import User
from blemish.station.models import InspectionRow, RecipeRow, RegionRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import (
    div,
    empty_state,
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


FIELDS = (
    "part_contains",
    "lot_contains",
    "verdict",
    "label",
    "recipe",
    "station",
    "reviewed",
    "since",
    "until",
    *SIZES,
)


async def build(page: PageSession, request: Request) -> None:
    await TracePage(page, request).build()


class TracePage:
    """The conditions of the search, and the shown page of its results."""

    def __init__(self, page: PageSession, request: Request) -> None:
        self.page = page
        given = {name: value for name, value in request.query_params.items() if name in FIELDS}
        self.values: dict[str, Any] = given | {
            name: float(given[name]) for name in SIZES if _is_number(given.get(name))
        }
        self.starts: list[int | None] = [None]  # id before which each page begins, up to the shown one
        self.search = page.handler("operator", self._search)

    async def build(self) -> None:
        choices = await self.page.read(_choices)
        with panel(), div("bar"):
            self._fields(*choices)
        await self.results()

    def _fields(self, labels: list[str], recipes: list[str], stations: list[str]) -> None:
        t = self.page.t
        verdicts = {name: t(name) for name in ("pass", "review", "reject")}
        self._field("part_contains", ui.input(t("part")))
        self._field("lot_contains", ui.input(t("lot")))
        self._field("verdict", ui.select(verdicts, label=t("verdict"), clearable=True))
        labels = _with(labels, self.values.get("label"))
        self._field("label", ui.select({name: t(name) for name in labels}, label=t("defect"), clearable=True))
        self._field("recipe", ui.select(_with(recipes, self.values.get("recipe")), label=t("recipe"), clearable=True))
        self._field(
            "station", ui.select(_with(stations, self.values.get("station")), label=t("station"), clearable=True)
        )
        reviewed = {"yes": t("reviewed"), "no": t("not reviewed")}
        self._field("reviewed", ui.select(reviewed, label=t("Review"), clearable=True))
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
            query = urlencode(where.model_dump(exclude_none=True, mode="json"))
            with div("bar"):
                ui.link(t("List as CSV"), f"/v1/inspections.csv?{query}").props("download data-name=csv")
                paper = f"/v1/inspections.pdf?{query}&language={self.page.language}"
                ui.link(t("List as PDF"), paper, new_tab=True).props("data-name=pdf")
            self._tiles(rows)
        first, last_id = PAGE * (len(self.starts) - 1) + 1, rows[-1].id
        names = (t("newer"), t("older"))
        pager(self.page, first, first + len(rows) - 1, total, self._newer, lambda: self._older(last_id), names)

    def _tiles(self, rows: list[InspectionRow]) -> None:
        with div("tiles"):
            for row in rows:
                with ui.element("div"):
                    thumbnail(self.page, row)
                    largest = max(row.regions, key=lambda region: region.area_px or 0.0, default=None)
                    if largest is not None:
                        hint(format_measurement(largest.measurements, "length"))
                    hint(local_time(row.created_at))

    def _filter(self) -> InspectionFilter:
        values = self.values
        return InspectionFilter(
            part_contains=_text(values.get("part_contains")),
            lot_contains=_text(values.get("lot_contains")),
            verdict=_one_of(values.get("verdict"), ("pass", "review", "reject")),
            label=_text(values.get("label")),
            recipe=_text(values.get("recipe")),
            station=_text(values.get("station")),
            reviewed={"yes": True, "no": False}.get(values.get("reviewed") or ""),
            since=_time(values.get("since")),
            until=_time(values.get("until")),
            **{name: _number(values.get(name)) for name in SIZES},  # type: ignore[arg-type]
        )

    async def _search(self, user: User) -> None:
        self.starts = [None]
        given = {name: value for name in FIELDS if (value := self.values.get(name)) not in (None, "")}
        # In the address, so that Back from a card shows the same list again.
        ui.run_javascript(f"history.replaceState(history.state, '', {json.dumps('/trace?' + urlencode(given))})")
        await self.results.refresh()

    async def _older(self, before: int) -> None:
        self.starts.append(before)
        await self.results.refresh()

    async def _newer(self) -> None:
        self.starts.pop()
        await self.results.refresh()


def _choices(session: Session) -> tuple[list[str], list[str], list[str]]:
    """All labels, recipes and stations in the record."""
    labels = set(session.scalars(select(InspectionRow.label).distinct()))
    labels |= set(session.scalars(select(RegionRow.label).distinct()))
    recipes = session.scalars(select(RecipeRow.name).distinct())
    return sorted(labels), sorted(recipes), sorted(session.scalars(select(InspectionRow.station).distinct()))


def _with(choices: list[str], value: str | None) -> list[str]:
    """The choices, and the value that the address gives."""
    return choices if value is None or value in choices else [*choices, value]


def _one_of(value: object, choices: tuple[str, ...]) -> Any:
    return value if value in choices else None


def _is_number(value: str | None) -> bool:
    try:
        return value is not None and math.isfinite(float(value))
    except ValueError:
        return False


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
