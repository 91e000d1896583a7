"""Thresholds: where they lie among the scores of known parts, and what moving them would do."""

import asyncio

from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.evaluation.intervals import Estimate
from blemish.inspection.manifest import Decision
from blemish.station import recipes, thresholds
from blemish.station.auth import User
from blemish.station.models import RecipeRow
from blemish.station.pages.activate_dialog import activate
from blemish.station.pages.frame import empty, figure, no_picture, panel, picture, verdict_badge
from blemish.station.pages.score_histogram import ScoreHistogram
from blemish.station.pages.session import Visitor
from blemish.station.thresholds import Case, Outcome

SHOWN = 24  # parts whose verdict would change


async def build(visitor: Visitor, request: Request) -> None:
    t = visitor.t
    recipe, found = await visitor.read(_load)
    if recipe is None:
        empty("tune", t("No recipe is in use"), t("Start the station with --bundle, or promote a training."))
        return
    if not found:
        empty(
            "bar_chart", t("No scores yet"), t("The histogram appears when parts have been inspected with this recipe.")
        )
        return
    await Thresholds(visitor, recipe, found).show()


def _load(session: Session) -> tuple[RecipeRow | None, list[Case]]:
    recipe = recipes.active(session)
    return recipe, [] if recipe is None else thresholds.cases(session, recipe)


