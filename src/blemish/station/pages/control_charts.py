"""Control charts of rejects, defects and measured lengths, by hour, shift or lot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nicegui import ui
from nicegui.elements.mixins.value_element import ValueElement
from sqlalchemy.orm import Session

from blemish.qualify import shewhart
from blemish.qualify.shewhart import ControlChart
from blemish.station import subgroups
from blemish.station.models import RecipeRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import LIMIT_COLOUR, VALUE_COLOUR, alarm, choice_toggle, hint, line_chart, panel
from blemish.station.subgroups import GroupedParts

MIN_GROUPS, MAX_LENGTHS = 8, 200


async def build(page: PageSession, recipe: ValueElement[Any]) -> None:
    """The charts of the recipe whose id is chosen: those of several would mix what each of them takes for usual."""
    t, settings = page.t, page.station.settings
    with panel(t("Control charts")):
        choice = choice_toggle({name: t(name) for name in subgroups.GROUPED_BY}, "hour").props("data-name=grouped-by")

        @ui.refreshable
        async def content() -> None:
            data = await page.read(_load, settings.station, recipe.value, choice.value, settings.shifts)
            _charts(page, data.groups)
            _population(page, data)

        await content()
    choice.on_value_change(lambda: content.refresh())
    recipe.on_value_change(lambda: content.refresh())


@dataclass(frozen=True, slots=True)
class ChartData:
    recipe: str  # its name
    groups: GroupedParts


def _load(session: Session, station: str, recipe_id: int, by: str, shifts: Sequence[str]) -> ChartData:
    recipe = session.get_one(RecipeRow, recipe_id)
    return ChartData(recipe.name, subgroups.load_groups(session, station, recipe, by, shifts))


def _charts(page: PageSession, data: GroupedParts) -> None:
    t, groups = page.t, data.groups
    if len(groups) < MIN_GROUPS:
        hint(t("{have} of {need} required groups of parts.", have=len(groups), need=MIN_GROUPS))
    else:
        names, parts = [group.name for group in groups], [group.parts for group in groups]
        rejects = shewhart.chart_shares([group.rejects for group in groups], parts)
        _chart(page, t("Share of rejects (p chart)"), names, rejects)
        defects = shewhart.chart_rates([group.defects for group in groups], parts)
        _chart(page, t("Defects on a part (u chart)"), names, defects)
        measured = [group for group in groups if group.lengths]
        if len(measured) >= MIN_GROUPS and any(len(group.lengths) > 1 for group in measured):
            means = shewhart.chart_means([group.lengths for group in measured])
            title = t("Mean length of defects, {unit} (X-bar chart)", unit=data.unit)
            _chart(page, title, [group.name for group in measured], means)
            if not means.has_spread and np.any(shewhart.find_signals(means)):
                text = (
                    "The lengths within each group are the same: without spread there are no limits, and means off the "
                    "centre are red."
                )
                alarm(t(text))
    newest = data.lengths[-MAX_LENGTHS:]
    if len(newest) >= MIN_GROUPS:
        values, times = [length.value for length in newest], [subgroups.short_time(length.time) for length in newest]
        title = t("Length of defects, {unit} (I chart)", unit=data.unit)
        _chart(page, title, times, shewhart.chart_individuals(values))
        title = t("Difference of neighbouring lengths, {unit} (MR chart)", unit=data.unit)
        _chart(page, title, times[1:], shewhart.chart_moving_ranges(values), rules=1)
    hint(
        t("Limits at 3 standard deviations, from the values shown. Points that fulfil a Western Electric rule are red.")
    )


def _population(page: PageSession, shown: ChartData) -> None:
    t, data = page.t, shown.groups
    text = "Recipe {recipe} with this bundle, station {station}: {parts:,} inspections in the newest {groups} groups."
    parts, station = sum(group.parts for group in data.groups), page.station.settings.station
    values = {"recipe": shown.recipe, "station": station, "parts": parts, "groups": len(data.groups)}
    hint(t(text, **values)).props("data-name=population")
    if data.cut:
        text = "Groups left out, because they reach back beyond the newest {parts:,} inspections: {number}."
        hint(t(text, parts=subgroups.MAX_PARTS, number=data.cut)).props("data-name=cut")


def _chart(page: PageSession, title: str, names: list[str], chart: ControlChart, rules: int = 4) -> None:
    """One chart; its points up to the first `rules` rules are marked, and those that the newest fulfils are named."""
    t = page.t
    signals = shewhart.find_signals(chart)[:rules]
    marked = np.any(signals, axis=0)
    hint(title).props("data-name=chart-title")
    for (rule, *_), flags in zip(shewhart.RULES, signals, strict=False):
        if flags[-1]:
            alarm(f"{title}: {t(rule)}")
    points: list[Any] = [
        {"value": round(float(value), 6), "itemStyle": {"color": LIMIT_COLOUR}, "symbolSize": 9} if mark else
        round(float(value), 6)
        for value, mark in zip(chart.values, marked, strict=True)
    ]  # fmt: skip
    series = [
        {"name": title, "type": "line", "data": points, "color": VALUE_COLOUR, "symbol": "circle", "symbolSize": 5},
        _dashed(t("mean"), [chart.centre] * len(points), VALUE_COLOUR),
        _dashed(t("limits"), chart.low.tolist() if np.isfinite(chart.low).all() else [], LIMIT_COLOUR),
        _dashed(t("limits"), chart.high.tolist(), LIMIT_COLOUR),
    ]
    line_chart(names, series, 190)


def _dashed(name: str, values: list[float], colour: str) -> dict[str, Any]:
    style = {"width": 1, "type": "dashed"}
    return {"name": name, "type": "line", "data": values, "showSymbol": False, "color": colour, "lineStyle": style,
            "step": "middle"}  # fmt: skip
