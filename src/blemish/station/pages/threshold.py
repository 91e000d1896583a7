"""Thresholds: their position among the scores of reviewed parts, and the effect of moving them."""

from fastapi import Request
from nicegui import ui

from blemish.station import thresholds
from blemish.station.models import RecipeRow
from blemish.station.pages.decision_change import DecisionChange, load_active
from blemish.station.pages.score_histogram import ScoreHistogram
from blemish.station.pages.session import PageSession
from blemish.station.pages.view_thresholds import ViewThresholds
from blemish.station.pages.widgets import div, empty_state, hint, no_recipe, panel, swatch
from blemish.station.recipe_views import parse_views
from blemish.station.thresholds import ScoredPart

COLOURS = {"good": "#16a34a", "defective": "#dc2626", "not reviewed": "#94a3b8"}


async def build(page: PageSession, request: Request) -> None:
    t = page.t
    recipe, parts = await page.read(load_active)
    if recipe is None:
        no_recipe(page, "tune")
    elif (views := parse_views(recipe.views)) is not None:
        await ViewThresholds(page, recipe, views).build()
    elif not parts:
        text = t("The histogram appears when parts have been inspected with this recipe.")
        empty_state("bar_chart", t("No scores yet"), text)
    else:
        await ThresholdPage(page, recipe, parts).build()


class ThresholdPage:
    """Both thresholds can be moved, and then saved as a new version of the recipe."""

    def __init__(self, page: PageSession, recipe: RecipeRow, parts: list[ScoredPart]) -> None:
        self.page = page
        self.change = DecisionChange(page, recipe, parts, "Why are the thresholds changed?")

    async def build(self) -> None:
        t, change = self.page.t, self.change
        reviewed = sum(part.true_label is not None for part in change.parts)
        effect = await change.start()
        edges, counts = thresholds.score_histogram(change.parts, change.decision)
        editable = self.page.may("engineer")
        title = "Scores of the newest {parts:,} parts, {reviewed:,} of them reviewed"
        with panel(t(title, parts=len(change.parts), reviewed=reviewed)):
            with div("bar soft"):
                for name, colour in COLOURS.items():
                    with ui.element("span"):
                        swatch(colour)
                        ui.label(t(name)).style("display: inline")
                ui.label(t("height: square root of the number of parts"))
            labels = {"review": t("review"), "reject": t("reject")}
            self.chart = ScoreHistogram(edges.tolist(), counts, change.decision, labels, editable, self._moved)
            self.chart.props("data-name=histogram")
            self._fields(editable)
            if change.decision.rules or change.decision.class_thresholds:
                hint(t("Rules and thresholds of single classes stay as they are, and are included."))
        change.rates(effect)
        if editable:
            change.save_bar()
        change.changes(effect)

    def _fields(self, editable: bool) -> None:
        t = self.page.t
        with div("bar"):
            self.review = ui.number(t("review threshold"), value=self.change.decision.review, format="%.5g")
            self.reject = ui.number(t("reject threshold"), value=self.change.decision.reject, format="%.5g")
            for field in (self.review, self.reject):
                field.props("dense outlined debounce=400").style("width: 150px").set_enabled(editable)
                field.on("change", lambda: self._preview(self.review.value, self.reject.value))
            if editable:
                ui.button(t("reset"), on_click=self._reset).props("flat no-caps dense")

    async def _moved(self, review: float | None, reject: float | None) -> None:
        self.review.set_value(review)
        self.reject.set_value(reject)
        await self._preview(review, reject)

    async def _reset(self) -> None:
        await self._moved(self.change.before.review, self.change.before.reject)

    async def _preview(self, review: float | None, reject: float | None) -> None:
        decision = self.change.before.model_copy(update={"review": review, "reject": reject})
        self.chart.show(decision)
        await self.change.preview(decision)
