"""The alarms of Live, each with a button by which an operator acknowledges it."""

from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui
from sqlalchemy.orm import Session

from blemish.station import alarms
from blemish.station.auth import User
from blemish.station.models import AlarmRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, hint, local_time

REFRESH_S = 1.0


class AlarmList:
    """Alarms that hold or that nobody has acknowledged yet, the newest first.

    An alarm keeps its elements while it is shown, whatever happens to it and to others: a click on a button that has
    just been replaced by its like is lost.
    """

    def __init__(self, page: PageSession) -> None:
        self.page = page
        self._shown: dict[int, _AlarmBox] = {}
        self._whole = div("stack alarms")
        self.update()
        ui.timer(REFRESH_S, self.update)

    def update(self) -> None:
        rows = self.page.station.status.alarms
        for gone in self._shown.keys() - {row.id for row in rows}:
            self._shown.pop(gone).box.delete()
        for row in reversed(rows):
            if row.id not in self._shown:
                with self._whole:
                    self._shown[row.id] = _AlarmBox(self.page, row, partial(self._acknowledge, row.id))
                self._shown[row.id].box.move(target_index=0)
            self._shown[row.id].update(row)

    async def _acknowledge(self, alarm_id: int, user: User) -> None:
        station = self.page.station
        await self.page.write(_acknowledge, alarm_id, user.name)
        station.status.alarms = await self.page.read(alarms.list_open, station.settings.station)
        self.update()


class _AlarmBox:
    """One alarm: what it says, its times, and the button until somebody has acknowledged it."""

    def __init__(self, page: PageSession, row: AlarmRow, acknowledge: Callable[[User], Awaitable[None]]) -> None:
        self.page = page
        with div("alarm").props("data-name=alarm") as self.box:
            ui.icon("warning", size="22px")
            with ui.element("div").style("flex: 1 1 auto"):
                ui.label(alarms.alarm_text(row, page.t))
                self._times = hint("")
            self._button = ui.button(page.t("Acknowledge"), on_click=page.handler("operator", acknowledge))
            self._button.props("no-caps dense outline data-name=acknowledge")

    def update(self, row: AlarmRow) -> None:
        t, seen = self.page.t, row.acknowledged_at
        times = [t("since {time}", time=local_time(row.created_at))]
        if row.ended_at is not None:
            times.append(t("ended {time}", time=local_time(row.ended_at)))
        if seen is not None:
            times.append(t("acknowledged by {name}, {time}", name=row.acknowledged_by, time=local_time(seen)))
        self._times.set_text(" · ".join(times))
        self._button.set_visibility(seen is None)
        self.box.classes(replace="alarm" if seen is None else "alarm seen")


def _acknowledge(session: Session, alarm_id: int, user: str) -> None:
    alarms.acknowledge(session, session.get_one(AlarmRow, alarm_id), user)
