"""Trends: do good parts score as they did, where do defects lie, and are pictures still taken as they were?"""

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.station import drift, quality, recipes
from blemish.station.models import RecipeRow
from blemish.station.pages.frame import empty, panel
from blemish.station.pages.session import Visitor
from blemish.station.quality import Alarm

QUALITIES = (
    ("brightness", "Brightness", {"low": quality.DARK, "high": quality.BRIGHT}),
    ("sharpness", "Sharpness", {"low": quality.BLURRED}),
)
ANY = ""


@dataclass(frozen=True, slots=True)
class Shown:
    recipe: RecipeRow | None
    ids: list[int]
    scores: list[float]
    alarms: list[Alarm]
    usual: dict[str, float] | None
    quality: list[tuple[int, dict[str, float]]]
    labels: list[str]


def look(session: Session, station: str) -> Shown:
    recipe = recipes.active(session)
    if recipe is None:
        return Shown(None, [], [], [], None, [], [])
    ids, scores = drift.good_scores(session, recipe)
    return Shown(
        recipe,
        ids,
        scores,
        quality.alarms(session, recipe.id, station),
        quality.usual(session, recipe.id, station),
        quality.history(session, recipe.id, station),
        drift.region_labels(session),
    )


async def build(visitor: Visitor, request: Request) -> None:
    t = visitor.t
    found = await visitor.read(look, visitor.station.settings.station)
    if found.recipe is None:
        empty("show_chart", t("No recipe is in use"), t("Start the station with --bundle, or promote a training."))
        return
    _scores(visitor, found)
    with ui.element("div").classes("grid2"):
        with ui.element("div").classes("stack"):
            _quality(visitor, found)
        with ui.element("div").classes("stack"):
            await _density(visitor, found.recipe, found.labels)


def _scores(visitor: Visitor, found: Shown) -> None:
    t = visitor.t
    with panel(t("Scores of good parts")):
        base = min(drift.BASE, len(found.scores) // 2)
        if base < drift.LEAST_BASE:
            need = 2 * drift.LEAST_BASE
            ui.label(t("{have} of the {need} good parts that it takes.", have=len(found.scores), need=need)).classes(
                "soft"
            )
            return
        chart = drift.ewma(found.scores, base)
        if chart.drifted:
            _alarm(t("The scores of good parts have drifted; look at the pictures below, or train anew."))
        shown = slice(-1000, None)
        series: list[dict[str, Any]] = [
            {"name": t("score"), "type": "scatter", "symbolSize": 3, "data": found.scores[shown], "color": "#94a3b8"},
            _line(t("moving average"), chart.values[shown].tolist(), "#1f4e79", 2.5),
            _line(t("limits"), chart.low[shown].tolist(), "#dc2626", 1),
            _line(t("limits"), chart.high[shown].tolist(), "#dc2626", 1),
        ]
        _chart(found.ids[shown], series, 280)
        text = "The first {base} good parts of this bundle say what is usual; limits at 3 standard deviations."
        ui.label(t(text, base=base)).classes("soft")


def _quality(visitor: Visitor, found: Shown) -> None:
    t = visitor.t
    with panel(t("Pictures")):
        for alarm in found.alarms:
            _alarm(f"{t(alarm.kind)}: {alarm.text}")
        if found.usual is None:
            need = quality.LEAST_BASE
            ui.label(
                t("{have} of the {need} measured pictures that it takes.", have=len(found.quality), need=need)
            ).classes("soft")
            return
        ids = [id_ for id_, _ in found.quality]
        for name, title, bounds in QUALITIES:
            ui.label(t(title) + " (" + t("1 is usual") + ")").classes("soft")
            values = [row[name] / max(found.usual[name], 1e-6) for _, row in found.quality]
            lines = [_line(t("limits"), [bound] * len(ids), "#dc2626", 1) for bound in bounds.values()]
            _chart(ids, [_line(t(title), values, "#1f4e79", 1.5), *lines], 150)
        if found.usual.get("sure", 0.0) < quality.SURE:
            ui.label(
                t("The position cannot be told: the surface bears no mark that is the same on every part.")
            ).classes("soft")
            return
        ui.label(t("Shift, in parts of the picture's longer side")).classes("soft")
        shifts = [row.get("shift") for _, row in found.quality]
        limit = _line(t("limits"), [quality.SHIFTED] * len(ids), "#dc2626", 1)
        _chart(ids, [_line(t("Shift"), shifts, "#1f4e79", 1.5), limit], 150)


async def _density(visitor: Visitor, recipe: RecipeRow, labels: list[str]) -> None:
    t = visitor.t
    with panel(t("Where defects lie on the part")):
        if not labels:
            ui.label(t("No defect was outlined yet.")).classes("soft")
            return
        choice = ui.select({ANY: t("all defects"), **{name: t(name) for name in labels}}, value=ANY)
        choice.props(f'dense outlined options-dense aria-label="{t("defect")}"').style("width: 200px")

        @ui.refreshable
        async def shown() -> None:
            grid, number = await visitor.read(drift.density, recipe, choice.value or None)
            ui.label(t("{number:,} regions", number=number)).classes("soft")
            side = drift.GRID
            cells = [[x, side - 1 - y, round(float(grid[y, x]), 4)] for y in range(side) for x in range(side)]
            axis = {"type": "category", "data": list(range(side)), "show": False}
            ui.echart(
                {
                    "animation": False,
                    "grid": {"left": 4, "right": 4, "top": 4, "bottom": 40},
                    "xAxis": axis,
                    "yAxis": axis,
                    "tooltip": {},
                    "visualMap": {
                        "min": 0, "max": max(float(grid.max()), 1e-6), "orient": "horizontal", "left": "center",
                        "bottom": 0, "precision": 1, "itemWidth": 12, "itemHeight": 120,
                        "inRange": {"color": ["#f8fafc", "#fdba74", "#dc2626", "#450a0a"]},
                    },
                    "series": [{"type": "heatmap", "data": cells, "name": t("defects")}],
                }
            ).style("height: 380px; width: 100%")  # fmt: skip

        await shown()
        choice.on_value_change(lambda: shown.refresh())


def _alarm(text: str) -> None:
    with ui.element("div").classes("alarm"):
        ui.icon("warning", size="22px")
        ui.label(text)


def _line(name: str, values: list[Any], colour: str, width: float) -> dict[str, Any]:
    style = {"width": width, "type": "dashed" if width == 1 else "solid"}
    return {"name": name, "type": "line", "data": values, "showSymbol": False, "color": colour, "lineStyle": style}


def _chart(ids: list[int], series: list[dict[str, Any]], height: int) -> None:
    ui.echart(
        {
            "animation": False,
            "grid": {"left": 48, "right": 12, "top": 12, "bottom": 26},
            "xAxis": {"type": "category", "data": ids},
            "yAxis": {"type": "value", "scale": True},
            "tooltip": {"trigger": "axis"},
            "series": series,
        }
    ).style(f"height: {height}px; width: 100%")
