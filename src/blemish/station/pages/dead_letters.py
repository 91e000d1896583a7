"""Results that a sink refused: they keep no other from being delivered, and can be sent again."""

from fastapi import Request
from nicegui import ui
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.station import sinks
from blemish.station.auth import User
from blemish.station.models import InspectionRow, OutboxRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, empty_state, hint, local_time, panel, part_name
from blemish.station.redaction import redact
from blemish.station.sink_keys import sink_name

MAX_LISTED = 100


async def build(page: PageSession, request: Request) -> None:
    t = page.t

    async def send_again(user: User) -> None:
        number = await page.write(sinks.retry_dead_letters, user.name)
        page.notify(t("Results that are sent again: {number}", number=number))
        await content.refresh()

    @ui.refreshable
    async def content() -> None:
        rows, part_ids, total = await page.read(_load)
        if not rows:
            empty_state("mark_email_read", t("No sink has refused a result"))
            return
        with panel(t("Refused results: {number}", number=total)):
            hint(t("The sinks got the results that followed. Mend the cause first, then send these again."))
            with div("bar"):
                again = ui.button(t("Send again"), icon="send", on_click=page.handler("engineer", send_again))
                again.props("no-caps data-name=send-again").set_enabled(page.may("engineer"))
            for row in rows:
                _letter(page, row, part_ids[row.inspection_id])

    await content()


def _letter(page: PageSession, row: OutboxRow, part_id: str | None) -> None:
    t = page.t
    with div("letter").props("data-name=letter"):
        with div("bar"):
            ui.link(part_name(page, part_id, row.inspection_id), f"/card/{row.inspection_id}").style("font-weight: 600")
            if row.dead_at is not None:
                hint(local_time(row.dead_at))
            hint(t("attempts: {number}", number=row.attempts))
        ui.label(sink_name(row.sink)).classes("mono")
        hint(redact(page.error(row.error or "")))


def _load(session: Session) -> tuple[list[OutboxRow], dict[int, str | None], int]:
    """The newest refused results, the ids that their parts were given, and the number of all."""
    rows, part = sinks.list_dead_letters(session, MAX_LISTED), InspectionRow
    found = session.execute(select(part.id, part.part_id).where(part.id.in_({row.inspection_id for row in rows})))
    return rows, {key: part_id for key, part_id in found}, sinks.count_all_dead_letters(session)
