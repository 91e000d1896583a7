"""Thresholds: their position among the scores of reviewed parts, and the effect of moving them."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.evaluation.intervals import RateEstimate
from blemish.inspection.manifest import Decision
from blemish.station import thresholds
from blemish.station.auth import User
from blemish.station.models import RecipeRow
from blemish.station.pages.activate_dialog import activate, ask_reason
from blemish.station.pages.score_histogram import ScoreHistogram
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import (
    div,
    empty_state,
    hint,
    metric_tile,
    no_recipe,
    pager,
    panel,
    part_name,
    part_tile,
)
from blemish.station.recipes import active_recipe, recipe_title, revise_decision
from blemish.station.thresholds import DecisionEffect, ScoredPart, is_escape

TILES = 24  # parts on a page of those whose verdict would change
COLOURS = {"good": "#16a34a", "defective": "#dc2626", "not reviewed": "#94a3b8"}


async def build(page: PageSession, request: Request) -> None:
    t = page.t
    recipe, parts = await page.read(_load)
    if recipe is None:
        no_recipe(page, "tune")
    elif not parts:
        text = t("The histogram appears when parts have been inspected with this recipe.")
        empty_state("bar_chart", t("No scores yet"), text)
    else:
        await ThresholdPage(page, recipe, parts).build()


def _load(session: Session) -> tuple[RecipeRow | None, list[ScoredPart]]:
    recipe = active_recipe(session)
    return recipe, [] if recipe is None else thresholds.load_scored_parts(session, recipe)


class ThresholdPage:
    """Both thresholds can be moved, and then saved as a new version of the recipe."""

    def __init__(self, page: PageSession, recipe: RecipeRow, parts: list[ScoredPart]) -> None:
        self.page = page
        self.recipe = recipe
        self.parts = parts
        self.before = Decision.model_validate(recipe.decision)
        self.decision = self.before
        self.comment = ""
        self.first = 0  # of the tiles that are shown
        self.known: DecisionEffect  # of the recorded decision
        self.effect: DecisionEffect  # of the shown one

    async def build(self) -> None:
        t = self.page.t
        reviewed = sum(part.true_label is not None for part in self.parts)
        self.known = self.effect = effect = await self._compute()
        edges, counts = thresholds.score_histogram(self.parts, self.decision)
        editable = self.page.may("engineer")
        title = "Scores of the newest {parts:,} parts, {reviewed:,} of them reviewed"
        with panel(t(title, parts=len(self.parts), reviewed=reviewed)):
            with div("bar soft"):
                for name, colour in COLOURS.items():
                    ui.html(f'<span style="color:{colour}">■</span> {t(name)}', sanitize=False)
                ui.label(t("height: square root of the number of parts"))
            labels = {"review": t("review"), "reject": t("reject")}
            self.chart = ScoreHistogram(edges.tolist(), counts, self.decision, labels, editable, self._moved)
            self.chart.props("data-name=histogram")
            self._fields(editable)
            if self.decision.rules or self.decision.class_thresholds:
                hint(t("Rules and thresholds of single classes stay as they are, and are included."))
        self.rates(effect)
        if editable:
            self._save_bar()
        self.changes(effect)

    def _fields(self, editable: bool) -> None:
        t = self.page.t
        with div("bar"):
            self.review = ui.number(t("review threshold"), value=self.decision.review, format="%.5g")
            self.reject = ui.number(t("reject threshold"), value=self.decision.reject, format="%.5g")
            for field in (self.review, self.reject):
                field.props("dense outlined debounce=400").style("width: 150px").set_enabled(editable)
                field.on("change", lambda: self._preview(self.review.value, self.reject.value))
            if editable:
                ui.button(t("reset"), on_click=self._reset).props("flat no-caps dense")

    @ui.refreshable_method
    def rates(self, effect: DecisionEffect) -> None:
        t, proof = self.page.t, effect.proof
        with div("figures wide"):
            _rate_tile(t("escape rate"), effect.escape, t("no reviewed defective part"), "reject")
            _rate_tile(t("overkill rate"), effect.overkill, t("no reviewed good part"), "review")
            _rate_tile(t("review rate"), effect.review)
            proven = f"{proof.proven:.2%}" if proof.defective else "–"
            note = t("{n} defective parts", n=proof.defective)
            metric_tile(t("escape rate proven below") + " (95 %)", proven, note)
            for need in proof.needed[1:]:
                name = t("parts still needed for {rate:.1%}", rate=need["rate"])
                metric_tile(name, f"{need['more']:,.0f}", t("defective parts, without another escape"))

    @ui.refreshable_method
    def changes(self, effect: DecisionEffect) -> None:
        t = self.page.t
        with panel(t("Verdicts that would change: {number}", number=len(effect.changed))) as box:
            box.props("data-name=changes")
            if not effect.changed:
                hint(t("No part changes its verdict."))
                return
            shown = effect.changed[self.first : self.first + TILES]
            with div("tiles"):
                for index in shown:
                    self._change(self.parts[index], effect.verdicts[index])
            if len(effect.changed) > TILES:
                last = self.first + len(shown)
                back, forth = partial(self._turn, -TILES), partial(self._turn, TILES)
                pager(self.first + 1, last, len(effect.changed), back, forth)

    def _turn(self, step: int) -> None:
        self.first += step
        self.changes.refresh(self.effect)

    def _change(self, part: ScoredPart, verdict: str) -> None:
        escape = is_escape(part.true_label, verdict)
        verdicts = [part.verdict, verdict]
        with part_tile(self.page, part.id, verdicts, part.image_stored, "preview", new_tab=True, escape=escape):
            ui.label(part_name(self.page, part.part_id, part.id))
            hint(f"{part.score:.4g} · {self.page.t(part.true_label or 'not reviewed')}")

    def _save_bar(self) -> None:
        t = self.page.t
        with panel(), div("bar"):
            comment = ui.input(t("Comment (for the audit log)")).bind_value(self, "comment")
            comment.props("dense outlined data-name=comment").style("flex: 1 1 220px")
            activate_too = self.page.handler("engineer", self._save_and_activate)
            only_save = self.page.handler("engineer", self._save)
            ui.button(t("Save and activate"), icon="check", on_click=activate_too).props("no-caps data-name=save")
            ui.button(t("Save only"), on_click=only_save).props("no-caps outline")

    async def _moved(self, review: float | None, reject: float | None) -> None:
        self.review.set_value(review)
        self.reject.set_value(reject)
        await self._preview(review, reject)

    async def _reset(self) -> None:
        await self._moved(self.before.review, self.before.reject)

    async def _preview(self, review: float | None, reject: float | None) -> None:
        self.decision = self.before.model_copy(update={"review": review, "reject": reject})
        self.chart.show(self.decision)
        self.effect, self.first = await self._compute(), 0
        self.rates.refresh(self.effect)
        self.changes.refresh(self.effect)

    async def _compute(self) -> DecisionEffect:
        return await asyncio.to_thread(thresholds.preview_decision, self.parts, self.decision)

    async def _save(self, user: User) -> None:
        await self._with_reason(user, self._save_version)

    async def _save_and_activate(self, user: User) -> None:
        await self._with_reason(user, self._activate_version)

    async def _with_reason(self, user: User, run: Callable[[User, str], Awaitable[object]]) -> None:
        """Save at once only with a reason, and where nothing known becomes worse; else ask first."""
        t = self.page.t
        if self.comment.strip() and not self.effect.is_worse_than(self.known):
            await run(user, self.comment.strip()[:2000])
            return

        async def confirmed(user: User, reason: str) -> None:
            await run(user, reason)

        effects = (self.known, self.effect)
        ask_reason(self.page, t("Why are the thresholds changed?"), t("Save"), confirmed, effects, self.comment)

    async def _save_version(self, user: User, reason: str) -> RecipeRow:
        row = await self.page.write(_revise, self.recipe.id, self.decision, user.name, reason)
        self.page.notify(self.page.t("Saved as {title}.", title=recipe_title(row)))
        return row

    async def _activate_version(self, user: User, reason: str) -> None:
        row = await self._save_version(user, reason)
        await activate(self.page, user, row.id, reason, lambda: ui.navigate.reload())


def _rate_tile(name: str, rate: RateEstimate | None, missing: str = "", tone: str = "") -> None:
    if rate is None:
        metric_tile(name, "–", missing)
    else:
        metric_tile(name, f"{rate.value:.1%}", f"95 %: {rate.low:.1%} – {rate.high:.1%}, n = {rate.n:,}", tone)


def _revise(session: Session, recipe_id: int, decision: Decision, user: str, comment: str) -> RecipeRow:
    return revise_decision(session, session.get_one(RecipeRow, recipe_id), decision, user, comment)
