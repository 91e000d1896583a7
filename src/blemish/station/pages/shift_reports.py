"""Links to the reports of the last shifts."""

from nicegui import ui

from blemish.station.models import now
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, panel
from blemish.station.production_counts import last_shifts

NUMBER = 7


def list_reports(page: PageSession) -> None:
    t = page.t
    with panel(t("Shift reports (PDF)")), div("bar"):
        for ago, (since, until) in enumerate(last_shifts(now(), page.station.settings.shifts, NUMBER)):
            name = f"{since.astimezone():%Y-%m-%d %H:%M} – {until.astimezone():%H:%M}"
            link = ui.link(name, f"/v1/shift-report.pdf?ago={ago}&language={page.language}", new_tab=True)
            link.props("data-name=shift-report")
