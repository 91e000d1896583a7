"""The gauge studies of a station, and the form of a new one."""

from functools import partial

from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.errors import DataError
from blemish.station import gauge_studies
from blemish.station.auth import LOCAL_USER, User
from blemish.station.gauge_studies import KINDS, VERDICTS, StudyPart
from blemish.station.pages.qualification import list_qualifications
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, hint, local_time, panel, two_columns
from blemish.station.schemas import CONTROLS

MAX_NAME = 100


async def build(page: PageSession, request: Request) -> None:
    with two_columns() as (left, right):
        with left:
            await _list(page)
        with right:
            StudyForm(page).build()
            await list_qualifications(page)


async def _list(page: PageSession) -> None:
    t = page.t
    rows = await page.read(gauge_studies.list_studies)
    with panel(t("Gauge studies")):
        if not rows:
            hint(t("There is no study yet."))
        for row, trials, done in rows:
            with div("bar").props("data-name=study"):
                ui.link(row.name, f"/studies/{row.id}").style("font-weight: 600")
                ui.label(t(KINDS[row.kind]))
                hint(t("{done} of {trials} trials", done=done, trials=trials))
                hint(f"{local_time(row.created_at)} · {row.created_by}")


class StudyForm:
    """A new study: what is judged or measured, which parts, by whom, and how often."""

    def __init__(self, page: PageSession) -> None:
        self.page = page

    def build(self) -> None:
        t, user = self.page.t, self.page.user()
        with panel(t("New gauge study")):
            self.name = self._input(ui.input(t("name")), "study-name")
            self.kind = ui.select({name: t(title) for name, title in KINDS.items()}, value="people", label=t("Result"))
            self._input(self.kind, "study-kind")
            self.recorded = ui.checkbox(t("by pictures of reviewed parts"), value=True).props(
                "data-name=study-recorded"
            )
            self.recorded.bind_visibility_from(self.kind, "value", value="people")
            self.number = self._input(ui.number(t("number of parts"), value=50, min=2, precision=0), "study-number")
            self.parts = self._input(ui.textarea(t("Parts, one a line: NAME or NAME = REFERENCE")), "study-parts")
            self.number.bind_visibility_from(self, "by_pictures")
            self.parts.bind_visibility_from(self, "at_hand")
            own = "" if user is None or user == LOCAL_USER else user.name
            self.appraisers = self._input(ui.input(t("Appraisers, separated by commas"), value=own), "study-appraisers")
            self.repeats = self._input(ui.number(t("repeats"), value=3, min=1, max=50, precision=0), "study-repeats")
            references = hint(t("References are pass or reject, or known values."))
            references.bind_visibility_from(self, "at_hand")
            hint(t("Appraisers are names by which people sign in."))
            make = ui.button(t("Make the study"), icon="add", on_click=self.page.handler("engineer", self._make))
            make.props("no-caps data-name=make-study").set_enabled(self.page.may("engineer"))

    @property
    def by_pictures(self) -> bool:
        return self.kind.value == "people" and bool(self.recorded.value)

    @property
    def at_hand(self) -> bool:
        return not self.by_pictures

    def _input(self, element, name: str):  # type: ignore[no-untyped-def]
        return element.props(f"dense outlined options-dense data-name={name}")

    async def _make(self, user: User) -> None:
        name, appraisers = (self.name.value or "").strip()[:MAX_NAME], _split(self.appraisers.value or "", ",")
        number, repeats = int(self.number.value or 0), int(self.repeats.value or 0)
        parts = (
            None
            if self.by_pictures
            else _read_parts(self.parts.value or "", {self.page.t(name): name for name in VERDICTS})
        )
        if CONTROLS.search(name + "".join(appraisers)):
            raise DataError("give text without control characters")
        make = partial(_create, name, str(self.kind.value), parts, number, appraisers, repeats, user.name)
        study_id = await self.page.write(make)
        ui.navigate.to(f"/studies/{study_id}")


def _split(text: str, separator: str) -> list[str]:
    return [part.strip()[:MAX_NAME] for part in text.split(separator) if part.strip()]


def _read_parts(text: str, verdicts: dict[str, str]) -> list[StudyPart]:
    """Parts with their references, if they have any; `verdicts` are these in the user's language."""
    parts = []
    for line in _split(text, "\n"):
        name, sign, reference = (piece.strip() for piece in line.partition("="))
        if CONTROLS.search(line):
            raise DataError("give text without control characters")
        parts.append(StudyPart(name, verdicts.get(reference, reference.lower()) if sign else None))
    return parts


def _create(
    name: str,
    kind: str,
    parts: list[StudyPart] | None,
    number: int,
    appraisers: list[str],
    repeats: int,
    user: str,
    session: Session,
) -> int:
    """Make a study of given parts, or of so many reviewed ones; its id."""
    parts = gauge_studies.choose_recorded(session, number) if parts is None else parts
    return gauge_studies.create_study(session, name, kind, parts, appraisers, repeats, user).id
