"""Trends: control charts, scores of good parts, positions of defects on the part, and image quality over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.imaging.quality import Quality
from blemish.qualify.control_charts import compute_ewma
from blemish.station import drift, image_quality
from blemish.station.models import RecipeRow
from blemish.station.pages import control_charts, defect_map
from blemish.station.pages.session import PageSession
from blemish.station.pages.shift_reports import list_reports
from blemish.station.pages.widgets import (
    LIMIT_COLOUR,
    POINT_COLOUR,
    VALUE_COLOUR,
    alarm,
    div,
    hint,
    line_chart,
    no_recipe,
    panel,
    two_columns,
)
from blemish.station.populations import used_recipes
from blemish.station.recipes import recipe_title
from blemish.station.subgroups import local_names

QUALITIES = (
    ("brightness", "Brightness", (image_quality.MIN_BRIGHTNESS, image_quality.MAX_BRIGHTNESS)),
    ("sharpness", "Sharpness", (image_quality.MIN_SHARPNESS,)),
)
MAX_POINTS = 1000


@dataclass(frozen=True, slots=True)
class TrendData:
    recipe: RecipeRow
    ids: list[int]
    scores: list[float]
    alarms: list[image_quality.QualityAlarm]
    baseline: Quality | None
    quality: list[tuple[int, Quality]]
    labels: list[str]
    names: list[str]  # times of the shown ids
    quality_names: list[str]


def load(session: Session, station: str, recipe_id: int) -> TrendData:
    recipe = session.get_one(RecipeRow, recipe_id)
    ids, scores = drift.good_scores(session, recipe, station)
    quality = image_quality.quality_history(session, recipe.id, station)
    return TrendData(
        recipe,
        ids,
        scores,
        image_quality.find_alarms(session, recipe.id, station),
        image_quality.quality_baseline(session, recipe.id, station),
        quality,
        drift.region_labels(session),
        local_names(session, ids[-MAX_POINTS:]),
        local_names(session, [key for key, _ in quality]),
    )


async def build(page: PageSession, request: Request) -> None:
    station = page.station.settings.station
    recipes = {recipe.id: recipe_title(recipe) for recipe in await page.read(used_recipes, station)}
    if not recipes:
        no_recipe(page, "show_chart")
        return
    with div("bar"):
        choice = ui.select(recipes, value=next(iter(recipes)), label=page.t("Recipe"))
        choice.props("dense outlined options-dense data-name=trend-recipe").style("width: 260px")
    await control_charts.build(page, choice)

    @ui.refreshable
    async def content() -> None:
        data = await page.read(load, station, choice.value)
        _scores(page, data)
        with two_columns() as (left, right):
            with left:
                _quality(page, data)
            with right:
                await defect_map.build(page, data.recipe, data.labels)

    await content()
    choice.on_value_change(content.refresh)
    list_reports(page)


def _scores(page: PageSession, data: TrendData) -> None:
    t = page.t
    with panel(t("Scores of good parts")):
        baseline = min(drift.BASELINE, len(data.scores) // 2)
        if baseline < drift.MIN_BASELINE:
            required = 2 * drift.MIN_BASELINE
            have = t("{have} of {need} required good parts.", have=len(data.scores), need=required)
            hint(f"{have} {_population(page, data)}")
            return
        ewma = compute_ewma(data.scores, baseline)
        if ewma.drifted:
            alarm(t("The scores of good parts have drifted; check the image quality below, or train again."))
        newest = slice(-MAX_POINTS, None)
        points = {"type": "scatter", "symbolSize": 3, "data": data.scores[newest], "color": POINT_COLOUR}
        series = [
            {"name": t("score"), **points},
            _line(t("moving average"), ewma.values[newest].tolist(), VALUE_COLOUR, 2.5),
            *(_line(t("limits"), values[newest].tolist(), LIMIT_COLOUR) for values in (ewma.low, ewma.high)),
        ]
        line_chart(data.names, series, 280)
        text = "Baseline: the first {number} of them; limits at 3 standard deviations."
        hint(f"{_population(page, data)} {t(text, number=baseline)}").props("data-name=population")


def _population(page: PageSession, data: TrendData) -> str:
    text = (
        "Recipe {recipe}, station {station}: {number:,} good parts, the first and the newest; one that came again "
        "counts once."
    )
    return page.t(text, recipe=data.recipe.name, station=page.station.settings.station, number=len(data.scores))


def _quality(page: PageSession, data: TrendData) -> None:
    t = page.t
    with panel(t("Image quality")):
        for quality in data.alarms:
            alarm(f"{t(quality.kind)}: {quality.value:.1%}")
        if data.baseline is None:
            required = image_quality.MIN_BASELINE
            hint(t("{have} of {need} required measured images.", have=len(data.quality), need=required))
            return
        number = len(data.quality)

        def chart(title: str, name: str, values: Sequence[float | None], limits: Sequence[float]) -> None:
            hint(title)
            lines = [_line(t("limits"), [limit] * number, LIMIT_COLOUR) for limit in limits]
            line_chart(data.quality_names, [_line(name, values, VALUE_COLOUR, 1.5), *lines], 150)

        for key, name, limits in QUALITIES:
            values = [row[key] / max(data.baseline[key], 1e-6) for _, row in data.quality]
            chart(f"{t(name)} ({t('1 is the baseline')})", t(name), values, limits)
        if data.baseline.get("confidence", 0.0) < image_quality.MIN_CONFIDENCE:
            hint(t("Position is not monitored: the surface has no feature that is the same on every part."))
            return
        shifts = [image_quality.find_shift(data.baseline, row) for _, row in data.quality]
        chart(t("Shift, as a share of the image's longer side"), t("Shift"), shifts, (image_quality.MAX_SHIFT,))


def _line(name: str, values: Sequence[float | None], colour: str, width: float = 1) -> dict[str, Any]:
    style = {"width": width, "type": "dashed" if width == 1 else "solid"}
    return {"name": name, "type": "line", "data": values, "showSymbol": False, "color": colour, "lineStyle": style}
