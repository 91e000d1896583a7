"""One gauge study: the part that the appraiser is asked for, progress, and the analysis when all trials are done."""

from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.errors import BlemishError, DataError
from blemish.qualify.analysis import analyse_study
from blemish.qualify.evidence_tables import gauge_tables
from blemish.station import gauge_studies
from blemish.station.auth import LOCAL_USER, User
from blemish.station.gauge_studies import KINDS, VERDICTS
from blemish.station.models import GaugeStudyRow, InspectionRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import alarm, div, empty_state, hint, inspection_image, panel, table, two_columns
from blemish.station.schemas import MAX_ID

POLL_S = 0.5
PICTURE_PX = 900


async def build(page: PageSession, request: Request) -> None:
    text = request.path_params.get("study_id", "")
    wanted = int(text) if text.isascii() and text.isdecimal() and int(text[:11]) <= MAX_ID else 0
    study = await page.read(_load, wanted)
    if study is None:
        empty_state("search_off", page.t("No such gauge study"))
        return
    await StudyPage(page, study).build()


class StudyPage:
    def __init__(self, page: PageSession, study: GaugeStudyRow) -> None:
        self.page = page
        self.study = study
        self.appraiser: str | None = self._own_name()
        self.trial: Any = None
        self.asked = 0  # newest inspection when the part was asked for: its result is a later one
        self.offered: InspectionRow | None = None

    def _own_name(self) -> str | None:
        """People answer for themselves; without tokens nobody is known, and one says who one is."""
        user = self.page.user()
        if user is None or user == LOCAL_USER:
            return None
        return user.name if user.name in self.study.appraisers else ""

    async def build(self) -> None:
        t, study = self.page.t, self.study
        with panel():
            ui.label(study.name).classes("panel-title")
            facts = {"parts": len(study.parts), "people": len(study.appraisers), "repeats": study.repeats}
            hint(t(KINDS[study.kind]))
            hint(t("Parts: {parts}, appraisers: {people}, repeats: {repeats}", **facts))
        with two_columns() as (left, right):
            with left:
                await self._ask()
                await self.trial_form()
            with right:
                await self.results()
        if study.kind != "people":
            ui.timer(POLL_S, self.page.handler("operator", lambda user: self._follow()), immediate=False)
        ui.keyboard(on_key=self._on_key)

    async def _choose(self, appraiser: str | None, user: User) -> None:
        self.appraiser = appraiser
        await self._ask()
        await self.trial_form.refresh()

    async def _ask(self) -> None:
        self.trial, self.offered = None, None
        if self.appraiser:
            self.trial, self.left = await self.page.read(gauge_studies.next_trial, self.study.id, self.appraiser)
            self.asked = await self.page.read(gauge_studies.newest_id, self.page.station.settings.station)

    @ui.refreshable_method
    async def trial_form(self) -> None:
        t = self.page.t
        if self.appraiser is None:
            self._who()
        elif not self.appraiser:
            empty_state("person", t("You are no appraiser of this study."))
        elif self.trial is None:
            empty_state("task_alt", t("All trials of {name} are done", name=self.appraiser))
            self._another()
        else:
            with panel() as box:
                box.props("data-name=trial")
                hint(t("Trials left for {name}: {number}", number=self.left, name=self.appraiser))
                picture = self._picture()
                if picture is None:
                    ui.label(t("Part {name}", name=self.trial.part)).classes("figure-value").props("data-name=asked")
                else:
                    inspection_image(self.page, picture, kind="preview", side=PICTURE_PX).classes("wide")
                if self.study.kind == "people":
                    self._answer_buttons()
                else:
                    self._station_answer()
                self._another()

    def _who(self) -> None:
        with panel(self.page.t("Choose who you are.")), div("bar"):
            for name in self.study.appraisers:
                choose = ui.button(name, on_click=self.page.handler("operator", partial(self._choose, name)))
                choose.props("no-caps outline data-name=appraiser")

    def _another(self) -> None:
        """Without tokens the next person says who that is."""
        if self._own_name() is None:
            other = self.page.handler("operator", partial(self._choose, None))
            ui.button(self.page.t("Another appraiser"), on_click=other).props("no-caps flat data-name=another")

    def _picture(self) -> int | None:
        names = {part["name"]: part["inspection_id"] for part in self.study.parts}
        found: int | None = names[self.trial.part]
        return found

    def _answer_buttons(self) -> None:
        with div("bar"):
            for verdict, colour, key in zip(VERDICTS, ("positive", "negative"), ("P", "R"), strict=True):
                button = ui.button(f"{self.page.t(verdict)} ({key})", on_click=self._answering(verdict))
                button.props(f"no-caps color={colour} data-name=answer-{verdict}")

    def _answering(self, verdict: str) -> Any:
        return self.page.handler("operator", partial(self._answer, verdict, None))

    def _station_answer(self) -> None:
        t = self.page.t
        if self.offered is None:
            hint(t("Put this part in; the first part that the station inspects from now on is taken.")).props(
                "data-name=waiting"
            )
            return
        if self.offered.part_id not in (None, self.trial.part):
            alarm(
                t("This is part {other}, asked for is part {name}.", other=self.offered.part_id, name=self.trial.part)
            )
        inspection_image(self.page, self.offered.id, self.offered.image_path is not None, "preview")
        with div("bar"):
            take = ui.button(t("Take its result"), icon="check", on_click=self.page.handler("operator", self._take))
            take.props("no-caps data-name=take")
            again = ui.button(t("Not this part: inspect again"), on_click=self.page.handler("operator", self._again))
            again.props("no-caps flat data-name=again")

    async def _take(self, user: User) -> None:
        if self.offered is not None:
            await self._answer(gauge_studies.station_result(self.study.kind, self.offered), self.offered.id, user)

    async def _again(self, user: User) -> None:
        self.asked, self.offered = 0 if self.offered is None else self.offered.id, None
        await self.trial_form.refresh()

    async def _follow(self) -> None:
        if self.trial is None or self.offered is not None or not ui.context.client.has_socket_connection:
            return
        self.offered = await self.page.read(gauge_studies.first_after, self.page.station.settings.station, self.asked)
        if self.offered is not None:
            await self.trial_form.refresh()

    async def _answer(self, result: str, inspection_id: int | None, user: User) -> None:
        if self.trial is None:
            return
        if self._own_name() not in (None, self.appraiser):
            raise DataError(self.page.t("You are no appraiser of this study."))
        trial, self.trial = self.trial, None  # a second press of the key answers nothing
        try:
            await self.page.write(gauge_studies.answer_trial, trial.id, result, user.name, inspection_id)
        finally:
            await self._ask()
            await self.trial_form.refresh()
        if self.trial is None:
            await self.results.refresh()

    async def _on_key(self, event: Any) -> None:
        verdict = {"p": "pass", "r": "reject"}.get(str(event.key).lower())
        if verdict is not None and event.action.keydown and not event.action.repeat and self.study.kind == "people":
            await self._answering(verdict)()

    @ui.refreshable_method
    async def results(self) -> None:
        t, page = self.page.t, self.page
        trials = await page.read(gauge_studies.read_trials, self.study.id)
        with panel(t("Progress")):
            rows = []
            for name in self.study.appraisers:
                own = [trial for trial in trials if trial.appraiser == name]
                done = sum(trial.result is not None for trial in own)
                rows.append((name, t("{done} of {trials} trials", done=done, trials=len(own))))
            table(rows, numbers=False)
        if any(trial.result is None for trial in trials) or not page.may("engineer"):
            hint(t("Results are shown to engineers when all trials are done."))
            return
        with panel(t("Analysis")):
            ui.link(t("Results as CSV"), f"/v1/studies/{self.study.id}/results.csv").props("download data-name=csv")
            ui.link(t("Analysis as JSON"), f"/v1/studies/{self.study.id}/analysis").props("data-name=json")
            try:
                found = analyse_study(gauge_studies.to_gauge_study(self.study, trials))
            except BlemishError as error:
                alarm(self.page.error(error))
                return
            tables, warnings = gauge_tables({name: asdict(result) for name, result in found.items()}, t)
            for one in tables:
                if one.caption:
                    hint(one.caption)
                table(one.rows, one.header)
            for warning in warnings:
                hint(warning)


def _load(session: Session, study_id: int) -> GaugeStudyRow | None:
    return session.get(GaugeStudyRow, study_id)