class Thresholds:
    """The page of one visitor, who may move both thresholds and then save them."""

    def __init__(self, visitor: Visitor, recipe: RecipeRow, found: list[Case]) -> None:
        self.visitor = visitor
        self.recipe = recipe
        self.cases = found
        self.before = Decision.model_validate(recipe.decision)
        self.decision = self.before
        self.why = ""

    async def show(self) -> None:
        t = self.visitor.t
        known = sum(case.truth is not None for case in self.cases)
        outcome = await asyncio.to_thread(thresholds.judge_anew, self.cases, self.decision)
        edges, counts = thresholds.histogram(self.cases, self.decision)
        editable = self.visitor.may("engineer")
        with panel(
            t("Scores of the newest {parts:,} parts, {known:,} of known truth", parts=len(self.cases), known=known)
        ):
            with ui.element("div").classes("bar soft"):
                for name, tone in (("good", "#16a34a"), ("defective", "#dc2626"), ("not reviewed", "#94a3b8")):
                    ui.html(f'<span style="color:{tone}">■</span> {t(name)}', sanitize=False)
                ui.label(t("height: root of the number of parts"))
            labels = {"review": t("review"), "reject": t("reject")}
            self.chart = ScoreHistogram(edges.tolist(), counts, self.decision, labels, editable, self._moved)
            self.chart.props("data-name=histogram")
            self._fields(editable)
            if self.decision.rules or self.decision.class_thresholds:
                ui.label(t("Rules and thresholds of single classes stay as they are, and are counted in.")).classes(
                    "soft"
                )
        self.figures(outcome)
        if editable:
            self._save_bar()
        self.changes(outcome)

    def _fields(self, editable: bool) -> None:
        t = self.visitor.t
        with ui.element("div").classes("bar"):
            self.review = ui.number(t("review from"), value=self.decision.review, format="%.5g")
            self.reject = ui.number(t("reject from"), value=self.decision.reject, format="%.5g")
            for field in (self.review, self.reject):
                field.props("dense outlined debounce=400").style("width: 150px").set_enabled(editable)
                field.on("change", self._typed)
            if editable:
                ui.button(t("back to those in use"), on_click=self._reset).props("flat no-caps dense")

    @ui.refreshable_method
    def figures(self, outcome: Outcome) -> None:
        t = self.visitor.t
        with ui.element("div").classes("figures wide"):
            _share(t("escape"), outcome.escape, t("no defective part is known"), "reject")
            _share(t("overkill"), outcome.overkill, t("no good part is known"), "review")
            _share(t("to review"), outcome.review, "", "")
            proof = outcome.proof
            proven = t("escape rate proven below") + " (95 %)"
            figure(
                proven, f"{proof.proven:.2%}" if proof.defective else "–", t("{n} defective parts", n=proof.defective)
            )
            for need in proof.needed[1:]:
                name = t("parts still needed for {rate:.1%}", rate=need["rate"])
                figure(name, f"{need['more']:,.0f}", t("defective ones, without another escape"))

    @ui.refreshable_method
    def changes(self, outcome: Outcome) -> None:
        t = self.visitor.t
        with panel(t("Verdicts that would change: {number}", number=len(outcome.changed))) as box:
            box.props("data-name=changes")
            if not outcome.changed:
                ui.label(t("None of the parts above.")).classes("soft")
            with ui.element("div").classes("tiles"):
                for index in outcome.changed[-SHOWN:][::-1]:
                    self._change(self.cases[index], outcome.verdicts[index])

    def _change(self, case: Case, verdict: str) -> None:
        with ui.link(target=f"/card/{case.id}", new_tab=True).classes("thumb"):
            if case.image_kept:
                picture(self.visitor, case.id, "picture", 264)
            else:
                no_picture(self.visitor)
            with ui.element("div"):
                verdict_badge(self.visitor, case.verdict)
                ui.label(" → ").style("display: inline")
                verdict_badge(self.visitor, verdict)
            ui.label(case.part_id or self.visitor.t("part {id}", id=case.id))
            truth = "not reviewed" if case.truth is None else case.truth
            ui.label(f"{case.score:.4g} · {self.visitor.t(truth)}").classes("soft")

    def _save_bar(self) -> None:
        t = self.visitor.t
        with panel(), ui.element("div").classes("bar"):
            ui.input(t("Why (goes into the audit log)")).props("dense outlined").bind_value(self, "why").style(
                "flex: 1 1 220px"
            ).props("data-name=why")
            use = self.visitor.does("engineer", self._save_and_use)
            keep = self.visitor.does("engineer", self._save)
            ui.button(t("Save and use"), icon="check", on_click=use).props("no-caps data-name=save")
            ui.button(t("Save only"), on_click=keep).props("no-caps outline")

    async def _moved(self, review: float | None, reject: float | None) -> None:
        self.review.set_value(review)
        self.reject.set_value(reject)
        await self._judge(review, reject)

    async def _typed(self) -> None:
        await self._judge(self.review.value, self.reject.value)

    async def _reset(self) -> None:
        await self._moved(self.before.review, self.before.reject)

    async def _judge(self, review: float | None, reject: float | None) -> None:
        self.decision = self.before.model_copy(update={"review": review, "reject": reject})
        self.chart.show(self.decision)
        outcome = await asyncio.to_thread(thresholds.judge_anew, self.cases, self.decision)
        if outcome is not None:
            self.figures.refresh(outcome)
            self.changes.refresh(outcome)

    async def _save(self, user: User) -> None:
        await self._new_version(user)

    async def _new_version(self, user: User) -> RecipeRow:
        made = await self.visitor.write(_new_version, self.recipe.id, self.decision, user.name, self.why[:2000])
        self.visitor.tell(self.visitor.t("Saved as {name} version {version}.", name=made.name, version=made.version))
        return made

    async def _save_and_use(self, user: User) -> None:
        made = await self._new_version(user)
        await activate(self.visitor, user, made.id, self.why, lambda: ui.navigate.reload())


def _share(name: str, found: Estimate | None, missing: str, tone: str) -> None:
    if found is None:
        figure(name, "–", missing)
    else:
        figure(name, f"{found.value:.1%}", f"95 %: {found.low:.1%} – {found.high:.1%}, n = {found.n:,}", tone)


def _new_version(session: Session, recipe_id: int, decision: Decision, who: str, why: str) -> RecipeRow:
    return recipes.change_decision(session, session.get_one(RecipeRow, recipe_id), decision, who, why)
