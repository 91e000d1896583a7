"""A change of the active recipe's decision: its effect on known parts, and saving it as a new version."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui
from sqlalchemy.orm import Session

from blemish.errors import DataError
from blemish.evaluation.intervals import RateEstimate
from blemish.imaging.roi import Roi
from blemish.inspection.manifest import Decision
from blemish.station import thresholds
from blemish.station.auth import User
from blemish.station.models import RecipeRow
from blemish.station.pages.activate_dialog import activate, ask_reason, untold_hint
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, hint, metric_tile, pager, panel, part_name, part_tile
from blemish.station.recipe_changes import check_active
from blemish.station.recipes import active_recipe, recipe_title, revise
from blemish.station.thresholds import DecisionEffect, ScoredPart, is_escape

TILES = 24  # parts on a page of those whose verdict would change


class DecisionChange:
    """The decision and the region of interest of a recipe as they are edited on a page; `why` asks for the reason."""

    def __init__(self, page: PageSession, recipe: RecipeRow, parts: list[ScoredPart], why: str) -> None:
        self.page = page
        self.recipe = recipe
        self.parts = parts
        self.why = why
        self.before = Decision.model_validate(recipe.decision)
        self.decision = self.before
        self.roi = None if recipe.roi is None else Roi.model_validate(recipe.roi)  # None: the bundle's
        self.comment = ""
        self.problem = ""  # why what is shown cannot be saved
        self.first = 0  # of the tiles that are shown
        self.known: DecisionEffect  # of the recorded decision
        self.effect: DecisionEffect  # of the shown one

    async def start(self) -> DecisionEffect:
        self.known = self.effect = await self._compute()
        return self.effect

    async def preview(self, decision: Decision) -> None:
        """Show the effect of another decision."""
        self.decision = decision
        self.effect, self.first = await self._compute(), 0
        self.rates.refresh(self.effect)
        self.changes.refresh(self.effect)

    async def _compute(self) -> DecisionEffect:
        return await asyncio.to_thread(thresholds.preview_decision, self.parts, self.decision)

    @ui.refreshable_method
    def rates(self, effect: DecisionEffect) -> None:
        t, proof = self.page.t, effect.proof
        with div("figures wide"):
            _rate_tile(t("escape rate"), effect.escape, t("no reviewed defective part"), "reject")
            _rate_tile(t("overkill rate"), effect.overkill, t("no reviewed good part"), "review")
            _rate_tile(t("review rate"), effect.review)
            proven = f"{proof.proven:.2%}" if proof.defective else "–"
            note = t("defective parts: {n}", n=proof.defective)
            metric_tile(t("escape rate proven below") + " (95 %)", proven, note)
            for need in proof.needed[1:]:
                name = t("parts still needed for {rate:.1%}", rate=need["rate"])
                metric_tile(name, f"{need['more']:,.0f}", t("defective parts, without another escape"))
        text = (
            "Recipe {recipe} with this bundle, all stations: the newest {number:,} parts; one that came again counts "
            "once."
        )
        hint(t(text, recipe=self.recipe.name, number=len(effect.verdicts))).props("data-name=population")
        untold_hint(self.page, effect)

    @ui.refreshable_method
    def changes(self, effect: DecisionEffect) -> None:
        t = self.page.t
        with panel(t("Verdicts that would change: {number}", number=len(effect.changed))) as box:
            box.props("data-name=changes")
            if not effect.changed:
                hint("" if effect.untold else t("No part changes its verdict."))
                return
            shown = effect.changed[self.first : self.first + TILES]
            with div("tiles"):
                for index in shown:
                    self._change(self.parts[index], effect.verdicts[index])
            if len(effect.changed) > TILES:
                last = self.first + len(shown)
                back, forth = partial(self._turn, -TILES), partial(self._turn, TILES)
                pager(self.page, self.first + 1, last, len(effect.changed), back, forth)

    def _turn(self, step: int) -> None:
        self.first += step
        self.changes.refresh(self.effect)

    def _change(self, part: ScoredPart, verdict: str | None) -> None:
        escape = is_escape(part.true_label, verdict)
        verdicts = [part.verdict, verdict or ""]
        with part_tile(self.page, part.id, verdicts, part.image_stored, "preview", new_tab=True, escape=escape):
            ui.label(part_name(self.page, part.part_id, part.id))
            hint(f"{part.score:.4g} · {self.page.t(part.true_label or 'not reviewed')}")

    def save_bar(self) -> None:
        t = self.page.t
        with panel(), div("bar"):
            comment = ui.input(t("Comment (for the audit log)")).bind_value(self, "comment")
            comment.props("dense outlined data-name=comment").style("flex: 1 1 220px")
            activate_too = self.page.handler("engineer", self._save_and_activate)
            only_save = self.page.handler("engineer", self._save)
            ui.button(t("Save and activate"), icon="check", on_click=activate_too).props("no-caps data-name=save")
            ui.button(t("Save only"), on_click=only_save).props("no-caps outline")

    async def _save(self, user: User) -> None:
        await self._with_reason(user, self._save_version)

    async def _save_and_activate(self, user: User) -> None:
        await self._with_reason(user, self._activate_version)

    async def _with_reason(self, user: User, run: Callable[[User, str], Awaitable[object]]) -> None:
        """Save at once only with a reason, and where nothing known becomes worse; else ask first."""
        t = self.page.t
        if self.problem:
            raise DataError(self.problem)
        if self.comment.strip() and not self.effect.is_worse_than(self.known):
            await run(user, self.comment.strip()[:2000])
            return

        async def confirmed(user: User, reason: str) -> None:
            await run(user, reason)

        effects = (self.known, self.effect)
        ask_reason(self.page, t(self.why), t("Save"), confirmed, effects, self.comment)

    async def _save_version(self, user: User, reason: str) -> RecipeRow:
        row = await self.page.write(_revise, recipe_title(self.recipe), self.decision, self.roi, user.name, reason)
        self.page.notify(self.page.t("Saved as {title}.", title=recipe_title(row)))
        return row

    async def _activate_version(self, user: User, reason: str) -> None:
        row = await self._save_version(user, reason)
        reload = ui.navigate.reload
        await activate(self.page, user, row.id, reason, reload, instead_of=recipe_title(self.recipe))


def _rate_tile(name: str, rate: RateEstimate | None, missing: str = "", tone: str = "") -> None:
    if rate is None:
        metric_tile(name, "–", missing)
    else:
        metric_tile(name, f"{rate.value:.1%}", f"95 %: {rate.low:.1%} – {rate.high:.1%}, n = {rate.n:,}", tone)


def load_active(session: Session) -> tuple[RecipeRow | None, list[ScoredPart]]:
    """The active recipe, and the newest parts that its network has scored."""
    recipe = active_recipe(session)
    return recipe, [] if recipe is None else thresholds.load_scored_parts(session, recipe)


def _revise(session: Session, based_on: str, decision: Decision, roi: Roi | None, user: str, comment: str) -> RecipeRow:
    return revise(session, check_active(session, based_on), decision, roi, user, comment)
